"""The vault: secrets of others for agents, under scoped tokens; every access is on record."""
