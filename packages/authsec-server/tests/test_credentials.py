"""Generated credentials: one spelling, one purpose, and nowhere in the clear."""

from __future__ import annotations

import base64
import copy
import dataclasses
import hashlib
import hmac
import io
import json
import logging
import pickle
import traceback
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsec_core.token import Secret
from authsec_server.credentials import (
    Credential,
    CredentialKind,
    Pepper,
    basic,
    generate,
    mac,
    masked,
    matches,
    parse,
)

pytestmark = pytest.mark.req("RA2")

KINDS: tuple[CredentialKind, ...] = ("agent-key", "operator-token")
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
SECRET = base64.urlsafe_b64encode(bytes(range(32))).decode().rstrip("=")
TEXT = f"agk_0123456789abcdef.{SECRET}"
PEPPER = Pepper(b"p" * 32)


def read(text: str) -> Credential:
    """A credential that must be readable."""
    found = parse(text)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("", ""),
        ("for the report of agk_ and vlt_0123456789abcdef", "for the report of agk_ and vlt_0123456789abcdef"),
        (f"my key:{TEXT}", "my key:*"),
        (f"agent={TEXT}, tool=vlt{TEXT[3:]}\nopt{TEXT[3:]}", "agent=* tool=*\n*"),
        (f"cut: {TEXT[:24]}", "cut: *"),
        ("Bearer eyJhbGciOiJFUzI1NiJ9.e30.c2ln and more", "Bearer * and more"),
    ],
)
def test_credentials_are_masked_in_what_somebody_wrote(text: str, kept: str) -> None:
    """Whole or cut, ours of each kind and JWTs; their ids alone are no secret."""
    assert masked(text) == kept


# Made and read


@pytest.mark.parametrize(("kind", "prefix"), [("agent-key", "agk_"), ("operator-token", "opt_")])
def test_a_generated_credential_has_an_id_and_256_random_bits(kind: CredentialKind, prefix: str) -> None:
    """`<prefix><16 hex>.<43 base64url>`: the prefix says what it is, for people and for secret scanners."""
    made = generate(kind)
    name, _, secret = made.text().partition(".")
    assert name == made.id
    assert name.startswith(prefix)
    assert len(bytes.fromhex(name.removeprefix(prefix))) == 8
    assert len(base64.urlsafe_b64decode(secret + "=")) == 32
    assert secret == made.secret()
    assert made.kind == kind


@pytest.mark.parametrize("kind", KINDS)
def test_every_generated_credential_can_be_read_back(kind: CredentialKind) -> None:
    """A hundred of them: all different, all well-formed, all of their kind."""
    made = [generate(kind) for _ in range(100)]
    assert len({one.id for one in made}) == len({one.secret() for one in made}) == 100
    for one in made:
        again = read(one.text())
        assert (again.id, again.secret(), again.kind) == (one.id, one.secret(), kind)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        TEXT + "\n",
        "\n" + TEXT,
        " " + TEXT,
        TEXT + " ",
        TEXT[:-1],
        TEXT + "A",
        TEXT + "=",
        TEXT[:-1] + "=",
        TEXT.upper(),
        TEXT.replace("agk", "AGK"),
        TEXT.replace("agk_", "agk-"),
        TEXT.replace("agk_", "abc_"),
        TEXT.replace(".", ":"),
        TEXT.replace(".", ""),
        TEXT.replace("abcdef", "ABCDEF"),
        TEXT.replace("abcdef", "abcdeg"),
        TEXT.replace("0", "\uff10", 1),  # a full-width digit
        TEXT.replace("0", "\u0660", 1),  # an Arabic digit
        TEXT[:30] + "+" + TEXT[31:],
        TEXT[:30] + "/" + TEXT[31:],
        TEXT[:30] + "." + TEXT[31:],
        TEXT[:30] + "\x00" + TEXT[31:],
        TEXT[:30] + "é" + TEXT[31:],
        f"Bearer {TEXT}",
        f"{TEXT}.{TEXT}",
        "a" * 64,
        TEXT * 100_000,
    ],
)
def test_a_credential_has_one_spelling(text: str) -> None:
    """Nothing is trimmed, folded or cut off; what is not exactly one is none."""
    assert parse(text) is None


def test_the_last_character_has_no_second_spelling() -> None:
    """43 characters hold two bits more than the secret has: only those with zeros there are taken."""
    taken = [last for last in ALPHABET if parse(TEXT[:-1] + last)]
    assert len(taken) == 16
    assert len({base64.urlsafe_b64decode(SECRET[:-1] + last + "=") for last in taken}) == 16
    assert len({base64.urlsafe_b64decode(SECRET[:-1] + last + "=") for last in ALPHABET}) == 16


@given(st.text(max_size=70) | st.text(ALPHABET + ".", min_size=64, max_size=64))
def test_reading_never_fails(text: str) -> None:
    """Any text is a credential in its one spelling, or none."""
    found = parse(text)
    assert found is None or found.text() == text


# Kept and recognised


def test_what_is_kept_is_an_hmac_under_the_pepper() -> None:
    """HMAC-SHA-256 of a text that no other use of the pepper has."""
    message = b"authsec credential 1\0agent-key\0" + TEXT.encode()
    assert mac(PEPPER, "agent-key", read(TEXT)) == hmac.new(PEPPER(), message, hashlib.sha256).digest()


def test_what_is_kept_is_bound_to_pepper_kind_id_and_secret() -> None:
    """A row that is copied to another id, kind or server is good for nobody."""
    other_secret = Credential(read(TEXT).id, generate("agent-key").secret)
    other_id = Credential("agk_0123456789abcdee", read(TEXT).secret)
    other_kind = Credential("opt_0123456789abcdef", read(TEXT).secret)
    kept = {
        mac(PEPPER, "agent-key", read(TEXT)),
        mac(PEPPER, "operator-token", read(TEXT)),
        mac(Pepper(b"q" * 32), "agent-key", read(TEXT)),
        mac(PEPPER, "agent-key", other_secret),
        mac(PEPPER, "agent-key", other_id),
        mac(PEPPER, "agent-key", other_kind),
        mac(PEPPER, "operator-token", other_kind),
    }
    assert len(kept) == 7
    assert all(len(one) == 32 for one in kept)


def test_only_the_credential_that_was_kept_is_recognised() -> None:
    """Any single bit of what was kept counts."""
    given_one = mac(PEPPER, "agent-key", read(TEXT))
    assert matches(given_one, mac(PEPPER, "agent-key", read(TEXT))) is True
    for bit in range(256):
        changed = bytes(byte ^ (1 << bit % 8 if place == bit // 8 else 0) for place, byte in enumerate(given_one))
        assert matches(changed, given_one) is False


@pytest.mark.parametrize(
    ("expected", "given_one"),
    [
        (None, bytes(32)),
        (b"", b""),
        (b"", bytes(32)),
        (b"m" * 31, b"m" * 31),
        (b"m" * 33, b"m" * 33),
        (b"m" * 32, b"m" * 31),
        (b"m" * 32, b""),
    ],
)
def test_an_unknown_or_damaged_row_recognises_nobody(expected: bytes | None, given_one: bytes) -> None:
    """Neither the stand-in for an unknown id nor an empty column is a key."""
    assert matches(expected, given_one) is False


@pytest.mark.parametrize("expected", [b"m" * 32, b"x" * 32, b"short", None])
def test_every_comparison_is_a_whole_one(expected: bytes | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known or not, right or not: 32 bytes are compared in constant time, once."""
    compared: list[tuple[int, int]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return one == other

    monkeypatch.setattr("authsec_server.credentials.hmac.compare_digest", compare)
    assert matches(expected, b"m" * 32) is (expected == b"m" * 32)
    assert compared == [(32, 32)]


@pytest.mark.parametrize("length", [0, 1, 31])
def test_a_pepper_is_no_shorter_than_what_it_makes(length: int) -> None:
    """A short one could be tried out."""
    with pytest.raises(ValueError, match="at least 32 bytes"):
        Pepper(b"p" * length)


def test_a_generated_pepper_is_random_and_can_be_sealed() -> None:
    """Reading it out and putting it back gives the same HMACs; two are never the same."""
    one, other = Pepper.generate(), Pepper.generate()
    assert len(one()) == 32
    assert one() != other()
    assert mac(Pepper(one()), "agent-key", read(TEXT)) == mac(one, "agent-key", read(TEXT))


# Never shown


def shown(value: object) -> str:
    """Whatever a log, a debugger or a traceback with locals would make of a value."""
    stream = io.StringIO()
    log = logging.Logger("test")  # noqa: LOG001 -- of this test alone
    log.addHandler(logging.StreamHandler(stream))
    try:
        raise RuntimeError(value)
    except RuntimeError as error:
        log.exception("%s %r", value, value)
        frames = traceback.TracebackException.from_exception(error, capture_locals=True)
    extra = json.dumps(dataclasses.asdict(value), default=repr) if isinstance(value, Credential) else ""
    return "\n".join([f"{value} {value!r}", str([value]), stream.getvalue(), *frames.format(), extra])


def test_nothing_prints_a_credential_or_a_pepper() -> None:
    """Neither str, repr, a log, a traceback with locals, nor `asdict`; the id may be seen."""
    text = shown(read(TEXT))
    assert "agk_0123456789abcdef" in text
    assert SECRET not in text
    text = shown(Pepper(b"pepper-that-nobody-sees-anywhere!"))
    assert "pepper-that" not in text
    assert "<pepper>" in text


@pytest.mark.parametrize("value", [PEPPER, generate("agent-key")], ids=["pepper", "credential"])
def test_nothing_pickles_a_credential_or_a_pepper(value: Any) -> None:
    """A pickle would be the clear text in a cache, a queue or another process."""
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="is not pickled"):
            pickle.dumps(value, protocol)


def test_a_copy_of_a_pepper_is_the_pepper() -> None:
    """A value that holds one can be copied without a second one in memory."""
    assert copy.copy(PEPPER) is PEPPER
    assert copy.deepcopy({"pepper": PEPPER})["pepper"] is PEPPER


def test_credentials_are_not_compared_but_through_their_macs() -> None:
    """`==` would not take the same time; so it says nothing about the secret."""
    assert read(TEXT) != read(TEXT)


# Basic


def header(user: str, password: str, scheme: str = "Basic ") -> str:
    """An Authorization header, of texts that are already form-encoded."""
    return scheme + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("user", "password", "decoded"),
    [
        ("c1", TEXT, ("c1", TEXT)),
        ("c%31", "a%2Bb%25", ("c1", "a+b%")),
        ("a%3Ab", "c:d", ("a:b", "c:d")),
        ("a+b", "c+d", ("a b", "c d")),
        ("%C3%A9", "é", ("é", "é")),
        ("%3a", "%2f", (":", "/")),
        ("a%253A", "b", ("a%3A", "b")),
    ],
)
def test_basic_is_form_decoded_once(user: str, password: str, decoded: tuple[str, str]) -> None:
    """RFC 6749 section 2.3.1; the first colon divides, before anything is decoded."""
    found = basic(header(user, password))
    assert found is not None
    assert (found[0], found[1]()) == decoded


@pytest.mark.parametrize("scheme", ["Basic ", "basic ", "BASIC ", "Basic   "])
def test_the_scheme_has_no_case(scheme: str) -> None:
    """RFC 9110 section 11.1, and one space or more."""
    assert basic(header("c1", "x", scheme)) == ("c1", Secret("x"))


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Basic",
        "Basic ",
        "Basic =",
        "Basic ====",
        "Bearer YTpi",
        "BasicYTpi",
        "Basic\tYTpi",
        " Basic YTpi",
        "Basic YTpi ",
        "Basic YTpi\n",
        "Basic YTpi, Basic YTpi",
        "Basic YT pi",
        "Basic YTpiY",  # one character too many
        "Basic YTpiYw",  # no padding
        "Basic YTpiYx==",  # bits after the end
        "Basic YTpiYw=",
        "Basic YTpiYw===",
        "Basic YTo_-w==",  # base64url
        "Basic YTpiYw==YTpi",
        "Basic \u0430Tpi",
        header("", "password"),
        header("user", ""),
        header("", ""),
        "Basic " + base64.b64encode(b"no colon").decode(),
        "Basic " + base64.b64encode(b"\xff\xfe:b").decode(),
        "Basic " + base64.b64encode(b"a:\xc3").decode(),
        header("a%", "b"),
        header("a%2", "b"),
        header("a%zz", "b"),
        header("a%u0041", "b"),
        header("a", "b%"),
        header("%ff", "b"),
        header("a", "%c3%28"),
        header("a%0d%0aSet-Cookie", "b"),
        header("a\r\n", "b"),
        header("a%00", "b"),
        header("a", "b%00"),
        header("a", "b%1b"),
        header("a", "%e2%80%ae"),
        header("a" * 3000, "b"),
        header("a", "b" * 2_000_000),
    ],
)
def test_basic_that_is_not_well_formed_is_none(value: str) -> None:
    """No second spelling, no stray `%`, no byte that is not UTF-8, nothing hidden, nothing empty, nothing huge."""
    assert basic(value) is None


def test_the_longest_header_is_2048_characters() -> None:
    """One group of base64 more is too long."""
    assert len(header("u" * 1528, "p")) == 2046
    assert basic(header("u" * 1528, "p")) is not None
    assert basic(header("u" * 1529, "p")) is None


printable = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20)


@given(printable, printable)
def test_what_a_client_encodes_is_what_is_read(user: str, password: str) -> None:
    """Against the standard library's form-encoding, which any OAuth client uses."""
    from urllib.parse import quote_plus

    found = basic(header(quote_plus(user), quote_plus(password)))
    assert found is not None
    assert (found[0], found[1]()) == (user, password)


@given(st.text(max_size=40) | st.binary(max_size=40).map(lambda raw: "Basic " + base64.b64encode(raw).decode()))
def test_reading_basic_never_fails(value: str) -> None:
    """Any header is a user and a password, or none; the password is not printable."""
    found = basic(value)
    assert found is None or "<secret>" in repr(found)
