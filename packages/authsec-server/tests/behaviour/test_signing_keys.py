"""The life of a signing key over HTTP, while tokens are issued and verified: nobody is ever refused for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import jwt
import pytest
import sqlalchemy as sa
from behaviour.support import OpenSite, Site, peek, rows

from authsec_core.errors import BadSignatureError, RevokedTokenError, TokenRejectedError
from authsec_core.testing import FakeClock
from authsec_core.verify import TokenVerifier
from authsec_server.db.tables import signing_keys
from authsec_server.testing import OnboardedAgent

STEP = 150.0  # seconds between two tokens
MAX_AGE, LEEWAY, LONGEST = 300.0, 60.0, 3600.0  # seconds: of the JWKS, between clocks, and the life of tokens here


class Traffic:
    """An agent that asks for a token in each step, and verifiers of all ages that check whatever lives."""

    def __init__(self, site: Site, stack: ExitStack) -> None:
        self._site = site
        self._stack = stack
        self._agent = site.onboard(max_duration=int(LONGEST))
        self._verifiers: list[TokenVerifier] = []
        self.alive: list[tuple[str, float]] = []
        self.verified = 0

    def step(self) -> str:
        """Issue one token, let every verifier see every token that lives, let time pass, and return the key's id."""
        site, clock = self._site, self._site.fake
        if len(self._verifiers) < 4:  # the first ones hold keys since long ago, and the last since a moment
            self._verifiers.append(self._stack.enter_context(site.verifier()))
        body = site.ask(self._agent, ttl=str(int(LONGEST))).json()
        self.alive.append((body["token"], peek(body["token"])["exp"]))
        self.alive = [(token, ends_at) for token, ends_at in self.alive if ends_at > clock.wall()]
        for token, _ in self.alive:
            for verifier in self._verifiers:
                verifier.verify(token)
                self.verified += 1
        clock.advance(STEP)
        return str(jwt.get_unverified_header(body["token"])["kid"])

    def go_on(self, seconds: float) -> set[str]:
        """Go on for so long, and return the keys that signed."""
        return {self.step() for _ in range(int(seconds / STEP))}


@contextmanager
def traffic(site: Site) -> Iterator[Traffic]:
    """Lend one, which has been going on for a while."""
    with ExitStack() as stack:
        made = Traffic(site, stack)
        made.go_on(2 * STEP)
        yield made


def published(site: Site) -> list[str]:
    """Return the key ids of the JWKS."""
    return [key["kid"] for key in site.http.get(site.authority.jwks_url).json()["keys"]]


def listed(site: Site) -> dict[str, dict[str, Any]]:
    """Return the keys as operators see them."""
    return {key["kid"]: key for key in site.admin("GET", "/signing-keys")["items"]}


def act(site: Site, kid: str, what: str, *, status: int = 200, **body: Any) -> dict[str, Any]:
    """Do something with a key."""
    done: dict[str, Any] = site.admin("POST", f"/signing-keys/{kid}/{what}", status=status, json=body or None)
    return done


@pytest.mark.req("RA7")
def test_a_rotation_refuses_nobody(open_site: OpenSite) -> None:
    """Prepared, published, activated, retired, withdrawn: meanwhile each token is good everywhere, all its life."""
    with open_site(clock=FakeClock()) as site, traffic(site) as going:
        (old,) = published(site)
        new = site.admin("POST", "/signing-keys/prepare", status=201)["kid"]
        assert set(published(site)) == {old, new}, "it is published before it signs"
        act(site, new, "activate", status=409)
        assert going.go_on(MAX_AGE) == {old}
        act(site, new, "activate", status=409)
        assert going.go_on(STEP) == {old}
        act(site, new, "activate")
        assert going.go_on(STEP) == {new}
        assert {kid: key["state"] for kid, key in listed(site).items()} == {old: "retired", new: "active"}
        act(site, old, "retire", status=409)
        act(site, old, "activate", status=409)
        assert going.go_on(LONGEST) == {new}
        assert set(published(site)) == {old, new}, "it is published for as long as its tokens live, and a JWKS is kept"
        assert going.go_on(MAX_AGE + LEEWAY + STEP) == {new}
        assert published(site) == [new]
        assert going.verified > 1000


@pytest.mark.req("RA7")
def test_a_key_that_was_given_up_never_signs(open_site: OpenSite) -> None:
    """A prepared key can be retired: it leaves the JWKS, and cannot come back."""
    with open_site(clock=FakeClock()) as site, traffic(site) as going:
        (old,) = published(site)
        new = site.admin("POST", "/signing-keys/prepare")["kid"]
        assert act(site, new, "retire")["state"] == "retired"
        site.fake.advance(1.0)
        assert published(site) == [old]
        site.fake.advance(MAX_AGE + LEEWAY)
        act(site, new, "activate", status=409, at_once=True)
        act(site, old, "retire", status=409)
        assert going.go_on(2 * STEP) == {old}


@pytest.mark.req("RA7")
def test_a_revoked_key_is_trusted_no_more(open_site: OpenSite) -> None:
    """The one that signs is revoked: the prepared one takes its place, the old tokens are refused, the new are good."""
    with open_site(clock=FakeClock()) as site, traffic(site) as going, site.verifier() as verifier:
        (old,) = published(site)
        new = site.admin("POST", "/signing-keys/prepare")["kid"]
        going.go_on(MAX_AGE + STEP)
        lost = [token for token, _ in going.alive]
        assert all(verifier.verify(token) for token in lost)
        act(site, old, "revoke")
        act(site, old, "revoke", status=409)
        site.fake.advance(5.0)
        for token in lost:
            with pytest.raises(RevokedTokenError):  # who knows the key still: the list says it
                verifier.verify(token)
        assert published(site) == [new]
        with site.verifier() as late:
            for token in lost:
                with pytest.raises(BadSignatureError):  # who has never heard of it
                    late.verify(token)
        going.alive.clear()
        assert going.go_on(2 * STEP) == {new}
        (kept,) = [row for table, row in rows(site) if table == "signing_keys" and row[0] == old]
        assert not [value for value in kept if isinstance(value, (bytes, memoryview)) and value], "it cannot sign again"


@pytest.mark.req("RA7")
def test_a_revocation_in_need_makes_a_key(open_site: OpenSite) -> None:
    """With no key prepared a new one takes over in the same moment: agents get tokens, good for who asks anew."""
    with open_site(clock=FakeClock()) as site:
        agent = site.onboard()
        token, (old,) = site.token(agent), published(site)
        act(site, old, "revoke")
        fresh = site.token(agent)
        states = [key["state"] for key in listed(site).values()]
        assert sorted(states) == ["active", "revoked"]
        site.fake.advance(1.0)
        with site.verifier() as verifier:
            assert verifier.verify(fresh).key_id
            with pytest.raises(TokenRejectedError):
                verifier.verify(token)


@pytest.mark.req("RA7")
def test_replicas_sign_with_the_same_key(open_site: OpenSite) -> None:
    """As soon as a key was activated at one server, all of them sign with it; and only the active one signs."""
    with open_site(clock=FakeClock()) as site, site.replica() as second, site.replica() as third:
        agent: OnboardedAgent = site.onboard()
        sites = (site, second, third)

        def kids() -> set[str]:
            return {jwt.get_unverified_header(each.token(agent))["kid"] for each in sites}

        (old,) = kids()
        new = second.admin("POST", "/signing-keys/prepare")["kid"]
        act(third, new, "activate", at_once=True)
        assert kids() == {new}
        site.fake.advance(1.0)
        for each in sites:
            assert set(published(each)) == {old, new}
            with each.verifier() as verifier:
                assert verifier.verify(site.token(agent)).key_id
        act(second, new, "revoke")
        (newest,) = kids()
        assert newest not in (old, new)


@pytest.mark.req("RA7")
def test_a_key_that_cannot_be_read_is_not_replaced(open_site: OpenSite) -> None:
    """With a sealed key that was tampered with there is no token, and no new key either."""
    with open_site() as site:
        agent = site.onboard()
        (kid,) = published(site)
        site.authority.run(_flip_a_bit)
        site.authority.stop()
        site.authority.start()
        reply = site.ask(agent)
        assert reply.status_code >= 500
        assert "token" not in reply.json()
        assert list(listed(site)) == [kid]


async def _flip_a_bit(inner: Any) -> None:
    async def work(connection: Any) -> None:
        sealed = bytes((await connection.execute(sa.select(signing_keys.c.sealed))).scalar_one())
        await connection.execute(sa.update(signing_keys).values(sealed=sealed[:-1] + bytes([sealed[-1] ^ 1])))

    await inner.database.write(work)
