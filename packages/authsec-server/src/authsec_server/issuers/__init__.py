"""Issuers that others run: which of them vouch for workloads or users, and what their tokens say."""
