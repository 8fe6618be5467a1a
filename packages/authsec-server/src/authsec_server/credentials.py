"""The credentials that the authority generates: how they are made, read, kept and recognised.

A credential is `<id>.<secret>`: the id finds the row, and of the secret only an HMAC is kept. Generated secrets have
256 bits, so no slow hash is needed; without the pepper a copy of the database is not even good for checking a secret
that was found elsewhere. Which credentials exist, and whether one has ended, is for who calls.
RFC 2104 (HMAC), RFC 7617 (Basic), RFC 6749 section 2.3.1.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Literal, NoReturn
from urllib.parse import unquote_plus

from authsec_core.token import Secret
from authsec_core.wire import is_plain

__all__ = ["Credential", "CredentialKind", "Pepper", "basic", "generate", "mac", "masked", "matches", "parse"]

CredentialKind = Literal["agent-key", "operator-token", "vault-token"]

_PREFIXES: dict[CredentialKind, str] = {"agent-key": "agk", "operator-token": "opt", "vault-token": "vlt"}
_KINDS = {prefix: kind for kind, prefix in _PREFIXES.items()}
_MAC_LENGTH = 32  # bytes: SHA-256
_LONGEST_BASIC = 2048  # characters of an Authorization header

# 43 characters hold 258 bits: the last one has two that must be zero, or one secret would have four spellings.
_CREDENTIAL = re.compile(r"((?:agk|opt|vlt)_[0-9a-f]{16})\.([A-Za-z0-9_-]{42}[AEIMQUYcgkosw048])")
_WRITTEN = re.compile(r"(?:(?:agk|opt|vlt)_[0-9a-f]{16}\.|eyJ)\S*")  # `{"`, as each JWT begins
_BASIC = re.compile(r"[Bb][Aa][Ss][Ii][Cc] +([A-Za-z0-9+/]+={0,2})")
_FORM_ENCODED = re.compile(r"(?:[^%]|%[0-9A-Fa-f]{2})*")


@dataclass(frozen=True, slots=True, eq=False)  # compared through `matches`, in constant time, or not at all
class Credential:
    """An agent key, an operator token or a vault token in the clear: only on its way in or, once, out."""

    id: str
    secret: Secret

    @property
    def kind(self) -> CredentialKind:
        """What it is for, by its id."""
        return _KINDS[self.id[:3]]

    def text(self) -> str:
        """Return the whole credential, to be shown once to whom it belongs."""
        return f"{self.id}.{self.secret()}"


class Pepper:
    """The key of the HMACs. Nothing prints, pickles or compares it. Call it to read it, in order to seal it."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        if len(key) < _MAC_LENGTH:
            raise ValueError(f"a pepper has at least {_MAC_LENGTH} bytes")
        self._key = bytes(key)

    @classmethod
    def generate(cls) -> Pepper:
        """Make one of 256 random bits."""
        return cls(secrets.token_bytes(_MAC_LENGTH))

    def __call__(self) -> bytes:
        """Return the key."""
        return self._key

    def __repr__(self) -> str:
        return "<pepper>"

    def __copy__(self) -> Pepper:
        return self

    def __deepcopy__(self, memo: object) -> Pepper:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a pepper is not pickled: unseal it again in the other process")


def generate(kind: CredentialKind) -> Credential:
    """Make a credential of 256 random bits under a random id."""
    return Credential(f"{_PREFIXES[kind]}_{secrets.token_hex(8)}", Secret(secrets.token_urlsafe(32)))


def parse(text: str) -> Credential | None:
    """Return the credential that `text` is, or None; nothing is trimmed, and each has one spelling.

    Whether it exists is another question, and so is its kind: see `Credential.kind`.
    """
    found = _CREDENTIAL.fullmatch(text)  # looks at 64 characters, however many there are
    return None if found is None else Credential(found[1], Secret(found[2]))


def masked(text: str) -> str:
    """Return what somebody wrote, with `*` for each credential of ours or JWT in it, whole or cut."""
    return _WRITTEN.sub("*", text)


def mac(pepper: Pepper, kind: CredentialKind, credential: Credential) -> bytes:
    """Return what is kept of a credential. It is bound to its id and to what it is for: a row cannot be moved.

    Args:
        kind: What it is to be good for: one of another kind matches nothing that was kept.
    """
    message = f"authsec credential 1\0{kind}\0{credential.text()}".encode()
    return hmac.digest(pepper(), message, "sha256")


def matches(expected: bytes | None, given: bytes) -> bool:
    """Return whether the credential presented is the one kept; in the same time, however much of it is right.

    Args:
        expected: What is kept; None if no such id is known, which takes as long and is False.
        given: The `mac` of what was presented.
    """
    kept = expected if expected is not None and len(expected) == _MAC_LENGTH else None
    same = hmac.compare_digest(bytes(_MAC_LENGTH) if kept is None else kept, given)
    return same and kept is not None


def basic(header: str) -> tuple[str, Secret] | None:
    """Return user and password of an `Authorization: Basic` header, or None if it is none or not well-formed.

    Both are form-decoded (RFC 6749 section 2.3.1), so `%3A` in a user is a colon and `+` is a space. Strict: one
    spelling of the base64, UTF-8, no stray `%`, neither is empty, one line, nothing hidden, at most 2048 characters.
    """
    found = _BASIC.fullmatch(header) if len(header) <= _LONGEST_BASIC else None
    pair = None if found is None else _decoded(found[1])
    if pair is None or ":" not in pair:
        return None
    user, password = map(_form_decoded, pair.split(":", 1))
    return None if user is None or password is None else (user, Secret(password))


def _decoded(text: str) -> str | None:
    try:
        raw = base64.b64decode(text, validate=True)
        # Decoders overlook bits after the end: then many texts are one.
        return raw.decode() if base64.b64encode(raw).decode() == text else None
    except (binascii.Error, UnicodeDecodeError):
        return None


def _form_decoded(text: str) -> str | None:
    if not _FORM_ENCODED.fullmatch(text):
        return None
    try:
        decoded = unquote_plus(text, errors="strict")
    except UnicodeDecodeError:
        return None
    return decoded if decoded and is_plain(decoded) else None
