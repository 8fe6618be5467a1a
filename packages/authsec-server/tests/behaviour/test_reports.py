"""What services report of their own decisions: who may, what is on record of it, and that it is there once."""

from __future__ import annotations

import json
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from behaviour.support import OpenSite, Site

from authsec_core.testing import FakeClock, assert_no_secret
from authsec_core.wire import AUDIT_EVENTS_PATH
from authsec_server.testing import OnboardedAgent

JTI = "0f8fad5b-d9cb-469f-a165-70867728950e"
HOSTILE = "\r\n{}\x1b[31m\u2028\u202e\x00" + "x" * 400


def decision(**said: Any) -> dict[str, Any]:
    """Return an event, as a guard reports it."""
    usual = {
        "id": secrets.token_hex(16),
        "event": "request",
        "outcome": "deny",
        "reason": "insufficient_scope",
        "at": "2027-01-31T13:00:00.25+01:00",
        "subject": "spiffe://example.org/ns/shop/sa/bot",
        "jti": JTI,
        "needed": ["read:metrics"],
        "route": "/reports/{name}",
    }
    return {name: value for name, value in {**usual, **said}.items() if value is not None}


def report(site: Site, agent: OnboardedAgent, *events: dict[str, Any], **more: Any) -> httpx.Response:
    """Send some events."""
    headers = {"X-Client-ID": agent.client_id, "Authorization": f"Bearer {agent.agent_key}", **more}
    return site.http.post(f"{site.authority.base_url}{AUDIT_EVENTS_PATH}", json={"events": events}, headers=headers)


def reported(site: Site, agent: OnboardedAgent) -> list[dict[str, Any]]:
    """Return the entries of what this service reported."""
    return [entry for entry in site.entries(client_id=agent.client_id) if entry["action"].startswith("guard.")]


@pytest.mark.req("RU1")
def test_a_report_is_the_word_of_a_proven_service(site: Site) -> None:
    """The entry has the service as it proved itself, and all that it says of others as a claim."""
    service, event = site.onboard("audit:report"), decision(tool="refund", user="ada", roles=["a", "b"])
    reply = report(site, service, event)
    assert (reply.status_code, reply.json()) == (201, {"recorded": 1})
    (entry,) = reported(site, service)
    assert entry["actor"] == {"kind": "agent", "id": service.client_id, "name": service.name}
    assert (entry["client_id"], entry["subject"]) == (service.client_id, service.spiffe_id)
    assert (entry["action"], entry["decision"], entry["jti"]) == ("guard.decision", "deny", JTI)
    assert (entry["asked"], "reason" in entry) == ("read:metrics", False)
    assert entry["details"] == {"key_id": service.key_id, "event_id": event["id"]}
    assert entry["claimed"] == {
        "event": "request",
        "outcome": "deny",
        "reason": "insufficient_scope",
        "at": "2027-01-31T12:00:00.250000Z",
        "subject": "spiffe://example.org/ns/shop/sa/bot",
        "user": "ada",
        "jti": JTI,
        "needed": "read:metrics",
        "roles": "a b",
        "tool": "refund",
        "route": "/reports/{name}",
    }
    assert entry in site.entries(jti=JTI, decision="deny", action="guard.decision", client_id=service.client_id)


def test_a_run_is_reported_with_how_it_ended(site: Site) -> None:
    """Its beginning and its end are entries of their own kind."""
    service = site.onboard("audit:report")
    begun = decision(event="run.started", outcome=None, reason="started", run_id="r1", tools=["a", "b"])
    ended = decision(event="run.ended", outcome="error", reason="error", run_id="r1", duration=1.5)
    assert report(site, service, begun, ended).json() == {"recorded": 2}
    first, second = reported(site, service)
    assert [entry["action"] for entry in (first, second)] == ["guard.run"] * 2
    assert (first["claimed"]["tools"], second["claimed"]["duration"]) == ("a b", "1.5")


@pytest.mark.req("RU1")
def test_an_event_that_comes_again_is_on_record_once(site: Site) -> None:
    """Whoever did not hear the answer sends it again, alone, with others or twice at once."""
    service, other = site.onboard("audit:report"), site.onboard("audit:report")
    one, two = decision(), decision()
    assert report(site, service, one, one).json() == {"recorded": 1}
    assert report(site, service, one, two).json() == {"recorded": 1}
    with ThreadPoolExecutor(8) as threads:
        again = list(threads.map(lambda _: report(site, service, one, two).json()["recorded"], range(8)))
    assert again == [0] * 8
    assert len(reported(site, service)) == 2
    assert report(site, other, one).json() == {"recorded": 1}, "an id is the name that one reporter gives"


@pytest.mark.req("RU1")
@pytest.mark.req("RA8")
def test_those_who_send_the_same_at_once_record_it_once(site: Site) -> None:
    """However many requests with one event are settled together, and at whichever server."""
    service, event = site.onboard("audit:report"), decision()
    with ThreadPoolExecutor(16) as threads:
        replies = list(threads.map(lambda _: report(site, service, event, decision()), range(16)))
    assert {reply.status_code for reply in replies} == {201}
    assert sum(reply.json()["recorded"] for reply in replies) == 17
    ids = [entry["details"]["event_id"] for entry in reported(site, service)]
    assert (len(ids), len(set(ids))) == (17, 17)


@pytest.mark.parametrize(
    ("permissions", "status", "code"), [("read:metrics", 403, "not_covered"), ("audit:report:x", 403, "not_covered")]
)
def test_only_who_was_delegated_it_may_report(site: Site, permissions: str, status: int, code: str) -> None:
    """An agent is none that may; the refusal is on record, and nothing of the report is."""
    agent = site.onboard(permissions)
    reply = report(site, agent, decision())
    assert (reply.status_code, reply.json()["details"]) == (status, code)
    assert not reported(site, agent)
    (entry,) = site.entries(client_id=agent.client_id, action="audit.report")
    assert (entry["decision"], entry["reason"], "claimed" in entry) == ("deny", code, False)


@pytest.mark.req("RV9")
def test_who_was_revoked_reports_no_more(site: Site) -> None:
    """Neither with a key that was revoked, nor with a delegation or as a client that was."""
    by_key, by_delegation, by_client = (site.onboard("audit:report") for _ in range(3))
    for agent in (by_key, by_delegation, by_client):
        assert report(site, agent, decision()).status_code == 201
    site.admin("POST", f"/clients/{by_key.client_id}/keys/{by_key.key_id}/revoke")
    site.admin("POST", f"/trust-delegations/{by_delegation.delegation_id}/revoke")
    site.admin("POST", f"/clients/{by_client.client_id}/revoke")
    statuses = [report(site, agent, decision()).status_code for agent in (by_key, by_delegation, by_client)]
    assert statuses == [401, 410, 410]


@pytest.mark.req("RA1")
def test_without_a_good_proof_nothing_is_recorded(site: Site) -> None:
    """No key, another's, an operator's token, a delegation token: 401, whatever is sent along with it."""
    service, other = site.onboard("audit:report"), site.onboard("audit:report")
    proofs = ["Bearer garbage", f"Bearer {other.agent_key}", f"Bearer {site.authority.admin_token}"]
    proofs.append(f"Bearer {site.token(service)}")
    for proof in proofs:
        for events in ([decision()], [], [{"unknown": 1}]):
            reply = report(site, service, *events, Authorization=proof)
            assert (reply.status_code, reply.json()["details"]) == (401, "proof_wrong"), proof
    url = f"{site.authority.base_url}{AUDIT_EVENTS_PATH}"
    assert site.http.post(url, headers={"X-Client-ID": service.client_id}).status_code == 401
    assert site.http.post(url).status_code == 400
    assert not reported(site, service)


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": "x"},
        {"id": None},
        {"event": "other"},
        {"outcome": "success"},
        {"event": "run.ended"},
        {"reason": "Line\nbreak"},
        {"at": 1.5},
        {"at": "9999-12-31T23:59:59-23:59"},
        {"at": "0001-01-01T00:00:00+23:59"},
        {"unknown": "x"},
        {"subject": 5},
        {"subject": "x" * 513},
        {"needed": ["x"] * 65},
        {"roles": ["x"] * 65},
        {"needed": "x"},
        {"duration": -1},
    ],
)
def test_an_event_that_is_none_is_refused(site: Site, wrong: dict[str, Any]) -> None:
    """Nothing of a report is recorded that has one in it, and nothing of it is in the answer."""
    service = site.onboard("audit:report")
    reply = report(site, service, decision(subject="canary"), decision(**wrong))
    assert reply.status_code == 400
    assert "canary" not in reply.text
    assert not reported(site, service)


def test_a_report_has_its_bounds(site: Site) -> None:
    """At least one event and at most 100 of them."""
    service = site.onboard("audit:report")
    assert report(site, service).status_code == 400
    assert report(site, service, *(decision() for _ in range(101))).status_code == 400
    assert report(site, service, *(decision() for _ in range(100))).json() == {"recorded": 100}
    assert len(reported(site, service)) == 100


@pytest.mark.req("RU3")
def test_whatever_is_reported_is_one_bounded_line(site: Site) -> None:
    """Line ends, escapes, direction marks and NULs come out as ASCII; keys that somebody wrote into it are masked."""
    service = site.onboard("audit:report")
    words = {"subject", "agent", "conversation", "tool", "user", "route", "role", "method"}
    assert report(site, service, decision(**dict.fromkeys(words, HOSTILE))).status_code == 201
    said = site.onboard().agent_key
    assert report(site, service, decision(tool=said)).status_code == 201
    reply = site.authority.client.get("/audit", params={"client_id": service.client_id, "format": "jsonl"})
    lines = [line for line in reply.text.split("\n") if '"guard.decision"' in line]
    assert len(lines) == 2
    assert all(line.isascii() and line.isprintable() and len(line) < 65536 for line in lines)
    assert json.loads(lines[0])["claimed"]["subject"] == HOSTILE
    assert_no_secret(lines, said, service.agent_key)


def test_a_service_that_reports_too_often_has_to_wait(open_site: OpenSite) -> None:
    """Each report counts once against the rate of the client."""
    with open_site(clock=FakeClock(), client_rate=0.2) as site:
        service = site.onboard("audit:report")
        replies = [report(site, service, decision()) for _ in range(4)]
        assert [reply.status_code for reply in replies] == [201, 201, 429, 429]
        assert int(replies[-1].headers["Retry-After"]) >= 1


def test_an_event_is_known_again_for_an_hour(open_site: OpenSite) -> None:
    """What is forgotten later than that has been answered, or given up, long ago."""
    clock = FakeClock()
    with open_site(clock=clock) as site:
        service, event = site.onboard("audit:report"), decision()
        assert report(site, service, event).json() == {"recorded": 1}
        clock.advance(3599)
        site.authority.run(lambda inner: inner.token_records.purge())
        assert report(site, service, event).json() == {"recorded": 0}
