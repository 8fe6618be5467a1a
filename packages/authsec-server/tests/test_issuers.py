"""Registered issuers: what may be registered, what a change takes back, and what the audit says of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from registry_support import OWN, Registry, race, sqlite, with_registry
from server_support import CALLER

from authsec_core.testing import FakeClock
from authsec_core.testing._signing import Es256SigningKey, SigningKey, first_key
from authsec_server.errors import ConflictError, InvalidRequestError, NotFoundError
from authsec_server.issuers.registry import Registry as IssuerRegistry
from authsec_server.issuers.values import IssuerChanges, NewIssuer
from authsec_server.pages import Paging
from authsec_server.tokens.withdraw import exceeds

CLUSTER = NewIssuer(
    name="production",
    kind="kubernetes",
    issuer="https://kubernetes.default.svc",
    jwks_url="https://kubernetes.default.svc/openid/v1/jwks",
)
JWKS = {"keys": [dict(first_key().jwk)]}
SPIRE = NewIssuer(
    name="spire",
    kind="spiffe",
    issuer="spiffe://example.org",
    jwks={"keys": [dict(Es256SigningKey.generate("k", use="jwt-svid").jwk)]},
)


def test_an_issuer_is_registered_and_found_again(database_url: str) -> None:
    """All that was said is kept, with what follows from it; the audit names it, and its keys by their ids."""

    async def test(one: Registry) -> None:
        cluster = await one.issuers.register(CALLER, CLUSTER)
        spire = await one.issuers.register(CALLER, SPIRE)
        assert cluster.issuer_id.startswith("wli_")
        assert len(cluster.issuer_id) == 20
        assert (cluster.audience, cluster.enabled, cluster.revision) == (OWN.issuer, True, 1)
        assert await one.issuers.get(cluster.issuer_id) == cluster
        listed = (await one.issuers.list(Paging())).items
        assert sorted(listed, key=lambda issuer: issuer.name) == [cluster, spire]
        with pytest.raises(NotFoundError):
            await one.issuers.get("wli_0000000000000000")
        first, second = await one.entries("issuer.register")
        assert first["details"]["name"] == "production"
        assert first["details"]["keys"] is None
        assert (second["details"]["kind"], second["details"]["keys"]) == ("spiffe", ["k"])
        assert await one.version() == 2

    with_registry(database_url, test)


def test_of_given_keys_the_public_members_are_kept(tmp_path: Path) -> None:
    """Certificates, keys for others and members that nobody reads are left out; a secret refuses the whole."""

    async def test(one: Registry) -> None:
        other = {"kty": "OKP", "kid": "ed", "crv": "Ed25519", "x": "AA"}
        jwks = {"keys": [{**first_key().jwk, "x5c": ["AA"], "odd": float("nan")}, other, {"kty": "EC"}], "more": 1}
        made = await one.issuers.register(CALLER, replace(CLUSTER, jwks_url=None, jwks=jwks))
        assert made.jwks == JWKS
        bad_ones: tuple[dict[str, Any], ...] = (
            {"keys": [{**first_key().jwk, "d": "AA"}]},
            {"keys": [other]},
            {"keys": []},
            {},
            {"keys": ["a"]},
            {"keys": [{**first_key().jwk, "kid": "a\nb"}]},
            {"keys": [{**first_key().jwk, "kid": "k" * 257}]},
            {"keys": [{**first_key().jwk, "use": "jwt-svid"}]},
        )
        for bad in bad_ones:
            with pytest.raises(InvalidRequestError) as caught:
                await one.issuers.register(
                    CALLER, replace(CLUSTER, name="b", issuer="https://b", jwks_url=None, jwks=bad)
                )
            assert caught.value.field == "jwks"

    with_registry(sqlite(tmp_path), test)


_WRONG: list[tuple[NewIssuer, dict[str, Any], str]] = [
    (CLUSTER, {"name": ""}, "name"),
    (CLUSTER, {"name": "Production"}, "name"),
    (CLUSTER, {"name": "a*"}, "name"),
    (CLUSTER, {"name": "-a"}, "name"),
    (CLUSTER, {"name": "a" * 64}, "name"),
    (CLUSTER, {"kind": "github"}, "kind"),
    (CLUSTER, {"issuer": "http://kubernetes.default.svc"}, "issuer"),
    (CLUSTER, {"issuer": "kubernetes.default.svc"}, "issuer"),
    (CLUSTER, {"issuer": "https://user@kubernetes.default.svc"}, "issuer"),
    (CLUSTER, {"issuer": "https://k.example/?a=b"}, "issuer"),
    (CLUSTER, {"issuer": "spiffe://example.org"}, "issuer"),
    (CLUSTER, {"issuer": "https://k.example/" + "a" * 512}, "issuer"),
    (CLUSTER, {"issuer": OWN.issuer}, "issuer"),
    (CLUSTER, {"issuer": f"{OWN.issuer}/"}, "issuer"),
    (CLUSTER, {"kind": "users", "issuer": OWN.issuer}, "issuer"),
    (CLUSTER, {"jwks_url": OWN.jwks_url}, "jwks_url"),
    (CLUSTER, {"jwks_url": "http://kubernetes.default.svc/jwks"}, "jwks_url"),
    (CLUSTER, {"jwks_url": "https://u:p@kubernetes.default.svc/jwks"}, "jwks_url"),
    (CLUSTER, {"jwks_url": "file:///etc/passwd"}, "jwks_url"),
    (CLUSTER, {"jwks_url": "https://k.example/" + "a" * 512}, "jwks_url"),
    (CLUSTER, {"jwks_url": None}, "jwks_url"),
    (CLUSTER, {"jwks": JWKS}, "jwks_url"),
    (CLUSTER, {"audience": ""}, "audience"),
    (CLUSTER, {"audience": "a b"}, "audience"),
    (CLUSTER, {"claims": ("repository",)}, "claims"),
    (CLUSTER, {"kind": "oidc", "claims": ("a:b",)}, "claims"),
    (CLUSTER, {"kind": "oidc", "claims": ("",)}, "claims"),
    (CLUSTER, {"kind": "oidc", "claims": tuple(f"c{number}" for number in range(17))}, "claims"),
    (CLUSTER, {"kind": "oidc", "is_default": True}, "is_default"),
    (SPIRE, {"is_default": True}, "is_default"),
    (SPIRE, {"issuer": "https://example.org"}, "issuer"),
    (SPIRE, {"issuer": "spiffe://example.org/"}, "issuer"),
    (SPIRE, {"issuer": "spiffe://Example.org"}, "issuer"),
    (SPIRE, {"jwks": JWKS}, "jwks"),
]


@pytest.mark.parametrize(("base", "wrong", "field"), _WRONG)
def test_what_cannot_be_an_issuer_is_refused(
    tmp_path: Path, base: NewIssuer, wrong: dict[str, Any], field: str
) -> None:
    """The member that has to be mended is named, and nothing is stored."""

    async def test(one: Registry) -> None:
        with pytest.raises(InvalidRequestError) as caught:
            await one.issuers.register(CALLER, replace(base, **wrong))
        assert caught.value.field == field
        assert await one.entries() == []

    with_registry(sqlite(tmp_path), test)


def test_there_are_no_twins(tmp_path: Path) -> None:
    """One issuer for each purpose, one name for ever, one default cluster at a time."""

    async def test(one: Registry) -> None:
        first = await one.issuers.register(CALLER, replace(CLUSTER, is_default=True))
        users = await one.issuers.register(CALLER, replace(CLUSTER, name="users", kind="users", audience="users"))
        for twin in (
            replace(CLUSTER, issuer="https://other.example"),
            replace(CLUSTER, name="other"),
            replace(CLUSTER, name="other", kind="oidc"),
            replace(CLUSTER, name="other", kind="users"),
            replace(CLUSTER, name="other", issuer="https://other.example", is_default=True),
        ):
            with pytest.raises(ConflictError):
                await one.issuers.register(CALLER, twin)
        await one.issuers.change(CALLER, first.issuer_id, IssuerChanges(enabled=False))
        with pytest.raises(ConflictError, match="same purpose"):  # it may be enabled again
            await one.issuers.register(CALLER, replace(CLUSTER, name="other"))
        await one.issuers.revoke(CALLER, first.issuer_id)
        with pytest.raises(ConflictError, match="name"):  # agents may still name it as their cluster
            await one.issuers.register(CALLER, replace(CLUSTER, issuer="https://other.example"))
        again = await one.issuers.register(CALLER, replace(CLUSTER, name="again", is_default=True))
        other = await one.issuers.register(CALLER, replace(CLUSTER, name="third", issuer="https://third.example"))
        with pytest.raises(ConflictError, match="default"):
            await one.issuers.change(CALLER, other.issuer_id, IssuerChanges(is_default=True))
        await one.issuers.change(CALLER, again.issuer_id, IssuerChanges(is_default=False))
        assert (await one.issuers.change(CALLER, other.issuer_id, IssuerChanges(is_default=True))).is_default
        with pytest.raises(InvalidRequestError):
            await one.issuers.change(CALLER, users.issuer_id, IssuerChanges(is_default=True))

    with_registry(sqlite(tmp_path), test)


@pytest.mark.req("RA8")
def test_of_many_who_register_the_same_at_once_one_does(database_url: str) -> None:
    """64 at three replicas: one issuer, and 63 conflicts; of 64 who revoke it, one does."""

    async def test(one: Registry) -> None:
        async def register(replica: Registry, number: int) -> Any:
            return await replica.issuers.register(CALLER, replace(CLUSTER, name=f"cluster-{number}"))

        results = await race(database_url, one, register)
        (made,) = [result for result in results if not isinstance(result, BaseException)]
        assert sum(isinstance(result, ConflictError) for result in results) == 63

        async def revoke(replica: Registry, _number: int) -> Any:
            return await replica.issuers.revoke(CALLER, made.issuer_id)

        results = await race(database_url, one, revoke)
        assert sum(isinstance(result, ConflictError) for result in results) == 63

    with_registry(database_url, test)


@pytest.mark.parametrize(
    ("changes", "takes_back"),
    [
        (IssuerChanges(enabled=False), True),
        (IssuerChanges(audience="https://other.example"), True),
        (IssuerChanges(jwks=JWKS), True),
        (IssuerChanges(jwks_url="https://kubernetes.default.svc/other"), True),
        (IssuerChanges(is_default=False), True),
        (IssuerChanges(enabled=True), False),
        (IssuerChanges(jwks_url=CLUSTER.jwks_url), False),
        (IssuerChanges(), False),
    ],
)
def test_a_change_of_trust_takes_tokens_back(database_url: str, changes: IssuerChanges, takes_back: bool) -> None:
    """Live tokens that rest on the issuer go with it, and no others; what changes nothing is no entry."""

    async def test(one: Registry) -> None:
        issuer = await one.issuers.register(CALLER, replace(CLUSTER, is_default=True))
        client = await one.client()
        ended = int(client.created_at) - 361
        await one.hand_out("rests", client, key_id=issuer.issuer_id, status_index=1)
        await one.hand_out("other", client, key_id="wli_0000000000000000", status_index=2)
        await one.hand_out("ended", client, key_id=issuer.issuer_id, status_index=3, expires_at=ended)
        after = await one.issuers.change(CALLER, issuer.issuer_id, changes)
        assert ("rests" in await one.alive()) is not takes_back
        assert {"other", "ended"} <= await one.alive()
        entries = await one.entries("issuer.change")
        assert [entry["details"]["withdrawn"] for entry in entries] == [1] * takes_back
        assert after.revision == 1 + takes_back

    with_registry(database_url, test)


def test_to_enable_takes_nothing_back_and_to_revoke_is_final(tmp_path: Path) -> None:
    """Enabled again is a revision, with an entry of its own; a revoked issuer cannot be changed."""

    async def test(one: Registry) -> None:
        issuer = await one.issuers.register(CALLER, CLUSTER)
        client = await one.client()
        await one.issuers.change(CALLER, issuer.issuer_id, IssuerChanges(enabled=False))
        await one.hand_out("late", client, key_id=issuer.issuer_id)
        assert (await one.issuers.change(CALLER, issuer.issuer_id, IssuerChanges(enabled=True))).revision == 3
        assert await one.alive() == {"late"}
        ended = await one.issuers.revoke(CALLER, issuer.issuer_id)
        assert (ended.revoked_at, ended.revision) == (client.created_at, 4)
        assert await one.alive() == set()
        for attempt in (one.issuers.revoke(CALLER, issuer.issuer_id),
                        one.issuers.change(CALLER, issuer.issuer_id, IssuerChanges(enabled=True))):  # fmt: skip
            with pytest.raises(ConflictError, match="final"):
                await attempt
        both = IssuerChanges(jwks=JWKS, jwks_url=CLUSTER.jwks_url)
        other = await one.issuers.register(CALLER, SPIRE)
        with pytest.raises(InvalidRequestError, match="either"):
            await one.issuers.change(CALLER, other.issuer_id, both)
        said = [entry["details"] for entry in await one.entries("issuer.change")]
        assert [entry["enabled"] for entry in said] == [{"from": True, "to": False}, {"from": False, "to": True}]

    with_registry(sqlite(tmp_path), test)


@pytest.mark.req("RV9")
def test_a_token_lives_only_while_its_issuer_is_trusted(tmp_path: Path) -> None:
    """Another change of its client finds tokens whose issuer is trusted no more, wherever they were left."""

    async def test(one: Registry) -> None:
        trusted = await one.issuers.register(CALLER, CLUSTER)
        await one.roles.put(CALLER, "reader", ["read:metrics"])
        client = await one.client()
        given, spare = await one.delegation(client), await one.delegation(client)
        rests: dict[str, Any] = {"delegations": [given.delegation_id]}
        await one.hand_out("good", client, key_id=trusted.issuer_id, **rests)
        await one.hand_out("gone", client, key_id="wli_0000000000000000", **rests)
        await one.delegations.revoke(CALLER, spare.delegation_id)
        assert await one.alive() == {"good"}

    with_registry(sqlite(tmp_path), test)
    assert exceeds(object(), None, 0.0)


def test_what_is_remembered_is_a_second_old_at_most(tmp_path: Path) -> None:
    """Another replica's change is seen within a second; issuers that are not trusted are not remembered."""
    clock = FakeClock()

    async def test(one: Registry) -> None:
        memory = IssuerRegistry(one.database, clock=clock)
        made = await one.issuers.register(CALLER, CLUSTER)
        assert (await memory.read()).get(CLUSTER.issuer, for_users=False) == made
        assert (await memory.read()).get(CLUSTER.issuer, for_users=True) is None
        assert (await memory.read()).get(None, for_users=False) is None
        await one.issuers.change(CALLER, made.issuer_id, IssuerChanges(enabled=False))
        clock.advance(0.9)
        assert (await memory.read()).get(CLUSTER.issuer, for_users=False) == made
        clock.advance(0.2)
        assert (await memory.read()).get(CLUSTER.issuer, for_users=False) is None

    with_registry(sqlite(tmp_path), test, clock=clock)


def test_there_are_only_so_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each issuer's keys are kept fresh, so that their number has a bound; revoked ones do not count."""
    monkeypatch.setattr("authsec_server.issuers.service.MOST_ISSUERS", 1)

    async def test(one: Registry) -> None:
        first = await one.issuers.register(CALLER, CLUSTER)
        with pytest.raises(ConflictError, match="1 issuers"):
            await one.issuers.register(CALLER, SPIRE)
        await one.issuers.change(CALLER, first.issuer_id, IssuerChanges(enabled=False))
        await one.issuers.revoke(CALLER, first.issuer_id)
        await one.issuers.register(CALLER, replace(SPIRE, jwks=SPIRE.jwks))

    with_registry(sqlite(tmp_path), test)


def test_a_second_key_set_replaces_the_first(tmp_path: Path) -> None:
    """What told the keys until now is forgotten: a URL, or a set."""

    async def test(one: Registry) -> None:
        made = await one.issuers.register(CALLER, CLUSTER)
        given = await one.issuers.change(CALLER, made.issuer_id, IssuerChanges(jwks=JWKS))
        assert (given.jwks_url, given.jwks) == (None, JWKS)
        other = {"keys": [dict(SigningKey.generate().jwk)]}
        assert (await one.issuers.change(CALLER, made.issuer_id, IssuerChanges(jwks=other))).jwks == other
        back = await one.issuers.change(CALLER, made.issuer_id, IssuerChanges(jwks_url=CLUSTER.jwks_url))
        assert (back.jwks_url, back.jwks) == (CLUSTER.jwks_url, None)

    with_registry(sqlite(tmp_path), test)
