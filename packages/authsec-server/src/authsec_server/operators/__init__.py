"""The people and programs that run the authority: named, each with a role and tokens of their own."""
