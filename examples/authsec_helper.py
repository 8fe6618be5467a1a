"""The two lines that an agent needs: a client, and a function for it to call. Copy this file beside your agents."""

from authsec_autogen import fetch_secure_data

__all__ = ["fetch_secure_data"]
