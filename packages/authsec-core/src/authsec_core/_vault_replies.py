"""What the vault's replies say, once they are known to be replies to what was asked. Pure.

The path and the version that come back are those that were asked for; a token covers what it was asked for and nothing
else. Whatever is wrong is a `WireError`, which quotes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from authsec_core._vault_shown import HEADER_TEXT
from authsec_core.token import Secret
from authsec_core.vault_scopes import VaultScope, check_path, parse_vault_scopes
from authsec_core.vault_values import ImportedSecrets, SecretInfo, VaultSecret, VaultToken
from authsec_core.wire import WireError, is_plain, json_object, parse_time, seconds

__all__ = ["Page", "Pending", "Received", "import_of", "info_of", "page_of", "secret_of", "token_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A good reply, which may hold a secret, and when it was asked for.

    Attributes:
        here: Epoch seconds by this machine's clock.
        there: By the vault's.
    """

    body: bytes = field(repr=False)
    here: float
    there: float

    def fields(self) -> dict[str, Any]:
        """Return what it says.

        Raises:
            WireError: It is not a JSON object.
        """
        return json_object(self.body, "the reply")


@dataclass(frozen=True, slots=True)
class Pending:
    """A token that somebody has to approve first.

    Attributes:
        good_from: Epoch seconds, by the vault's clock: from when on it can be had; None where somebody is still asked.
    """

    approval_id: str
    good_from: float | None


@dataclass(frozen=True, slots=True)
class Page:
    """Some of what a list has.

    Attributes:
        following: After which path it goes on; None where this is all.
    """

    items: tuple[SecretInfo, ...]
    following: str | None


def info_of(fields: Mapping[str, Any], path: str | None) -> SecretInfo:
    """Return what is said of a secret; None for the path is any."""
    return SecretInfo(**_said(fields, path))


def secret_of(fields: Mapping[str, Any], path: str) -> VaultSecret:
    """Return a secret."""
    value = fields.get("value")
    if not isinstance(value, str) or not value:
        raise WireError("it has no value")
    return VaultSecret(secret=Secret(value), **_said(fields, path))


def token_of(reply: Received, asked: tuple[VaultScope, ...]) -> VaultToken | Pending:
    """Return a token that is for what was asked, or what has to be approved first."""
    fields = reply.fields()
    if fields.get("requires_approval"):
        return Pending(_word(fields, "approval_id"), _instant(fields, "good_from"))
    text, ends, scopes = fields.get("token"), _instant(fields, "expires_at"), fields.get("scopes")
    if not isinstance(text, str) or not text or not HEADER_TEXT.issuperset(text):
        raise WireError("it has no token")
    if ends is None or ends <= reply.there:
        raise WireError("the token has already ended")
    if not isinstance(scopes, list) or not all(isinstance(scope, str) for scope in scopes):
        raise WireError("its scopes are not a list of text")
    try:
        granted = parse_vault_scopes(scopes)
    except ValueError as exc:
        raise WireError("its scopes are none of the vault's") from exc
    if not (_all_within(asked, granted) and _all_within(granted, asked)):
        raise WireError("the token has other scopes than those that were asked for")
    return VaultToken(
        secret=Secret(text),
        token_id=_word(fields, "token_id"),
        scopes=frozenset(map(str, granted)),
        issued_at=reply.here,
        expires_at=reply.here + (ends - reply.there),
    )


def page_of(reply: Received, namespace: str | None, after: str | None) -> Page:
    """Return a page of what lies in a namespace, behind the page before."""
    fields = reply.fields()
    items, following = fields.get("items"), fields.get("next")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise WireError("it has no items")
    found = tuple(info_of(item, None) for item in items)
    if not all(namespace is None or item.path.startswith(f"{namespace}/") for item in found):
        raise WireError("it lists what lies elsewhere")
    if following is not None and (not isinstance(following, str) or following <= (after or "")):
        raise WireError("its next page does not lie ahead")
    return Page(found, following)


def import_of(reply: Received, namespace: str) -> ImportedSecrets:
    """Return what became of an import."""
    fields = reply.fields()
    keys, skipped = fields.get("imported"), seconds(fields, "skipped")
    if not isinstance(keys, list) or not all(isinstance(key, str) and is_plain(key) for key in keys):
        raise WireError("imported is not a list of keys")
    return ImportedSecrets(namespace=namespace, keys=tuple(keys), skipped=int(skipped or 0))


def _said(fields: Mapping[str, Any], path: str | None) -> dict[str, Any]:
    """Return what is said of a secret, once it is known to be the one that was asked for."""
    namespace, key, version = fields.get("namespace"), fields.get("key"), fields.get("version")
    try:
        place = check_path(f"{namespace}/{key}")
    except ValueError as exc:
        raise WireError("its namespace and key are no path") from exc
    if path not in (None, place):
        raise WireError("it is another secret than the one that was asked for")
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise WireError("its version is not a number from 1 on")
    metadata = fields.get("metadata") or {}
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise WireError("its metadata is not text by name")
    return {
        "path": place,
        "version": version,
        "secret_type": _word(fields, "secret_type", "custom"),
        "access_tier": _word(fields, "access_tier", "standard"),
        "metadata": metadata,
        "created_at": _instant(fields, "created_at"),
        "updated_at": _instant(fields, "updated_at"),
    }


def _all_within(some: Iterable[VaultScope], others: Iterable[VaultScope]) -> bool:
    return all(any(other.includes(one) for other in others) for one in some)


def _word(fields: Mapping[str, Any], name: str, usual: str | None = None) -> str:
    value = fields.get(name, usual)
    if not isinstance(value, str) or not value or not is_plain(value):
        raise WireError(f"its {name} is not plain text")
    return value


def _instant(fields: Mapping[str, Any], name: str) -> float | None:
    """Return epoch seconds, which vaults write as a number or as RFC 3339."""
    return parse_time(fields[name]) if isinstance(fields.get(name), str) else seconds(fields, name)
