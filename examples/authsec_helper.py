"""The function that an agent calls, under the name by which the programs here import it."""

from authsec_autogen import fetch_secure_data

__all__ = ["fetch_secure_data"]
