"""An endpoint that a model chose -> one URL below the operator's API and the scopes for it, or a refusal. Pure.

The text is hostile until proven otherwise (`../`, `//host`, `%2e%2e`, look-alikes of `/`). It is decoded once, checked,
and encoded again, so that what was checked is what is sent. Whether the authority grants the scopes is not asked here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

from authsec_core.errors import EndpointRefusedError, ScopeRefusedError
from authsec_core.scopes import format_scopes, parse_scopes

__all__ = ["EndpointGrant", "EndpointPolicy"]

_LONGEST = 2048  # characters of an endpoint
_DESCRIBED = 560  # characters of a description: OpenAI refuses tools that are described in more than 1024, in all
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_SEGMENT_SAFE = "!$&'()*+,;=:@-._~"  # RFC 3986 section 3.3, pchar
_QUERY_SAFE = _SEGMENT_SAFE + "/?%"
# Characters that a reader, or a server that folds unicode, can take for / \ . : @ ? # %, beyond what NFKC folds.
_LOOK_ALIKES = frozenset(
    "\u2044\u2215\u29f8\u2571\u27cb\u2afd\u2041\u1735\u31d3\U0001d23a\U0001f67c"  # /
    "\u2216\u29f5\u29f9\ufe68\u2572\u27cd\u31d4\U0001d20f\U0001d23b\U0001f67d"  # \
    "\u2024\u2025\u2026\u00b7\u3002\uff61\u0701\u0702\u06d4\ua4f8\ua60e\U00010a50\U0001d16d"  # .
    "\u2236\ua789\u02d0"  # :
)
_STRUCTURAL = frozenset("/\\.:@?#%")
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointGrant:
    """What the policy allows of one request.

    Attributes:
        url: The absolute URL, percent-encoded.
        path: The endpoint as the policy knows it: decoded, relative, without its query.
        scopes: What to ask the authority for, or None where neither the caller nor the operator named any.
    """

    url: str
    path: str
    scopes: frozenset[str] | None


class EndpointPolicy:
    """The operator's word on which endpoints a tool may reach, and with which scopes. Immutable and thread-safe.

    An entry covers itself and what lies below it: `secure-vault` covers `secure-vault/metrics`, not `secure-vault-2`.
    The longest entry decides; one without scopes has those of the next entry above it. With neither `allowed` nor
    `scopes`, every path below `base_url` is allowed and the authority alone limits the scopes.

    Args:
        base_url: The API's address; a base path (`https://api.example.com/v2`) is kept.
        allowed: The only endpoints that may be reached. Without it, those that `scopes` names.
        scopes: For an endpoint, the only scopes that may be asked for it.

    Raises:
        ValueError: An entry is not a relative path, or `scopes` names an endpoint twice, or one that `allowed` does not
            cover.
    """

    __slots__ = ("_base_url", "_rules")

    def __init__(
        self,
        base_url: str,
        *,
        allowed: Iterable[str] | None = None,
        scopes: Mapping[str, str | Iterable[str]] | None = None,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._rules: dict[str, frozenset[str] | None] | None = {}  # until they are good: who reports an error prints us
        self._rules = _rules(allowed, scopes)

    @property
    def base_url(self) -> str:
        """The API's address without a trailing slash."""
        return self._base_url

    def grant(self, endpoint: str, scope: str | Iterable[str] | None = None) -> EndpointGrant:
        """Return where to go and what to ask for. No network, no token.

        Args:
            endpoint: A path relative to the API, with or without a leading slash, perhaps with a query.
            scope: The scopes that the caller named. They narrow what the operator allows and never widen it.

        Raises:
            EndpointRefusedError: The endpoint is not a plain relative path, or the policy does not cover it.
            ScopeRefusedError: None of the named scopes is allowed for this endpoint, or the scope is not valid.
        """
        place = _canonical(endpoint)
        allowed = self._scopes_for(place.path)
        named = _named(scope)
        scopes = named if allowed is None else allowed if named is None else named & allowed
        if allowed is not None and not scopes:
            raise ScopeRefusedError(
                f"That scope is not permitted for this endpoint. Permitted: {format_scopes(allowed)}."
            )
        return EndpointGrant(url=f"{self._base_url}/{place.encoded}{place.query}", path=place.path, scopes=scopes)

    def describe(self) -> str:
        """Return one sentence for a model: the permitted endpoints and their scopes, in at most 600 characters."""
        if self._rules is None:
            return "Endpoints are paths relative to the API, such as 'reports/latest'; name the scope that you need."
        if not self._rules:
            return "No endpoint is permitted."
        entries: list[str] = []
        for path, scopes in self._rules.items():
            entry = f"'{path}'" + (f" with scope '{format_scopes(scopes)}'" if scopes else "")
            if sum(map(len, entries)) + 2 * len(entries) + len(entry) > _DESCRIBED:
                break
            entries.append(entry)
        more = len(self._rules) - len(entries)
        return "Permitted endpoints: " + "; ".join(entries + [f"and {more} more"] * bool(more)) + "."

    def _scopes_for(self, path: str) -> frozenset[str] | None:
        if self._rules is None:
            return None
        entry = _covering(path, self._rules)
        if entry is None:
            raise EndpointRefusedError(f"That endpoint is not permitted. {self.describe()}")
        return self._rules[entry]

    def __repr__(self) -> str:
        return f"EndpointPolicy({self._base_url!r}, {self.describe()!r})"


def _rules(
    allowed: Iterable[str] | None, scopes: Mapping[str, str | Iterable[str]] | None
) -> dict[str, frozenset[str] | None] | None:
    if allowed is None and scopes is None:
        return None
    mapped: dict[str, frozenset[str] | None] = {}
    for endpoint, needed in (scopes or {}).items():
        path = _entry(endpoint)
        if path in mapped:  # the last one would count, which need not be the narrower one
            raise ValueError(f"{path!r} is named more than once, in several spellings: name it once")
        mapped[path] = parse_scopes(needed)
    if allowed is None:
        return dict(sorted(mapped.items()))
    listed = set(map(_entry, allowed))
    for path in mapped:
        if _covering(path, listed) is None:
            raise ValueError(f"scopes are given for {path!r}, which the allowed endpoints do not cover")
    # An entry without scopes of its own has those of the entry above it: naming an endpoint twice must not widen it.
    above = {path: _covering(path, mapped) for path in sorted(listed | mapped.keys())}
    return {path: None if entry is None else mapped[entry] for path, entry in above.items()}


def _covering(path: str, entries: Container[str]) -> str | None:
    """Return the longest entry that is `path` or lies above it."""
    above = (path[:cut] for cut in range(len(path) - 1, 0, -1) if path[cut] == "/")
    return next((entry for entry in (path, *above) if entry in entries), None)


def _entry(endpoint: str) -> str:
    try:
        place = _canonical(endpoint.rstrip("/"))
    except EndpointRefusedError as exc:
        raise ValueError(f"{endpoint!r} is not a relative path such as 'secure-vault/metrics'") from exc
    if place.query:
        raise ValueError(f"{endpoint!r} has a query: list the path alone")
    return place.path


def _named(scope: str | Iterable[str] | None) -> frozenset[str] | None:
    try:
        return parse_scopes(scope)
    except ValueError as exc:
        raise ScopeRefusedError(f"That scope cannot be used: {exc}.") from exc


class _Place(NamedTuple):
    """The path, decoded and encoded, and the encoded query with its `?`, or empty."""

    path: str
    encoded: str
    query: str


def _canonical(endpoint: str) -> _Place:
    if not isinstance(endpoint, str) or not endpoint or len(endpoint) > _LONGEST:
        raise _refusal("it must be text of 1 to 2048 characters")
    return _place(endpoint)


@lru_cache(maxsize=256)  # an agent asks for the same few endpoints over and over
def _place(endpoint: str) -> _Place:
    path, mark, query = endpoint.removeprefix("/").partition("?")
    if _SCHEME.match(path) or "@" in path.split("/", 1)[0]:
        raise _refusal("it must not name a scheme, a host or a user")
    decoded = [_decode(segment) for segment in path.split("/")]
    for index, segment in enumerate(decoded):
        _check_segment(segment, last=index > 0 and index == len(decoded) - 1)
    encoded = "/".join(quote(segment, safe=_SEGMENT_SAFE) for segment in decoded)
    return _Place("/".join(decoded), encoded, mark + _encode_query(query) if mark else "")


def _check_segment(segment: str, *, last: bool) -> None:
    name = segment.split(";", 1)[0].strip()  # some servers cut a segment there before they resolve dots: "..;/" climbs
    if not name and not (last and not segment):  # "//host", "a//b", no path; one trailing slash is a path of its own
        raise _refusal("it has an empty path segment")
    if name in {".", ".."}:
        raise _refusal("it has dot segments")
    _check_characters(segment, forbidden="/\\?#")
    if segment != segment.strip():
        raise _refusal("it has surrounding spaces")


def _decode(segment: str) -> str:
    try:
        text = unquote_to_bytes(segment).decode("utf-8") if "%" in segment else segment
    except UnicodeError as exc:
        raise _refusal("it has percent-escapes that are not UTF-8") from exc
    if "%" in _ESCAPE.sub("", segment) or _ESCAPE.search(text):
        raise _refusal("it has broken or doubled percent-escapes")
    return text


def _encode_query(query: str) -> str:
    if "%" in _ESCAPE.sub("", query):
        raise _refusal("it has broken percent-escapes")
    try:
        decoded = unquote_to_bytes(query).decode("utf-8")
        encoded = quote(query, safe=_QUERY_SAFE)
    except UnicodeError as exc:
        raise _refusal("its query is not UTF-8") from exc
    if "#" in query or any(unicodedata.category(character) in _INVISIBLE for character in decoded):
        raise _refusal("its query has control characters or a fragment")
    return encoded


def _check_characters(text: str, *, forbidden: str) -> None:
    for character in text:
        if character in forbidden or unicodedata.category(character) in _INVISIBLE:
            raise _refusal("it has slashes in disguise, control or invisible characters")
        if character > "\x7f" and (
            character in _LOOK_ALIKES or not _STRUCTURAL.isdisjoint(unicodedata.normalize("NFKC", character))
        ):
            raise _refusal("it has characters that look like a slash, a dot or another separator")


def _refusal(why: str) -> EndpointRefusedError:
    return EndpointRefusedError(
        f"That endpoint is not permitted: {why}. Give a relative path such as 'reports/latest'."
    )
