"""The standard OAuth endpoints: token, token exchange, introspection and revocation."""
