"""Measures this SDK beside other clients, in one run: `nox -s bench`."""
