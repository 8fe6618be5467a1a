"""RV2 through the guard: every odd form of a token, and every changed bit of a good one, is 401 over HTTP.

The application is called as a server calls it, so that any bytes can stand in its headers.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
from collections.abc import Iterable
from typing import Any

import jwt
import pytest
from asgi_support import open_to_callers, status_of
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fastapi import FastAPI
from guard_support import AUDIENCE, ISSUER, Issuer, Memory, key

from authsec_core._clock import SYSTEM_CLOCK
from authsec_core.testing import SigningKey
from authsec_fastapi import AuthSecGuard, TrustedIssuer

issuer = Issuer()
other = SigningKey.generate()
NOW = int(SYSTEM_CLOCK.wall())


def statuses(app: FastAPI, credentials: Iterable[bytes]) -> list[int]:
    """Return how the application answers a request with each of these as its Authorization header."""

    async def all_of_them() -> list[int]:
        return [await status_of(app, value) for value in credentials]

    return asyncio.run(all_of_them())


def encoded(data: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def claims(**changes: Any) -> dict[str, Any]:
    """Return the claims of a good token; what is `...` is left out."""
    usual: dict[str, Any] = {
        "iss": ISSUER,
        "sub": "spiffe://example.org/ns/shop/sa/bot",
        "aud": [AUDIENCE],
        "iat": NOW,
        "exp": NOW + 3600,
        "jti": "jti-1",
        "client_id": "agent",
        "permissions": ["read"],
    }
    return {name: value for name, value in {**usual, **changes}.items() if value is not ...}


def header(**changes: Any) -> dict[str, Any]:
    """Return the header of a good token; what is `...` is left out."""
    usual = {"alg": "RS256", "typ": "JWT", "kid": key().kid}
    return {name: value for name, value in {**usual, **changes}.items() if value is not ...}


def signed(head: bytes, body: bytes, by: SigningKey | None = None) -> str:
    """Return whatever bytes these are, with a good signature."""
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256

    text = f"{encoded(head)}.{encoded(body)}"
    return f"{text}.{encoded((by or key()).private.sign(text.encode(), PKCS1v15(), SHA256()))}"


def token(head: dict[str, Any] | None = None, **changes: Any) -> str:
    """Return a token with a good signature."""
    return signed(json.dumps(header(**(head or {}))).encode(), json.dumps(claims(**changes)).encode())


def _claims_gone_wrong() -> dict[str, str]:
    wrong: dict[str, list[Any]] = {
        "iss": [..., None, "", 7, True, ["x"], [ISSUER], {"a": 1}, ISSUER + "/", ISSUER.upper(), "https://a.example"],
        "aud": [..., None, "", 7, [], [7], [""], [[AUDIENCE]], {AUDIENCE: 1}, "another", AUDIENCE + " ", [AUDIENCE, 7]],
        "sub": [..., None, "", 7, True, ["x"], {"a": 1}, "a\nb", "a\u0000b"],
        "exp": [..., None, "", str(NOW + 60), NOW + 60.5, 1e10, -1, True, [NOW], 0, NOW - 60, 2**63, 10**400],
        "iat": [..., None, "", str(NOW), NOW + 0.5, -1, True, [NOW], NOW + 600, 10**400],
        "nbf": [None, "", str(NOW), NOW + 0.5, -1, True, NOW + 600],
        "jti": [..., None, "", 7, True, ["x"], "a\nb"],
        "client_id": [None, "", 7, ["x"]],
        "permissions": [None, "read", 7, {"read": 1}, [7], [""], [["read"]], ['read"'], [True]],
        "scope": [None, 7, ["read"], {"read": 1}, "write", 'read"', "a\tb"],
        "roles": [None, "admin", 7, {"admin": 1}, [7], [""]],
        "act": [None, "x", 7, ["x"], {}, {"sub": 7}, {"sub": ""}],
        "status": [None, "valid", 0, [], {}, {"status_list": {}}, {"status_list": {"idx": -1, "uri": f"{ISSUER}/1"}}],
        "mock": [True, 1, "yes"],
    }
    return {f"{name} {str(value)[:40]}": token(**{name: value}) for name, values in wrong.items() for value in values}


def _headers_gone_wrong() -> dict[str, str]:
    wrong: dict[str, list[Any]] = {
        "alg": [..., None, "", "none", "None", "HS256", "RS512", "PS256", "ES256", "rs256", ["RS256"], 7],
        "typ": [..., None, "", "jwt", "JWT ", "at+jwt", "statuslist+jwt", ["JWT"], 7, "application/jwt"],
        "kid": [..., None, "", "made-up", 7, [key().kid], key().kid + " ", "../" + key().kid, "a" * 2000],
        "crit": [[], ["exp"], None, "exp"],
        "b64": [True, False],
        "jku": ["https://evil.example/keys"],
        "x5u": ["https://evil.example/cert"],
        "jwk": [dict(other.jwk), {}],
        "x5c": [["AA"], []],
    }
    return {f"{name} {str(value)[:40]}": token({name: value}) for name, values in wrong.items() for value in values}


def _forms_gone_wrong() -> dict[str, str]:
    good = token()
    head, body, signature = good.split(".")
    plain, said = json.dumps(header()), json.dumps(claims())
    public = key().private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    symmetric = f"{encoded(json.dumps(header(alg='HS256')).encode())}.{body}"
    return {
        "no signature": f"{head}.{body}.",
        "two parts": f"{head}.{body}",
        "four parts": f"{good}.{signature}",
        "five parts": f"{good}.{signature}.{signature}",
        "a dot before": f".{good}",
        "a dot after": f"{good}.",
        "twice": good + good,
        "parts swapped": f"{body}.{head}.{signature}",
        "padded": f"{head}=.{body}.{signature}",
        "signature padded": f"{good}==",
        "standard base64": good.replace("-", "+").replace("_", "/") + "+",
        "unquoted": f"{plain}.{said}.{signature}",
        "the public key as a secret": f"{symmetric}.{encoded(hmac.digest(public, symmetric.encode(), 'sha256'))}",
        "none": jwt.encode(claims(), "", algorithm="none", headers={"kid": key().kid}),
        "PS256": jwt.encode(claims(), key().private, algorithm="PS256", headers={"kid": key().kid}),
        "RS512": jwt.encode(claims(), key().private, algorithm="RS512", headers={"kid": key().kid}),
        "another's key": signed(plain.encode(), said.encode(), by=other),
        "another's key that came along": signed(
            json.dumps(header(jwk=dict(other.jwk))).encode(), said.encode(), by=other
        ),
        "over 8 KiB": token(pad="x" * 8192),
        "a repeated claim": signed(plain.encode(), f'{{"sub": "admin", {said[1:]}'.encode()),
        "a repeated header": signed(f'{{"alg": "none", {plain[1:]}'.encode(), said.encode()),
        "NaN": signed(plain.encode(), said.replace(str(NOW + 3600), "NaN").encode()),
        "Infinity": signed(plain.encode(), said.replace(str(NOW + 3600), "Infinity").encode()),
        "a number too large": signed(plain.encode(), said.replace(str(NOW + 3600), "1e999").encode()),
        "claims are a list": signed(plain.encode(), b"[]"),
        "claims are text": signed(plain.encode(), b'"x"'),
        "claims are null": signed(plain.encode(), b"null"),
        "claims are nothing": signed(plain.encode(), b""),
        "claims are not JSON": signed(plain.encode(), b"{"),
        "claims are followed by something": signed(plain.encode(), said.encode() + b" x"),
        "claims are not UTF-8": signed(plain.encode(), b'{"a": "\xff"}'),
        "claims are UTF-16": signed(plain.encode(), said.encode("utf-16")),
        "claims have a byte order mark": signed(plain.encode(), b"\xef\xbb\xbf" + said.encode()),
        "claims are nested deeply": signed(plain.encode(), b'{"a":' + b"[" * 60 + b"]" * 60 + b"," + said.encode()[1:]),
        "claims are nested beyond reason": signed(plain.encode(), b'{"a":' + b"[" * 2000 + b"]" * 2000 + b"}"),
        "claims have a lone surrogate": signed(plain.encode(), b'{"a": "\\ud800", ' + said.encode()[1:]),
        "the header is a list": signed(b"[]", said.encode()),
        "the header is nothing": signed(b"", said.encode()),
    }


ODD = {**_claims_gone_wrong(), **_headers_gone_wrong(), **_forms_gone_wrong()}


@pytest.fixture(scope="module", params=["one issuer", "several"])
def app(request: pytest.FixtureRequest) -> FastAPI:
    """An application behind a guard of one issuer, and of several: the second has to pick one by what a token says."""
    trusted = [issuer.trusted()]
    if request.param == "several":
        idp = TrustedIssuer(
            issuer="https://idp.example", audience=AUDIENCE, profile="oidc", jwks={"keys": [dict(other.jwk)]}
        )
        trusted.append(idp)
    return open_to_callers(AuthSecGuard(issuers=trusted, sink=Memory()))


@pytest.mark.req("RV2")
def test_every_odd_form_is_refused(app: FastAPI) -> None:
    """Wrong types, negatives, floats, NaN, duplicates, other algorithms, keys that come along, spellings: 401."""
    assert statuses(app, [f"Bearer {token()}".encode()]) == [200]
    answers = statuses(app, [f"Bearer {text}".encode() for text in ODD.values()])
    assert {form: status for form, status in zip(ODD, answers, strict=True) if status != 401} == {}


@pytest.mark.req("RV2")
def test_every_changed_bit_is_refused(app: FastAPI) -> None:
    """Each bit of a good token is flipped in turn: never 200, and never an error of ours."""
    good = token().encode()
    accepted = statuses(app, [b"Bearer " + good])
    changed = []
    for bit in range(len(good) * 8):
        text = bytearray(good)
        text[bit // 8] ^= 1 << bit % 8
        changed.append(b"Bearer " + bytes(text))
    answers = statuses(app, changed)
    assert accepted == [200]
    assert {bit: status for bit, status in enumerate(answers) if status != 401} == {}


@pytest.mark.req("RV2")
def test_cut_and_spliced_tokens_are_refused(app: FastAPI) -> None:
    """Every prefix of a good token, and every mixture of the parts of two."""
    one, two = token(), token(jti="jti-2", permissions=["admin"])
    mixed = [".".join(parts) for parts in _mixtures(one.split("."), two.split("."))]
    texts = [one[:length] for length in range(1, len(one))] + mixed
    assert set(statuses(app, [f"Bearer {text}".encode() for text in texts])) == {401}


def _mixtures(one: list[str], two: list[str]) -> list[list[str]]:
    # The headers are the same, so that a mixture is one only where payload and signature are of two tokens.
    choices = [[a, b, c] for a in (one[0], two[0]) for b in (one[1], two[1]) for c in (one[2], two[2])]
    return [choice for choice in choices if choice not in (one, two)]


@pytest.mark.req("RV2")
@pytest.mark.parametrize(
    ("credentials", "status"),
    [
        (b"", 401),
        (b"Bearer", 401),
        (b"Bearer ", 401),
        (b"Basic %s", 401),
        (b"DPoP %s", 401),
        (b"%s", 401),
        (b"Bearer Bearer %s", 401),
        (b"Bearer %s %s", 401),
        (b"Bearer %s,", 401),
        (b"Bearer %s, Bearer %s", 401),
        (b'Bearer "%s"', 401),
        (b"Bearer token=%s", 401),
        (b"Bearer\t%s", 401),
        (b" Bearer %s", 401),
        (b"Bearer \t%s", 401),
        (b"Bearer %s\x00", 401),
        (b"Bearer %s\r\nX: y", 401),
        (b"Bearer \xa0%s", 401),
        (b"\xc2\xa0Bearer %s", 401),
        (b"Bearer %s", 200),
        (b"bearer %s", 200),
        (b"BEARER  %s ", 200),
    ],
    ids=str,
)
def test_only_one_form_of_credentials_carries_a_token(app: FastAPI, credentials: bytes, status: int) -> None:
    """The scheme in any case, spaces around the token, and nothing else (RFC 9110 section 11.4, RFC 6750)."""
    assert statuses(app, [credentials.replace(b"%s", token().encode())]) == [status]
