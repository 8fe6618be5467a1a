"""Tokens that others issued: whose keys verify them, for which purpose, and how the keys are fetched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from registry_support import OWN, Registry, registry, sqlite
from server_support import CALLER

from authsec_core.errors import (
    BadSignatureError,
    ConfigurationError,
    MalformedTokenError,
    VerificationUnavailableError,
    WrongAudienceError,
    WrongIssuerError,
)
from authsec_core.testing import FakeClock, LoopbackServer, Reply, loopback_certificate
from authsec_core.testing._signing import Es256SigningKey, SigningKey, first_key
from authsec_server.db.engine import Database
from authsec_server.issuers import tokens
from authsec_server.issuers.registry import Registry as IssuerRegistry
from authsec_server.issuers.tokens import ForeignTokens
from authsec_server.issuers.values import IssuerChanges, NewIssuer

IDP = NewIssuer(
    name="idp", kind="users", issuer="https://idp.example", audience="authsec", jwks={"keys": [dict(first_key().jwk)]}
)
CI = replace(IDP, name="ci", kind="oidc", audience=None, claims=("repository",))


def _mint(clock: FakeClock, *, by: SigningKey | None = None, **claims: object) -> str:
    key, now = by or first_key(), int(clock.wall())
    usual = {"iss": IDP.issuer, "sub": "ada", "aud": IDP.audience, "exp": now + 300, "iat": now}
    return key.sign({"alg": "RS256", "kid": key.kid}, {**usual, **claims})


def _with(
    folder: Path, test: Callable[[Registry, ForeignTokens, FakeClock], Coroutine[Any, Any, None]], **more: Any
) -> None:
    async def run() -> None:
        clock = FakeClock()
        async with registry(sqlite(folder), clock=clock) as one:
            memory = IssuerRegistry(one.database, clock=clock)
            await test(one, ForeignTokens(memory, clock=clock, **{"ca_file": None, **more}), clock)

    asyncio.run(run())


def test_a_users_token_names_the_user(tmp_path: Path) -> None:
    """With the audience that was registered for it, and who alone may act."""

    async def test(one: Registry, foreign: ForeignTokens, clock: FakeClock) -> None:
        issuer = await one.issuers.register(CALLER, IDP)
        found = await foreign.user(_mint(clock, may_act={"sub": "spiffe://example.org/agent"}))
        assert (found.issuer_id, found.revision, found.issuer) == (issuer.issuer_id, 1, IDP.issuer)
        assert (found.subject, found.may_act) == ("ada", "spiffe://example.org/agent")
        assert found.expires_at == int(clock.wall()) + 300
        for text, error in (
            (_mint(clock, aud=OWN.issuer), WrongAudienceError),
            (_mint(clock, iss="https://other.example"), WrongIssuerError),
            (_mint(clock, iss=7), WrongIssuerError),
            (_mint(clock, sub="spiffe://example.org/a"), MalformedTokenError),
            (_mint(clock, by=SigningKey.generate()), BadSignatureError),
            ("eyJ.eyJ.AA", MalformedTokenError),
        ):
            with pytest.raises(error):
                await foreign.user(text)

    _with(tmp_path, test)


def test_an_issuer_vouches_for_what_it_was_registered_for(tmp_path: Path) -> None:
    """For users or for workloads; the same issuer twice, with an audience for each."""

    async def test(one: Registry, foreign: ForeignTokens, clock: FakeClock) -> None:
        await one.issuers.register(CALLER, IDP)
        with pytest.raises(WrongIssuerError):
            await foreign.workload(_mint(clock))
        clock.advance(2)
        await one.issuers.register(CALLER, CI)
        workload = await foreign.workload(_mint(clock, aud=OWN.issuer, repository="acme/app"))
        assert workload.selectors == {"oidc:iss": IDP.issuer, "oidc:sub": "ada", "oidc:repository": "acme/app"}
        with pytest.raises(WrongAudienceError):
            await foreign.workload(_mint(clock))
        assert (await foreign.user(_mint(clock))).subject == "ada"

    _with(tmp_path, test)


def test_es256_is_for_users_too(tmp_path: Path) -> None:
    """An identity provider may sign with a key on P-256."""

    async def test(one: Registry, foreign: ForeignTokens, clock: FakeClock) -> None:
        key, now = Es256SigningKey.generate("k"), int(clock.wall())
        await one.issuers.register(CALLER, replace(IDP, jwks={"keys": [dict(key.jwk)]}))
        claims = {"iss": IDP.issuer, "sub": "ada", "aud": IDP.audience, "exp": now + 300, "iat": now}
        assert (await foreign.user(key.sign({"alg": "ES256", "kid": "k"}, claims))).subject == "ada"

    _with(tmp_path, test)


def test_a_changed_issuer_has_a_verifier_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that were replaced verify nothing a second later; and no crowd of issuers fills the memory."""
    monkeypatch.setattr(tokens, "_MOST_VERIFIERS", 2)

    async def test(one: Registry, foreign: ForeignTokens, clock: FakeClock) -> None:
        issuer, key = await one.issuers.register(CALLER, IDP), SigningKey.generate()
        assert (await foreign.user(_mint(clock))).revision == 1
        await one.issuers.change(CALLER, issuer.issuer_id, IssuerChanges(jwks={"keys": [dict(key.jwk)]}))
        clock.advance(1.1)
        assert (await foreign.user(_mint(clock, by=key))).revision == 2
        with pytest.raises(BadSignatureError):
            await foreign.user(_mint(clock))
        assert len(foreign._verifiers) == 1
        for number in range(4):
            address = f"https://idp-{number}.example"
            await one.issuers.register(CALLER, replace(IDP, name=f"idp-{number}", issuer=address))
            clock.advance(1.1)
            assert (await foreign.user(_mint(clock, iss=address))).issuer == address
            assert len(foreign._verifiers) == 2

    _with(tmp_path, test)


@pytest.mark.req("RS3")
def test_keys_come_over_tls_of_a_trusted_authority(tmp_path: Path) -> None:
    """With the file of authorities that was set, and not without it."""
    certificate = loopback_certificate(tmp_path)
    jwks = Reply.of_json({"keys": [dict(first_key().jwk)]})
    with LoopbackServer(lambda _: jwks, tls=certificate.context) as server:
        idp = replace(IDP, jwks=None, jwks_url=f"{server.base_url}/jwks")

        async def known(one: Registry, foreign: ForeignTokens, clock: FakeClock) -> None:
            await one.issuers.register(CALLER, idp)
            assert (await foreign.user(_mint(clock))).subject == "ada"

        async def unknown(one: Registry, foreign: ForeignTokens, clock: FakeClock) -> None:
            await one.issuers.register(CALLER, idp)
            with pytest.raises(VerificationUnavailableError):
                await foreign.user(_mint(clock))

        for name, test, ca_file in (("a", known, certificate.ca_file), ("b", unknown, None)):
            (tmp_path / name).mkdir()
            _with(tmp_path / name, test, ca_file=ca_file)


@pytest.mark.req("RO1")
def test_a_file_that_holds_no_authorities_is_found_at_the_start(tmp_path: Path) -> None:
    """And not with the first token."""
    (tmp_path / "ca.pem").write_text("nonsense")
    database = Database(sqlite(tmp_path), clock=FakeClock(), timeout=1.0)
    for name in ("ca.pem", "missing.pem"):
        with pytest.raises(ConfigurationError, match="AUTHSEC_SERVER_ISSUER_CA_FILE"):
            ForeignTokens(IssuerRegistry(database, clock=FakeClock()), ca_file=tmp_path / name, clock=FakeClock())
