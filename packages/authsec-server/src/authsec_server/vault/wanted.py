"""The token that an agent asks for: what it may be, and how it is kept while somebody has to consent. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Final

from authsec_core.vault_scopes import VaultScope, parse_vault_scopes
from authsec_core.wire import is_plain
from authsec_server.credentials import masked
from authsec_server.errors import InvalidRequestError
from authsec_server.vault.policy import AccessTier

__all__ = ["LONGEST_DESCRIPTION", "MOST_ADDRESSES", "MOST_USES", "WantedToken", "wanted_token"]

LONGEST_DESCRIPTION: Final = 200  # characters
MOST_ADDRESSES: Final = 32
MOST_USES: Final = 1_000_000
_USUAL_TTL: Final = 3600  # seconds
_SPAN: Final = re.compile(r"([1-9][0-9]{0,8})([smhd])", re.ASCII)
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}  # seconds
_MAPPED: Final = IPv6Network("::ffff:0:0/96")  # IPv4 in the clothes of IPv6 (RFC 4291 section 2.5.5.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedToken:
    """A token that is asked for. Have it from `wanted_token`.

    Attributes:
        ttl: Seconds that it is to live, from when it is issued.
        max_uses: How often it is to be good; None is as often as it likes.
        addresses: The only networks that it is to be good from; None is any.
        description: The agent's own words.
        tier: What is asked for even where no secret needs it now.
    """

    scopes: tuple[VaultScope, ...]
    ttl: int
    max_uses: int | None = None
    addresses: tuple[str, ...] | None = None
    description: str = ""
    tier: AccessTier = "standard"

    def kept(self) -> dict[str, Any]:
        """Return it as JSON values; see `of`."""
        return {
            "scopes": [str(scope) for scope in self.scopes],
            "ttl": self.ttl,
            "max_uses": self.max_uses,
            "addresses": None if self.addresses is None else list(self.addresses),
            "description": self.description,
            "tier": self.tier,
        }

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> WantedToken:
        """Return what `kept` was made of."""
        addresses = kept["addresses"]
        return cls(
            scopes=tuple(VaultScope.parse(scope) for scope in kept["scopes"]),
            ttl=kept["ttl"],
            max_uses=kept["max_uses"],
            addresses=None if addresses is None else tuple(addresses),
            description=kept["description"],
            tier=kept["tier"],
        )


def wanted_token(
    scopes: Collection[str],
    *,
    max_ttl: int,
    ttl: int | str | None = None,
    max_uses: int | None = None,
    ip_allowlist: Collection[str] | None = None,
    description: str = "",
    tier: AccessTier = "standard",
) -> WantedToken:
    """Return the token that is asked for.

    Args:
        max_ttl: The longest life, in seconds.
        ttl: Seconds, or a text such as `45s`, `30m`, `1h` or `7d`; by default an hour.
        ip_allowlist: Addresses and networks.

    Raises:
        InvalidRequestError: It cannot be one; the message quotes nothing.
    """
    try:
        parsed = parse_vault_scopes(scopes)
    except ValueError as exc:
        raise InvalidRequestError(str(exc), field="scopes") from None
    if max_uses is not None and not 1 <= max_uses <= MOST_USES:
        raise InvalidRequestError(f"max_uses is a number from 1 to {MOST_USES}", field="max_uses")
    if len(description) > LONGEST_DESCRIPTION or not is_plain(description) or description != description.strip():
        raise InvalidRequestError(
            f"description must be one line of at most {LONGEST_DESCRIPTION} visible characters without spaces around "
            "them",
            field="description",
        )
    return WantedToken(
        scopes=parsed,
        ttl=min(_USUAL_TTL, max_ttl) if ttl is None else _seconds(ttl, max_ttl),
        max_uses=max_uses,
        addresses=None if ip_allowlist is None else _networks(ip_allowlist),
        description=masked(description),
        tier=tier,
    )


def _seconds(ttl: int | str, most: int) -> int:
    if isinstance(ttl, str):
        span = _SPAN.fullmatch(ttl)
        found = int(span[1]) * _UNITS[span[2]] if span else 0
    else:
        found = ttl
    if not 1 <= found <= most:
        raise InvalidRequestError(
            f"ttl is a number of seconds, or a time such as 45s, 30m, 12h or 1d: 1 second at least, at most {most}",
            field="ttl",
        )
    return found


def _networks(texts: Collection[str]) -> tuple[str, ...]:
    if not 1 <= len(texts) <= MOST_ADDRESSES:
        raise InvalidRequestError(f"name 1 to {MOST_ADDRESSES} addresses or networks", field="ip_allowlist")
    return tuple(dict.fromkeys(str(_network(text)) for text in texts))


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        if "%" in text:  # a zone is of one machine, and no peer's
            raise ValueError
        found = ip_network(text)
    except ValueError:
        raise InvalidRequestError(
            "name addresses, or networks whose last bits are zero, such as 10.0.0.0/8 or 2001:db8::/32",
            field="ip_allowlist",
        ) from None
    if isinstance(found, IPv6Network) and found.subnet_of(_MAPPED):
        # Peers are compared as what they are, and so are networks.
        return IPv4Network((int(found.network_address) & 0xFFFFFFFF, found.prefixlen - 96))
    return found
