"""Where a credential may go: base URLs, origins and what counts as loopback. Pure.

An origin is scheme, host and port (RFC 6454). Everything that carries a token is held against one.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

__all__ = ["Origin", "check_base_url", "check_origin", "is_loopback", "origin_of", "origin_or_none"]

_DEFAULT_PORTS = {"http": 80, "https": 443}
_PRINTABLE = re.compile(r"[\x21-\x7e]+")
# RFC 1123 section 2.1, and the underscore that container networks use. Of other names the resolver raises UnicodeError.
_HOST_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?")
_NETLOC = re.compile(r"(?P<host>\[(?P<v6>[0-9a-f:.]+)\]|[a-z0-9_.-]+)(:[0-9]*)?")
_NUMERIC = re.compile(r"(.*\.)?(0x[0-9a-f]*|[0-9]+)\.?")


class Origin(NamedTuple):
    """Scheme, host and port, lower-case and with the port filled in."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        usual = self.port == _DEFAULT_PORTS.get(self.scheme)
        return self.with_port.removesuffix(f":{self.port}") if usual else self.with_port

    @property
    def with_port(self) -> str:
        """The origin as text that names its port even where that is the scheme's usual one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def origin_of(url: str) -> Origin:
    """Return the origin of an absolute URL.

    Raises:
        ValueError: The URL is not absolute http or https, or its port is not a number.
    """
    parts = urlsplit(url)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ValueError("not an absolute http(s) URL")
    port = _DEFAULT_PORTS[parts.scheme] if parts.port is None else parts.port
    return Origin(parts.scheme, parts.hostname.lower(), port)


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Return whether `host` is this machine by name or by address, without asking a resolver."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_base_url(url: str, *, allow_http: bool = False) -> str:
    """Return `url` without its trailing slash, once it is known to be fit to send a credential to.

    Raises:
        ValueError: It is not absolute, carries userinfo, a query or a fragment, has characters that URLs do not have,
            or is `http` beyond loopback and `allow_http` is not set.
    """
    if not _PRINTABLE.fullmatch(url) or "\\" in url:
        raise ValueError("it has spaces or characters that a URL does not have")
    origin = origin_or_none(url)
    if origin is None:
        raise ValueError("it is not an absolute URL such as https://authority.example.com")
    parts = urlsplit(url)
    _refuse_extras(url, parts)
    if not _is_host(parts.netloc):
        raise ValueError("its host is neither a name nor an address")
    if origin.scheme == "http" and not (allow_http or is_loopback(origin.host)):
        raise ValueError("it is http, which anyone on the way can read: use https")
    return url.rstrip("/")


@lru_cache(maxsize=256)
def check_origin(url: str) -> Origin:
    """Return the origin that `url` is, and not merely has: of `https://api@evil` a reader makes another one than we do.

    Raises:
        ValueError: It is not absolute http or https, or it has more in it than scheme, host and port.
    """
    origin = origin_of(check_base_url(url, allow_http=True))
    if url.removesuffix("/").lower() not in {str(origin), origin.with_port}:
        raise ValueError(f"it has more in it than scheme, host and port: write {origin}")
    return origin


def origin_or_none(url: str) -> Origin | None:
    """Return the origin of an absolute URL, or None where it is none."""
    try:
        return origin_of(url)
    except ValueError:  # it may quote a password that stands where the port belongs, and must not ride along
        return None


def _refuse_extras(url: str, parts: SplitResult) -> None:
    if "@" in parts.netloc:
        raise ValueError("it has a user name or password in it: take that out")
    if not {"?", "#"}.isdisjoint(url) or any(segment in {".", ".."} for segment in parts.path.split("/")):
        raise ValueError("it has a query, a fragment or dot segments: give scheme, host, port and base path only")


def _is_host(netloc: str) -> bool:
    match = _NETLOC.fullmatch(netloc.lower())
    if match is None:
        return False
    host = match["host"]
    try:
        if match["v6"]:
            return bool(ipaddress.IPv6Address(match["v6"]).packed)
        if _NUMERIC.fullmatch(host):  # 2130706433 and 127.1 are addresses to a resolver, and to nobody who reads them
            return bool(ipaddress.IPv4Address(host).packed)
    except ValueError:
        return False
    return _HOST_NAME.fullmatch(host) is not None
