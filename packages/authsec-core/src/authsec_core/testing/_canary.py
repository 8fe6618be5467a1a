"""Did a secret get out? A scan of what a program printed, logged, sent or raised, for the secret in all its guises.

It looks at what is shown (str, repr, JSON, tracebacks), not at what an object holds: a token may live in a
`DelegationToken` as long as nothing prints it.
"""

from __future__ import annotations

import base64
import json
import logging
import traceback
from collections.abc import Iterator, Mapping, Set
from urllib.parse import quote, quote_plus

__all__ = ["assert_no_secret"]

_SHORTEST = 8  # characters; anything shorter is found by accident
_BEGINNING = 24  # characters of a JWT, which is what programs print "to be able to tell tokens apart"


def assert_no_secret(material: object, *secrets: str) -> None:
    """Fail when `material` shows one of the secrets, whole or in part, as it is or encoded.

    Strings, bytes, mappings, sequences, sets, exceptions with their causes, log records and any other object are
    looked through; of an object its str, repr and JSON. The guises are the secret itself; the payload, the signature
    and the beginning of a JWT; the secret half of an `<id>.<secret>` key; each of them also in base64 (at any
    offset), percent-encoded, in hex, and escaped as in JSON or a repr.

    Args:
        material: What a program showed.
        secrets: At least 8 characters each.

    Raises:
        AssertionError: Names where it was found and in which guise, never the secret.
        ValueError: There is no secret to look for, or a secret is too short to be found only on purpose.
    """
    __tracebackhide__ = True
    if not secrets or any(len(secret) < _SHORTEST for secret in secrets):
        raise ValueError(f"name at least one secret, of at least {_SHORTEST} characters")
    guises = [
        (f"secret {number} ({guise})", form)
        for number, secret in enumerate(secrets, start=1)
        for guise, form in _guises(secret)
    ]
    for place, text in _shown(material, "material", set()):
        for guise, form in guises:
            if form in text:
                # "from None" and no locals in the message: the failure must not print what it found.
                raise AssertionError(f"{guise} is shown in {place}") from None


def _guises(secret: str) -> Iterator[tuple[str, str]]:
    for part, text in _parts(secret):
        data = text.encode()
        yield part, text
        for offset in range(3):
            # Padded to the offset, the characters that depend on the neighbours cut off on both sides.
            encoded = base64.b64encode(bytes(offset) + data).decode().rstrip("=")
            inner = encoded[(0, 2, 3)[offset] : len(encoded) - (1 if (offset + len(data)) % 3 else 0)]
            yield f"{part}, base64", inner
            yield f"{part}, base64url", inner.translate(str.maketrans("+/", "-_"))
        yield f"{part}, percent-encoded", quote(text, safe="")
        yield f"{part}, percent-encoded", quote_plus(text)
        yield f"{part}, hex", data.hex()
        yield f"{part}, escaped", repr(text)[1:-1]
        for ascii_only in (True, False):
            once = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
            yield f"{part}, escaped", once
            yield f"{part}, escaped", json.dumps(once, ensure_ascii=ascii_only)[1:-1]  # JSON inside JSON


def _parts(secret: str) -> Iterator[tuple[str, str]]:
    yield "whole", secret
    segments = secret.split(".")
    if len(segments) == 3 and secret.startswith("eyJ"):
        yield "payload of a JWT", segments[1]
        yield "signature of a JWT", segments[2]
        yield "beginning of a JWT", secret[:_BEGINNING]
    elif len(segments) > 1 and len(segments[-1]) >= 2 * _SHORTEST:
        yield "part after the last dot", segments[-1]


def _shown(value: object, place: str, seen: set[int]) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield place, value
        return
    if isinstance(value, (bytes, bytearray, memoryview)):
        yield place, bytes(value).decode("utf-8", "backslashreplace")
        return
    if id(value) in seen:
        return
    seen.add(id(value))
    for inner_place, inner in _inside(value, place):
        yield from _shown(inner, inner_place, seen)
    yield f"{place} (its str)", str(value)
    yield f"{place} (its repr)", repr(value)
    yield f"{place} (its JSON)", _as_json(value)


def _inside(value: object, place: str) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        for number, (key, inner) in enumerate(value.items()):
            # The number and not the key: a key that is the secret must not be in the message.
            yield f"{place}, key {number}", key
            yield f"{place}[{key!r}]" if isinstance(key, str) else f"{place}, value {number}", inner
    elif isinstance(value, BaseException):
        yield f"{place} (its traceback)", "".join(traceback.format_exception(value))
        yield f"{place} (its args)", value.args
    elif isinstance(value, logging.LogRecord):
        yield f"{place} (its message)", value.getMessage()
        yield f"{place} (its fields)", vars(value)
    elif isinstance(value, (list, tuple, Set)):
        for number, inner in enumerate(value):
            yield f"{place}[{number}]", inner


def _as_json(value: object) -> str:
    try:
        return json.dumps(value, default=repr)
    except (TypeError, ValueError):  # keys that JSON has no form for, or a circle
        return ""
