"""How much of the authority one client and one address may have."""
