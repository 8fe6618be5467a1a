"""Verifying a token, each library as its own documentation shows it: ours with all checks, others with what they have.

All of them have the issuer's keys at hand, are asked for the same issuer and audience, and take turns.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Coroutine
from functools import cache
from importlib import import_module
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from authsec_core import TokenVerifier
from authsec_core.testing import LocalAuthority
from authsec_fastapi import AuditEvent, AuthSecGuard, TrustedIssuer
from authsec_fastapi.requirement import Requirement
from benchmarks.own import in_turn

__all__ = ["verifications"]

_AUDIENCE = "authsec-api"
_TURN = 0.001  # seconds: a busy machine takes the processor away after some milliseconds


def verifications(calls: int) -> dict[str, Any]:
    """Return median seconds of all checks, with and without memory of tokens, of others, and of the signature alone."""
    return in_turn(calls, _measured(), turn=_TURN)


@cache
def _measured() -> dict[str, Callable[[], object]]:
    authority = LocalAuthority(status_ttl=3600).start()  # it ends with this process
    token, issuer = authority.mint(), authority.issuer
    return {
        "signature": _signature(authority, token),
        "PyJWT": _pyjwt(authority, token),
        "PyJWKClient": _pyjwk_client(authority, token),
        "authlib": _authlib(authority, token),
        "joserfc": _joserfc(authority, token),
        "verify": _verifier(authority, token, remember=0),
        "remembered": _verifier(authority, token, remember=16),
        "guard": _guard(issuer, token, remember=0),
        "guard remembered": _guard(issuer, token, remember=1024),
    }


def _signature(authority: LocalAuthority, token: str) -> Callable[[], object]:
    key = authority.signing_key.private.public_key()
    signed, _, signature = token.rpartition(".")
    raw, message = jwt.utils.base64url_decode(signature), signed.encode()
    return lambda: key.verify(raw, message, PKCS1v15(), SHA256())


def _pyjwt(authority: LocalAuthority, token: str) -> Callable[[], object]:
    key, issuer = authority.signing_key.private.public_key(), authority.issuer
    return lambda: jwt.decode(token, key, algorithms=["RS256"], audience=_AUDIENCE, issuer=issuer)


def _pyjwk_client(authority: LocalAuthority, token: str) -> Callable[[], object]:
    client, issuer = jwt.PyJWKClient(authority.jwks_url, cache_keys=True), authority.issuer

    def verify() -> object:
        key = client.get_signing_key_from_jwt(token)
        return jwt.decode(token, key, algorithms=["RS256"], audience=_AUDIENCE, issuer=issuer)

    return verify


def _authlib(authority: LocalAuthority, token: str) -> Callable[[], object]:
    import_module("authlib.deprecate")  # first, because it switches its own warnings on
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that joserfc takes its place, and joserfc is measured too
        jose = import_module("authlib.jose")
    keys, library = jose.JsonWebKey.import_key_set(_jwks(authority)), jose.JsonWebToken(["RS256"])
    wanted = {
        "iss": {"essential": True, "value": authority.issuer},
        "aud": {"essential": True, "value": _AUDIENCE},
        "exp": {"essential": True},
    }
    return lambda: library.decode(token, keys, claims_options=wanted).validate()


def _joserfc(authority: LocalAuthority, token: str) -> Callable[[], object]:
    library, keys = import_module("joserfc.jwt"), import_module("joserfc.jwk").KeySet.import_key_set(_jwks(authority))
    registry = library.JWTClaimsRegistry(
        iss={"essential": True, "value": authority.issuer},
        aud={"essential": True, "value": _AUDIENCE},
        exp={"essential": True},
    )
    return lambda: registry.validate(library.decode(token, keys, algorithms=["RS256"]).claims)


def _jwks(authority: LocalAuthority) -> dict[str, Any]:
    return {"keys": [dict(authority.signing_key.jwk)]}


def _verifier(authority: LocalAuthority, token: str, *, remember: int) -> Callable[[], object]:
    verifier = TokenVerifier(
        issuer=authority.issuer,
        audience=_AUDIENCE,
        jwks_url=authority.jwks_url,
        require_status=True,
        remember=remember,
        # So that no fetch of keys or lists falls into a turn: in between, both are only looked at.
        revocation_max_age=3600.0,
    )
    return lambda: verifier.verify(token)


def _guard(issuer: str, token: str, *, remember: int) -> Callable[[], object]:
    trusted = TrustedIssuer(issuer=issuer, audience=_AUDIENCE, remember=remember, revocation_max_age=3600.0)
    judge = AuthSecGuard(issuers=[trusted], sink=_Nowhere()).judge
    headers = [(b"host", b"api"), (b"accept", b"*/*"), (b"authorization", f"Bearer {token}".encode())]
    needed = Requirement(scopes=frozenset({"read:metrics"}))
    asyncio.run(judge.admit(headers, needed, {}))  # which fetches keys and list, and needs a loop for that
    return lambda: _result(judge.admit(headers, needed, {"method": "GET", "route": "/metrics"}))


def _result(work: Coroutine[Any, Any, object]) -> object:
    """Return what a coroutine returns that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    raise RuntimeError("the guard waited for something: keys and list should have been at hand")


class _Nowhere:
    """A sink that keeps nothing, so that the guard alone is measured."""

    def record(self, event: AuditEvent) -> None:
        """Keep nothing."""

    async def arecord(self, event: AuditEvent) -> None:
        """Keep nothing."""
