"""Which addresses count as one? Pure.

Whoever has an IPv6 connection has 2^64 addresses of it, and could be a stranger again with each request.
"""

from __future__ import annotations

import ipaddress
from typing import Final

__all__ = ["neighbourhood"]

_ONE_CONNECTION: Final = 64  # bits of an IPv6 address that the provider chooses (RFC 6177)


def neighbourhood(address: str) -> str:
    """Return what is counted together with this address: itself, or the /64 that an IPv6 address is in.

    >>> neighbourhood("192.0.2.7"), neighbourhood("::ffff:192.0.2.7"), neighbourhood("2001:db8::7")
    ('192.0.2.7', '192.0.2.7', '2001:db8::/64')
    """
    if ":" not in address:
        return address
    try:
        found = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Network((found, _ONE_CONNECTION), strict=False))
