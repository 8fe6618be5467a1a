"""What comes late must not slip through: queued changes, crowds of tokens, clocks that jump, keys that end."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from behaviour.support import Call, OpenSite, Site, at_once, inside, peek, starting_line

from authsec_core.errors import RevokedTokenError
from authsec_core.testing import FakeClock
from authsec_server.authority import Authority
from authsec_server.db import tables
from authsec_server.tokens import withdraw


@pytest.mark.req("RA8")
@pytest.mark.req("RV9")
@pytest.mark.parametrize("how", ["disabled", "demoted", "token revoked"])
def test_a_change_that_waited_is_not_made_by_who_lost_the_right(open_site: OpenSite, how: str) -> None:
    """An operator was let in, and ended while their changes stood in line: none of them is made after that."""
    with open_site() as site:
        operator, token = site.operator("admin", name="mallory")
        (token_id, _, _) = token.partition(".")
        path, body = {
            "disabled": (f"/operators/{operator}", {"enabled": False}),
            "demoted": (f"/operators/{operator}", {"role": "auditor"}),
            "token revoked": (f"/operators/{operator}/tokens/{token_id}/revoke", None),
        }[how]
        base = f"{site.authority.base_url}/api/v1"
        end = Call(
            method="POST" if body is None else "PATCH", url=base + path, bearer=site.authority.admin_token, body=body
        )
        more = [
            Call(
                method="POST",
                url=f"{base}/operators",
                bearer=token,
                body={"name": f"accomplice-{number}", "role": "admin"},
            )
            for number in range(8)
        ]
        with starting_line(9, site):
            replies = at_once([end, *more])
        assert replies[0].is_success
        done = [entry["action"] for entry in site.entries()]
        ended = next(seq for seq, action in enumerate(done) if action in ("operator.update", "operator_token.revoke"))
        assert "operator.create" not in done[ended:]
        assert {reply.status_code for reply in replies[1:]} <= {201, 401, 403}


@pytest.mark.req("RV9")
@pytest.mark.parametrize("late", [1.0, 359.0])
def test_a_token_that_a_verifier_still_accepts_is_revoked(open_site: OpenSite, late: float) -> None:
    """Its end has passed, but verifiers have leeway and clocks differ: revoking its agent lists it all the same."""
    with open_site(clock=FakeClock()) as site:
        agent = site.onboard()
        token = site.token(agent, ttl=60)
        site.fake.advance(60 + late)
        site.admin("POST", f"/clients/{agent.client_id}/revoke")
        site.forget_lists()
        assert site.is_listed(token)


@pytest.mark.req("RV9")
def test_leeway_is_no_way_around_a_revocation(open_site: OpenSite) -> None:
    """Revoked just after its end, a token is refused as revoked by a verifier with leeway."""
    with open_site(clock=FakeClock()) as site, site.verifier(leeway=60) as verifier:
        agent = site.onboard()
        token = site.token(agent, ttl=60)
        site.fake.advance(61)
        assert verifier.verify(token).key_id
        site.admin("POST", f"/clients/{agent.client_id}/revoke")
        site.fake.advance(5)
        with pytest.raises(RevokedTokenError):
            verifier.verify(token)


@pytest.mark.req("RV9")
@pytest.mark.inside
def test_a_crowd_of_tokens_does_not_keep_an_agent(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """With more live tokens than a transaction looks through, the revocation is made at once, and the rest follows."""
    monkeypatch.setattr(withdraw, "MOST_AT_ONCE", 3)
    agent = site.onboard()
    issued = [site.token(agent) for _ in range(8)]
    untouched = site.token(site.onboard())
    site.admin("POST", f"/clients/{agent.client_id}/revoke")
    assert site.ask(agent).status_code == 410
    inside(site, _finish)
    site.forget_lists()
    assert all(site.is_listed(token) for token in issued)
    assert not site.is_listed(untouched)
    assert inside(site, _left) == 0


@pytest.mark.req("RV9")
@pytest.mark.inside
def test_a_crowd_is_looked_through_and_not_mown_down(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many tokens of an agent whose role lost a permission, those that hold it are revoked, and no others."""
    monkeypatch.setattr(withdraw, "MOST_AT_ONCE", 3)
    agent = site.onboard("read:a read:b")
    issued = [site.token(agent, scope=scope) for scope in ("read:a", "read:b", "read:a read:b") * 3]
    site.admin("PUT", f"/roles/{agent.role}", json={"permissions": ["read:a"]})
    inside(site, _finish)
    site.forget_lists()
    assert [site.is_listed(token) for token in issued] == [False, True, True] * 3


@pytest.mark.req("RA7")
def test_a_crowd_of_tokens_does_not_keep_a_signing_key(open_site: OpenSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """A revoked signing key is gone at once, and all that it signed is in the status list soon."""
    monkeypatch.setattr(withdraw, "MOST_AT_ONCE", 3)
    with open_site() as site:
        agent = site.onboard()
        issued = [site.token(agent) for _ in range(8)]
        (key,) = site.admin("GET", "/signing-keys")["items"]
        site.admin("POST", f"/signing-keys/{key['kid']}/revoke")
        after = site.token(agent)
        inside(site, _finish)
        site.forget_lists()
        assert all(site.is_listed(token) for token in issued)
        assert not site.is_listed(after)


@pytest.mark.req("RA3")
def test_a_token_does_not_outlive_the_key_that_asked(open_site: OpenSite) -> None:
    """The end of an agent key caps the life of what it gets; in its last second it gets nothing."""
    with open_site(clock=FakeClock()) as site:
        agent = site.onboard()
        key = site.admin("POST", f"/clients/{agent.client_id}/keys", json={"not_after": site.after(30)})["agent_key"]
        claims = peek(site.ask(agent, f"Bearer {key}").json()["token"])
        assert claims["exp"] - claims["iat"] == 30
        site.fake.advance(29.5)
        assert site.ask(agent, f"Bearer {key}").status_code == 401
        assert site.ask(agent).status_code == 200


@pytest.mark.req("RV9")
def test_a_calendar_that_jumps_does_not_bring_a_token_back(open_site: OpenSite) -> None:
    """While the clock is days ahead nothing is forgotten; and what was revoked is remembered for thirty days."""
    with open_site(clock=FakeClock()) as site:
        agent = site.onboard()
        token = site.token(agent)
        site.admin("POST", f"/tokens/{peek(token)['jti']}/revoke")
        site.fake.jump(2 * 86_400)
        assert inside(site, _purge) == 0
        site.fake.jump(-2 * 86_400)
        site.forget_lists()
        assert site.is_listed(token)
        site.token(agent)
        site.fake.advance(2 * 86_400)
        assert inside(site, _purge) == 1
        site.forget_lists()
        assert site.is_listed(token)
        site.fake.advance(30 * 86_400)
        assert inside(site, _purge) == 1


@pytest.mark.req("RA1")
@pytest.mark.parametrize("body", [b"{", b"[" * 5000, b"\xff", b""])
def test_a_stranger_is_not_told_what_is_wrong_with_a_body(site: Site, body: bytes) -> None:
    """Who asks is looked at before what was sent."""
    url = f"{site.authority.base_url}/api/v1/clients"
    reply = site.http.post(url, content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code == 401


@pytest.mark.parametrize("path", ["/tokens/%00", "/tokens/%00/revoke", "/tokens/x'--/revoke"])
def test_what_is_no_token_is_not_asked_for(site: Site, path: str) -> None:
    """What cannot be a `jti` is refused before any database sees it."""
    verb = "POST" if path.endswith("revoke") else "GET"
    assert site.authority.client.request(verb, path).status_code == 422
    body = {"client_id": "\u0000"}
    assert site.authority.client.post("/tokens/dry-run", json=body).status_code == 422


async def _finish(inner: Authority) -> None:
    await withdraw.Withdrawals(inner.database, inner.ledger).finish()


async def _purge(inner: Authority) -> int:
    return await inner.token_records.purge()


async def _left(inner: Authority) -> int:
    async with inner.database.read() as connection:
        count = await connection.execute(sa.select(sa.func.count()).select_from(tables.withdrawals))
        return int(count.scalar_one())
