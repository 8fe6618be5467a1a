"""The clients: who is registered, how they prove it, and what their SPIFFE ID is."""
