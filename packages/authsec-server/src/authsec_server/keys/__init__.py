"""The keys that sign: sealed at rest, published before use, retired and revoked in time."""
