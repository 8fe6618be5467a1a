"""The vault's requests: what is sent for each thing that one can ask of it, and how its reply is read. Pure.

Whatever makes no sense is refused here, before it is sent. Contract: docs/authority/vault.md.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any, Final, Generic, TypeVar

from authsec_core._vault_replies import (
    Page,
    Pending,
    Received,
    import_of,
    info_of,
    page_of,
    secret_of,
    token_of,
)
from authsec_core._vault_shown import claims_of
from authsec_core._vault_words import APPROVAL, REVOCATION, Words, of_import, of_list, of_secret, of_token
from authsec_core.token import Secret
from authsec_core.vault_scopes import check_namespace, check_path, parse_vault_scopes
from authsec_core.vault_values import ImportedSecrets, SecretInfo, VaultSecret, VaultToken
from authsec_core.wire import WireError

__all__ = [
    "Asked",
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
_LONGEST_VALUE: Final = 65536  # bytes of a secret
_LONGEST_IMPORT: Final = 1024 * 1024  # bytes of `.env` text


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked(Generic[T]):
    """One thing asked of the vault.

    Attributes:
        path: Below `/v1`.
        body: What is sent as JSON; it may hold a secret.
        read: Makes a value of a good reply, or raises `WireError`.
        words: What an error says of it.
    """

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Secret | None = None
    read: Callable[[Received], T]
    words: Words


def read_secret(path: str, version: int | None, metadata: Mapping[str, str] | None) -> Asked[VaultSecret]:
    """Ask for a secret."""
    check_path(path)
    if version is not None and (isinstance(version, bool) or version < 1):
        raise ValueError("a version is 1 or more")

    def read(reply: Received) -> VaultSecret:
        found = secret_of(reply.fields(), path)
        if version is not None and found.version != version:
            raise WireError("it is another version than the one that was asked for")
        return found

    params = {} if version is None else {"version": str(version)}
    return Asked(
        method="GET",
        path=f"/secrets/{path}",
        params=params,
        headers=claims_of(metadata),
        read=read,
        words=of_secret("read", path),
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
        read=lambda reply: info_of(reply.fields(), path),
        words=of_secret("write", path),
    )


def rotate_secret(path: str, value: Secret | None) -> Asked[VaultSecret]:
    """Ask for a new version of a secret: this one, or one that the vault makes up."""
    check_path(path)
    return Asked(
        method="POST",
        path=f"/secrets/{path}/rotate",
        body=_body({}, value=value and _checked(value)),
        read=lambda reply: secret_of(reply.fields(), path),
        words=of_secret("write", path),
    )


def remove_secret(path: str) -> Asked[None]:
    """Ask to destroy a secret, with all of its versions."""
    return Asked(
        method="DELETE", path=f"/secrets/{check_path(path)}", read=lambda _: None, words=of_secret("delete", path)
    )


def list_page(namespace: str | None, after: str | None) -> Asked[Page]:
    """Ask what lies in a namespace and below it, or in the whole vault; `after` is the `next` of the page before."""
    params = {"namespace": namespace and check_namespace(namespace), "after": after}

    return Asked(
        method="GET",
        path="/secrets",
        params={name: text for name, text in params.items() if text is not None},
        read=lambda reply: page_of(reply, namespace, after),
        words=of_list(namespace),
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

    return Asked(
        method="POST",
        path="/secrets/import",
        body=_body(members, content=_checked(content, _LONGEST_IMPORT)),
        read=lambda reply: import_of(reply, namespace),
        words=of_import(namespace),
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
        read=lambda reply: token_of(reply, asked),
        words=of_token(map(str, asked)) if approval_id is None else APPROVAL,
    )


def revoke_token(token_id: Secret) -> Asked[None]:
    """Ask to let a token reach nothing any more."""
    if not isinstance(token_id(), str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", token_id()):
        raise ValueError("a token is revoked by its token_id, which is letters and digits")
    return Asked(method="DELETE", path=f"/tokens/{token_id()}", read=lambda _: None, words=REVOCATION)


def _body(members: Mapping[str, Any], **secrets: Secret | None) -> Secret:
    """Return the members that are there, as JSON."""
    plain = {name: value for name, value in members.items() if value is not None}
    # By itself, so that what JSON or UTF-8 has no form for is refused before a secret is in a frame.
    text = json.dumps(plain, ensure_ascii=False).encode().decode()
    held = {name: secret() for name, secret in secrets.items() if secret is not None}
    return Secret(json.dumps(plain | held, ensure_ascii=False) if held else text)


def _checked(value: Secret, longest: int = _LONGEST_VALUE) -> Secret:
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
