"""The scan for secrets that got out."""

from __future__ import annotations

import base64
import json
import logging
from dataclasses import dataclass
from urllib.parse import quote

import pytest

from authsec_core.testing import assert_no_secret
from authsec_core.token import DelegationToken, Secret

SECRET = 'canary/+"\\ 1234567890?ü'
KEY = "7c9e6679.q2w3e4r5t6y7u8i9o0p1a2s3d4f5g6h7"
JWT = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhZ2VudCIsImp0aSI6IjEyMyJ9.c2lnbmF0dXJlLW9mLXRoZS10b2tlbg"


def basic(text: str) -> str:
    """Return the credentials of HTTP Basic."""
    return base64.b64encode(text.encode()).decode()


@dataclass
class Holder:
    """An object that prints what it holds."""

    value: str


def raised() -> BaseException:
    """Return an error whose cause mentions the secret."""
    try:
        try:
            raise KeyError(SECRET)
        except KeyError as exc:
            raise RuntimeError("clean") from exc
    except RuntimeError as exc:
        return exc


def record(*args: object) -> logging.LogRecord:
    """Return a log record with these arguments."""
    return logging.LogRecord("authsec", logging.DEBUG, __file__, 1, "sent %s", args, None)


@pytest.mark.parametrize(
    ("material", "secret"),
    [
        (f"x{SECRET}x", SECRET),
        (f"x{SECRET}x".encode(), SECRET),
        ({"a": [1, ("b", {SECRET})]}, SECRET),
        ({SECRET: 1}, SECRET),
        ({1: SECRET}, SECRET),
        (json.dumps({"a": SECRET}), SECRET),
        (json.dumps({"a": json.dumps({"b": SECRET})}), SECRET),
        (json.dumps({"a": json.dumps({"b": SECRET}, ensure_ascii=False)}, ensure_ascii=False), SECRET),
        (repr(SECRET), SECRET),
        (quote(SECRET, safe=""), SECRET),
        (basic(SECRET), SECRET),
        (basic(f"id:{SECRET}"), SECRET),
        (basic(f"idd:{SECRET}!"), SECRET),
        (basic(f"iddd:{SECRET}!!"), SECRET),
        (base64.urlsafe_b64encode(SECRET.encode()).decode(), SECRET),
        (base64.urlsafe_b64encode(b"id:???>>>~~~").decode(), "???>>>~~~"),
        (SECRET.encode().hex(), SECRET),
        (Holder(SECRET), SECRET),
        (raised(), SECRET),
        (record(SECRET), SECRET),
        ("the payload eyJzdWIiOiJhZ2VudCIsImp0aSI6IjEyMyJ9 alone", JWT),
        ("the signature c2lnbmF0dXJlLW9mLXRoZS10b2tlbg alone", JWT),
        ("token eyJhbGciOiJSUzI1NiIsInR5…", JWT),
        ("the half q2w3e4r5t6y7u8i9o0p1a2s3d4f5g6h7 alone", KEY),
    ],
)
def test_a_secret_is_found_and_not_repeated(material: object, secret: str) -> None:
    """Every guise and every place is found, and the failure does not show the secret."""
    with pytest.raises(AssertionError, match=r"^secret 1 \(.+\) is shown in material") as caught:
        assert_no_secret(material, secret)
    message = str(caught.value)
    for form in (secret, json.dumps(secret)[1:-1], secret.rpartition(".")[2], repr(secret)[1:-1]):
        assert form not in message


@pytest.mark.parametrize(
    "material",
    [
        "",
        b"\xff\x00",
        None,
        {"client_id": "7c9e6679", "n": [1.5, None]},
        {("a", "b"): {1}},
        RuntimeError("clean"),
        record("clean"),
        Holder("clean"),
        DelegationToken(
            secret=Secret(JWT), mode="live", scopes=frozenset(), issued_at=0.0, expires_at=1.0, jti="jti-1"
        ),
    ],
)
def test_what_shows_no_secret_passes(material: object) -> None:
    """The public half of a key is no secret, and an object may hold what it does not show."""
    assert_no_secret(material, SECRET, KEY, JWT)


def test_the_place_and_the_number_are_named() -> None:
    """The failure says which secret was found, where, and in which guise."""
    with pytest.raises(AssertionError, match=r"secret 2 \(part after the last dot, hex\) is shown in material\['a'\]"):
        assert_no_secret({"a": [KEY.rpartition(".")[2].encode().hex()]}, SECRET, KEY)


def test_circles_end() -> None:
    """Material that holds itself is looked through once."""
    circle: list[object] = [1]
    circle.append(circle)
    assert_no_secret(circle, SECRET)
    circle.append(SECRET)
    with pytest.raises(AssertionError):
        assert_no_secret(circle, SECRET)


@pytest.mark.parametrize("secrets", [(), ("short",), (SECRET, "")])
def test_a_scan_for_nothing_is_a_mistake(secrets: tuple[str, ...]) -> None:
    """A scan without a secret, or for one so short that it is found by accident, cannot pass silently."""
    with pytest.raises(ValueError, match="at least"):
        assert_no_secret("material", *secrets)
