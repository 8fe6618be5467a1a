"""The vault's messages: what is sent for each thing that one can ask of it, and what its reply has to say. Pure.

A reply is held against the request: the path and the version that come back are those that were asked for, and a token
covers what it was asked for and nothing else. Contract: docs/authority/vault.md.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any, Final, Generic, TypeVar

from authsec_core.token import Secret
from authsec_core.vault_scopes import VaultScope, check_namespace, check_path, parse_vault_scopes
from authsec_core.vault_values import ImportedSecrets, SecretInfo, VaultSecret, VaultToken
from authsec_core.wire import WireError, is_plain, json_object, parse_time, seconds

__all__ = [
    "Asked",
    "Page",
    "Pending",
    "Received",
    "claims_of",
    "credential_of",
    "hidden",
    "import_env",
    "list_page",
    "read_secret",
    "remove_secret",
    "request_token",
    "revoke_token",
    "rotate_secret",
    "write_secret",
]

T = TypeVar("T")
LONGEST_VALUE: Final = 65536  # bytes of a secret
_LONGEST_IMPORT: Final = 1024 * 1024  # bytes of `.env` text
_LONGEST_CREDENTIAL: Final = 4096  # characters
_CLAIMS: Final = {  # what an agent may say of itself -> its header, and the most characters
    "agent_name": ("X-Agent-Name", 200),
    "reason": ("X-Access-Reason", 500),
    "conversation_id": ("X-Conversation-ID", 200),
}
_HEADER_TEXT: Final = frozenset(map(chr, range(0x21, 0x7F)))


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked(Generic[T]):
    """One thing asked of the vault.

    Attributes:
        path: Below `/v1`.
        body: What is sent as JSON; it may hold a secret.
        read: Makes a value of a good reply, or raises `WireError`.
        concerns: What an error calls it.
    """

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Secret | None = None
    read: Callable[[Received], T]
    concerns: str


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


def hidden(token: str | VaultToken | Secret | None) -> Secret | None:
    """Return a token as what no frame shows. It raises nothing: the caller's frame still shows the text."""
    if isinstance(token, VaultToken):
        return token.secret
    return token if token is None or isinstance(token, Secret) else Secret(token)


def credential_of(shown: Secret) -> Secret:
    """Return a token or a key, once it is known to fit into a header.

    Raises:
        ValueError: It cannot be one.
        TypeError: It is not text.
    """
    if not isinstance(shown(), str):
        raise TypeError("a vault token is text, or a VaultToken")
    if not (shown() and len(shown()) <= _LONGEST_CREDENTIAL and _HEADER_TEXT.issuperset(shown())):
        raise ValueError("a vault token is one word of printable ASCII characters: copy it again")
    return shown


def claims_of(metadata: Mapping[str, str] | None) -> dict[str, str]:
    """Return the headers that tell the vault's audit what the agent says of itself. A blank claim is left out.

    Raises:
        ValueError: A claim has no such name, is too long, or is not one line of text.
        TypeError: A claim is not text.
    """
    headers = {}
    for name, text in (metadata or {}).items():
        if name not in _CLAIMS:
            raise ValueError(f"metadata= takes {', '.join(_CLAIMS)}, and no other name")
        header, longest = _CLAIMS[name]
        if not isinstance(text, str):
            raise TypeError(f"metadata= {name}: not text")
        claim = text.strip(" ")
        if len(claim) > longest or not is_plain(claim):
            raise ValueError(f"metadata= {name}: one line of at most {longest} printable characters")
        if claim:
            headers[header] = claim
    return headers


def read_secret(path: str, version: int | None, metadata: Mapping[str, str] | None) -> Asked[VaultSecret]:
    """Ask for a secret."""
    check_path(path)
    if version is not None and (isinstance(version, bool) or version < 1):
        raise ValueError("a version is 1 or more")

    def read(reply: Received) -> VaultSecret:
        found = _secret(reply.fields(), path)
        if version is not None and found.version != version:
            raise WireError("it is another version than the one that was asked for")
        return found

    params = {} if version is None else {"version": str(version)}
    return Asked(
        method="GET", path=f"/secrets/{path}", params=params, headers=claims_of(metadata), read=read, concerns=path
    )


def write_secret(
    path: str, value: Secret, *, secret_type: str | None, access_tier: str | None, metadata: Mapping[str, str] | None
) -> Asked[SecretInfo]:
    """Ask to keep a secret."""
    check_path(path)
    members = {"secret_type": secret_type, "access_tier": access_tier, "metadata": metadata and dict(metadata)}
    return Asked(
        method="PUT",
        path=f"/secrets/{path}",
        body=_body(members, value=_checked(value)),
        read=lambda reply: _info(reply.fields(), path),
        concerns=path,
    )


def rotate_secret(path: str, value: Secret | None) -> Asked[VaultSecret]:
    """Ask for a new version of a secret: this one, or one that the vault makes up."""
    check_path(path)
    return Asked(
        method="POST",
        path=f"/secrets/{path}/rotate",
        body=_body({}, value=value and _checked(value)),
        read=lambda reply: _secret(reply.fields(), path),
        concerns=path,
    )


def remove_secret(path: str) -> Asked[None]:
    """Ask to destroy a secret, with all of its versions."""
    return Asked(method="DELETE", path=f"/secrets/{check_path(path)}", read=lambda _: None, concerns=path)


def list_page(namespace: str | None, after: str | None) -> Asked[Page]:
    """Ask what lies in a namespace and below it, or in the whole vault; `after` is the `next` of the page before."""
    params = {"namespace": namespace and check_namespace(namespace), "after": after}

    def read(reply: Received) -> Page:
        fields = reply.fields()
        items, following = fields.get("items"), fields.get("next")
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise WireError("it has no items")
        found = tuple(_info(item, None) for item in items)
        if not all(namespace is None or item.path.startswith(f"{namespace}/") for item in found):
            raise WireError("it lists what lies elsewhere")
        if following is not None and (not isinstance(following, str) or following <= (after or "")):
            raise WireError("its next page does not lie ahead")
        return Page(found, following)

    return Asked(
        method="GET",
        path="/secrets",
        params={name: text for name, text in params.items() if text is not None},
        read=read,
        concerns=namespace or "the vault",
    )


def import_env(
    namespace: str,
    content: Secret,
    *,
    secret_type: str | None,
    access_tier: str | None,
    metadata: Mapping[str, str] | None,
) -> Asked[ImportedSecrets]:
    """Ask to keep what a `.env` text holds, whole or not at all."""
    members = {
        "namespace": check_namespace(namespace),
        "secret_type": secret_type,
        "access_tier": access_tier,
        "metadata": metadata and dict(metadata),
    }

    def read(reply: Received) -> ImportedSecrets:
        fields = reply.fields()
        keys, skipped = fields.get("imported"), seconds(fields, "skipped")
        if not isinstance(keys, list) or not all(isinstance(key, str) and is_plain(key) for key in keys):
            raise WireError("imported is not a list of keys")
        return ImportedSecrets(namespace=namespace, keys=tuple(keys), skipped=int(skipped or 0))

    return Asked(
        method="POST",
        path="/secrets/import",
        body=_body(members, content=_checked(content, _LONGEST_IMPORT)),
        read=read,
        concerns=namespace,
    )


def request_token(
    scope: str | Iterable[str],
    *,
    ttl_seconds: float,
    description: str | None,
    max_uses: int | None,
    allowed_ips: Iterable[str] | None,
    access_tier: str | None,
    approval_id: str | None,
) -> Asked[VaultToken | Pending]:
    """Ask for a token that reaches some secrets; or, with an `approval_id` alone, for the one that was asked for."""
    asked = parse_vault_scopes(scope)
    if isinstance(allowed_ips, str):
        raise TypeError("allowed_ips= takes a list: write allowed_ips=['10.0.0.0/8']")
    if not 1 <= ttl_seconds < math.inf:
        raise ValueError("ttl_seconds= is at least 1")
    if max_uses is not None and (isinstance(max_uses, bool) or max_uses < 1):
        raise ValueError("max_uses= is 1 or more; leave it out for any number")
    members = {
        "scopes": [str(scope) for scope in asked],
        "ttl": math.floor(ttl_seconds),
        "description": description,
        "max_uses": max_uses,
        "ip_allowlist": None if allowed_ips is None else [str(ip_network(text)) for text in allowed_ips],
        "access_tier": access_tier,
    }
    return Asked(
        method="POST",
        path="/tokens",
        # Alone: what was approved is the token as it was asked for then.
        body=_body(members if approval_id is None else {"approval_id": approval_id}),
        read=lambda reply: _token(reply.fields(), asked, reply),
        concerns="a token" if approval_id is None else "this approval",
    )


def revoke_token(token_id: Secret) -> Asked[None]:
    """Ask to let a token reach nothing any more."""
    if not isinstance(token_id(), str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", token_id()):
        raise ValueError("a token is revoked by its token_id, which is letters and digits")
    return Asked(method="DELETE", path=f"/tokens/{token_id()}", read=lambda _: None, concerns="the token")


def _body(members: Mapping[str, Any], **secrets: Secret | None) -> Secret:
    """Return the members that are there, as JSON."""
    plain = {name: value for name, value in members.items() if value is not None}
    # By itself, so that what JSON or UTF-8 has no form for is refused before a secret is in a frame.
    text = json.dumps(plain, ensure_ascii=False).encode().decode()
    held = {name: secret() for name, secret in secrets.items() if secret is not None}
    return Secret(json.dumps(plain | held, ensure_ascii=False) if held else text)


def _checked(value: Secret, longest: int = LONGEST_VALUE) -> Secret:
    """Refuse what the vault would: its answer could not say which of the members it is."""
    if not isinstance(value(), str):
        raise TypeError("a secret is text")
    try:
        size = len(value().encode())
    except UnicodeEncodeError:
        size = 0
    if not 1 <= size <= longest:  # out here: a UnicodeEncodeError carries the text, and would ride along
        raise ValueError(f"a secret is 1 to {longest} bytes of UTF-8 text")
    return value


def _info(fields: Mapping[str, Any], path: str | None) -> SecretInfo:
    return SecretInfo(**_said(fields, path))


def _secret(fields: Mapping[str, Any], path: str) -> VaultSecret:
    value = fields.get("value")
    if not isinstance(value, str) or not value:
        raise WireError("it has no value")
    return VaultSecret(secret=Secret(value), **_said(fields, path))


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


def _token(fields: Mapping[str, Any], asked: tuple[VaultScope, ...], reply: Received) -> VaultToken | Pending:
    if fields.get("requires_approval"):
        return Pending(_word(fields, "approval_id"), _instant(fields, "good_from"))
    text, ends, scopes = fields.get("token"), _instant(fields, "expires_at"), fields.get("scopes")
    if not isinstance(text, str) or not text or not _HEADER_TEXT.issuperset(text):
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
