"""Whom do the settings say to trust, and on which terms? From text to values; whether terms are safe `issuers` says."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final, NoReturn

from authsec_core.errors import ConfigurationError
from authsec_fastapi._environment import named, variable
from authsec_fastapi.introspection import Introspection
from authsec_fastapi.issuers import TrustedIssuer
from authsec_fastapi.principal import ClaimPath
from authsec_fastapi.static_token import StaticToken

if TYPE_CHECKING:
    from authsec_fastapi.settings import GuardSettings

__all__ = ["Given", "claim_path", "trusted_issuers"]

# Terms of one issuer that the settings and `TrustedIssuer` have under the same name.
_TERMS: Final = (
    "jwks_url",
    "profile",
    "roles_claim",
    "scopes_claim",
    "revocation",
    "revocation_max_age",
    "jwks_refresh",
    "jwks_max_age",
    "leeway",
    "remember",
    "ca_file",
    "allow_http",
)
_OF_INTROSPECTION: Final = ("introspection_url", "introspection_max_age")
_ISSUERS: Final = variable("issuers")


@dataclass(frozen=True, slots=True)
class Given:
    """What only code can say.

    Attributes:
        jwks: The keys of the one issuer.
    """

    issuers: tuple[TrustedIssuer, ...] = ()
    jwks: Mapping[str, Any] | None = None
    static_token: StaticToken | None = None


def trusted_issuers(settings: GuardSettings, given: Given) -> list[TrustedIssuer]:
    """Return whom to trust; see `GuardSettings.trusted_issuers`."""
    set_by = settings.set_by
    by_argument = [name for name in ("issuer", "issuers", "static_token") if set_by.get(name) == "argument"]
    if given.issuers and by_argument:
        raise ConfigurationError(f"give issuers= or {by_argument[0]}=, not both")
    if given.issuers:
        _refuse_loose_terms(settings, given, ("argument",))
        found = list(given.issuers)
    elif settings.issuer is not None and (settings.issuers is None or "issuer" in by_argument):
        found = [_one(settings, settings.issuer, given.jwks)]
    elif settings.issuer is not None:
        raise ConfigurationError(f"{named('issuer')} and {named('issuers')} are both set: keep one")
    else:
        _refuse_loose_terms(settings, given, ("argument", "environment", "env file"))
        found = _several(settings.issuers.get_secret_value()) if settings.issuers is not None else []
    if found and (given.static_token is not None or settings.static_token is not None):
        where = "static_token=" if given.static_token is not None else named("static_token")
        raise ConfigurationError(f"a static token is for a first try: take {where} out where an issuer is trusted")
    return found


def claim_path(text: str) -> ClaimPath:
    """Return the path that a setting names: a name with dots, or a JSON list of names.

    Raises:
        ValueError: It begins like a list, and is none of texts.
    """
    if not text.lstrip().startswith("["):
        return text.strip()
    try:
        names = json.loads(text)
    except ValueError:
        names = None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise ValueError('is not a JSON list of names such as ["https://shop.example/roles"]')
    return tuple(names)


def _one(settings: GuardSettings, issuer: str, jwks: Mapping[str, Any] | None) -> TrustedIssuer:
    if not settings.audience:
        raise ConfigurationError(
            f"give audience= ({variable('audience')}): the name of your API, as tokens have it in aud"
        )
    terms = {name: value for name in _TERMS if (value := getattr(settings, name)) is not None}
    return TrustedIssuer(
        issuer=issuer, audience=settings.audience, jwks=jwks, introspection=_introspection(settings), **terms
    )


def _introspection(settings: GuardSettings) -> Introspection | None:
    if settings.revocation != "introspection":
        for name in _OF_INTROSPECTION:
            if getattr(settings, name) is not None:
                raise ConfigurationError(f"{named(name)} needs revocation=introspection: nobody would be asked")
        return None
    if settings.client_id is None or settings.client_key is None:
        raise ConfigurationError(
            f"revocation=introspection needs {variable('client_id')} and {variable('client_key')}: the agent at the "
            "authority as which this service asks"
        )
    return Introspection(
        client_id=settings.client_id,
        client_key=settings.client_key.get_secret_value(),
        url=settings.introspection_url,
        max_age=settings.introspection_max_age or 0.0,
    )


def _refuse_loose_terms(settings: GuardSettings, given: Given, layers: tuple[str, ...]) -> None:
    """Refuse a term that no issuer would get: whoever set it believes that it holds."""
    names = ("audience", *_TERMS, *_OF_INTROSPECTION)
    loose = next((name for name in names if settings.set_by.get(name) in layers), None)
    if given.jwks is not None or loose is not None:
        what = "jwks" if loose is None else named(loose)
        raise ConfigurationError(
            f"{what} goes with issuer=: set {variable('issuer')}, or say it for each of the issuers"
        )


def _several(text: str) -> list[TrustedIssuer]:
    try:
        listed = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        listed = None  # raised out here: a JSONDecodeError carries the text, in which a client key may stand
    if not isinstance(listed, list) or not listed or not all(isinstance(terms, dict) for terms in listed):
        raise ConfigurationError(
            f'{_ISSUERS} is not a JSON list of terms, each named once, such as [{{"issuer": "https://…/authsec", '
            '"audience": "…"}]'
        )
    return [_from_terms(number, terms) for number, terms in enumerate(listed, 1)]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    terms = dict(pairs)
    if len(terms) != len(pairs):
        raise ValueError("a term is named twice")
    return terms


def _from_terms(number: int, terms: Mapping[str, Any]) -> TrustedIssuer:
    where = f"{_ISSUERS}, number {number}"
    kinds = _KINDS
    for name in terms:
        if name not in kinds:
            near = difflib.get_close_matches(name, kinds, n=1)
            raise ConfigurationError(f"{where}: {name!r} is no term" + (f": did you mean {near[0]}?" if near else ""))
    for name in ("issuer", "audience"):
        if not terms.get(name):
            raise ConfigurationError(f"{where} needs {name}")
    try:
        return TrustedIssuer(**{name: _term(name, value) for name, value in terms.items()})
    except (TypeError, ValueError) as exc:
        _misfit(where, exc)


def _misfit(where: str, exc: Exception) -> NoReturn:
    raise ConfigurationError(f"{where}: {exc}") from None


def _term(name: str, value: Any) -> Any:
    kind = _KINDS[name]
    if name == "introspection":
        return _asked(value)
    if name in ("audience", "roles_claim", "scopes_claim") and isinstance(value, list):
        if not value or not all(isinstance(one, str) and one for one in value):
            raise ValueError(f"{name} is no text and no list of texts")
        return tuple(value)
    # JSON's true is no number, whatever Python says.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{name} is not {_WORDS[kind]}")
    return value


def _asked(value: Any) -> Introspection:
    known = {"client_id", "client_key", "url", "max_age"}
    if not isinstance(value, dict) or not {"client_id", "client_key"} <= set(value) <= known:
        raise ValueError("introspection is an object with client_id and client_key, and perhaps url and max_age")
    texts = [value[name] for name in ("client_id", "client_key", "url") if name in value]
    if not all(isinstance(text, str) for text in texts) or type(value.get("max_age", 0)) not in (int, float):
        raise ValueError("introspection has a value of the wrong type")
    return Introspection(**value)


_NUMBERS: Final = ("leeway", "revocation_max_age", "jwks_refresh", "jwks_max_age", "cooldown", "timeout")
_Kind = type | tuple[type, ...]
_KINDS: Final[dict[str, _Kind]] = {
    **{one.name: str for one in fields(TrustedIssuer)},
    **dict.fromkeys(_NUMBERS, (int, float)),
    "remember": int,
    "allow_http": bool,
    "jwks": dict,
    "introspection": dict,
}
_WORDS: Final[dict[_Kind, str]] = {str: "text", int: "a whole number", bool: "true or false", dict: "an object"} | {
    (int, float): "a number of seconds"
}
