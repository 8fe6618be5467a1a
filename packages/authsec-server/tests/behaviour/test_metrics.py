"""What `/metrics` shows of a running authority: what happened, by names that nobody outside can choose."""

from __future__ import annotations

import re
from collections.abc import Mapping

import httpx
import pytest
from behaviour.support import NOBODY, OpenSite, Site, busy_database, hurry, inside
from prometheus_client.parser import text_string_to_metric_families

from authsec_core.testing import FakeClock, assert_no_secret
from authsec_server.authority import Authority
from authsec_server.errors import StorageUnavailableError

Series = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


pytestmark = pytest.mark.inside  # each process has metrics and spans of its own


def scrape(site: Site) -> httpx.Response:
    """Ask for the metrics, as Prometheus would."""
    headers = {"Authorization": f"Bearer {site.authority.admin_token}"}
    return site.http.get(f"{site.authority.base_url}/metrics", headers=headers)


def series(site: Site) -> Series:
    """Return every sample by its name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(scrape(site).text)
        for sample in family.samples
    }


def value(found: Series, name: str, **labels: str) -> float:
    """Return a sample, or 0 where there is none."""
    return found.get((name, frozenset(labels.items())), 0.0)


def test_operators_read_them(site: Site) -> None:
    """In the library's format, for every role and nobody else."""
    reply = scrape(site)
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/plain; version=")
    assert reply.headers["cache-control"] == "no-store"
    _, token = site.operator("auditor", name="prometheus")
    url = f"{site.authority.base_url}/metrics"
    openmetrics = {"Authorization": f"Bearer {token}", "Accept": "application/openmetrics-text; version=1.0.0"}
    assert site.http.get(url, headers=openmetrics).text.endswith("# EOF\n")
    assert site.http.get(url).status_code == 401


def test_prometheus_asks_each_server_by_its_address(site: Site) -> None:
    """Whatever name it calls the server by, which it knows by address alone; all else is for the server's own name."""
    _, token = site.operator("auditor", name="scraper")
    by_address = {"Authorization": f"Bearer {token}", "Host": "10.1.2.3:8321"}
    statuses = {
        path: site.http.get(f"{site.authority.base_url}{path}", headers=by_address).status_code
        for path in ("/metrics", "/api/v1/whoami")
    }
    assert statuses == {"/metrics": 200, "/api/v1/whoami": 421}


def test_what_happened_is_counted(site: Site) -> None:
    """Requests, decisions with their reasons, tokens, revocations, transactions, signatures and levels."""
    agent = site.onboard()
    before = series(site)
    site.token(agent)
    assert site.ask(agent, scope="write:all").status_code == 403
    assert site.ask(NOBODY, "Bearer x").status_code == 404
    site.admin("POST", f"/clients/{agent.client_id}/revoke")
    after = series(site)

    def grown(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    sdk = {"method": "GET", "route": "/authsec/uflow/sdk/delegation-token"}
    for status in ("200", "403", "404"):
        assert grown("authsec_http_requests_total", **sdk, status=status) == 1
    revoke = {"method": "POST", "route": "/api/v1/clients/{client_id}/revoke"}
    assert grown("authsec_http_requests_total", **revoke, status="200") == 1
    assert grown("authsec_http_request_seconds_count", **sdk) == 3
    for decision, reason in (("allow", ""), ("deny", "not_covered"), ("deny", "client_unknown")):
        labels = {"action": "token.issue", "decision": decision, "reason": reason}
        assert grown("authsec_decisions_total", **labels) == 1, reason
    assert grown("authsec_tokens_issued_total") == 1
    assert grown("authsec_revocations_total", what="client") == 1
    assert grown("authsec_ledger_batch_size_count") == 3
    assert grown("authsec_ledger_transaction_seconds_count") >= 4
    assert grown("authsec_signing_seconds_count") == 1
    assert value(after, "authsec_connections") >= 1
    assert ("authsec_ledger_waiting", frozenset[tuple[str, str]]()) in after
    assert value(after, "process_resident_memory_bytes") > 1e6


@pytest.mark.req("RA9")
def test_nobody_outside_makes_series(site: Site) -> None:
    """Ids, scopes, paths, methods and hosts that are sent are no label: each thing has one series."""
    agent = site.onboard("read:something-that-nobody-else-has")
    base = site.authority.base_url

    def flood(number: int) -> None:
        site.ask(f"00000000-0000-4000-8000-{number:012}", "Bearer x", scope=f"s:{number}", audience=f"a{number}")
        site.ask(agent, scope=f"read:{number}")
        for path in (f"/nothing-{number}", f"/api/v1/clients/x{number}", f"/api/v1/nothing/{number}", f"/%41{number}"):
            site.http.request(f"M{number}", f"{base}{path}")
            site.http.get(f"{base}{path}", headers={"Host": f"h{number}"})
        site.authority.client.get(f"/clients/{NOBODY[:-3]}{number:03}")

    flood(1)
    token = site.token(agent)
    scrape(site)  # which is a request itself, and on record from the next one on
    once = series(site)
    for number in range(2, 20):
        flood(number)
    again = series(site)
    assert set(again) == set(once)
    text = scrape(site).text
    assert_no_secret(text, agent.client_id, agent.agent_key, agent.role, token, "read:something")
    templates = set(site.http.get(f"{base}/openapi.json").json()["paths"])
    routes = set(re.findall(r'route="([^"]*)"', text))
    assert routes <= templates | {"other"}
    assert {"other", "/authsec/uflow/sdk/delegation-token", "/api/v1/clients/{client_id}"} <= routes
    assert set(re.findall(r'method="([^"]*)"', text)) <= {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "other"}


def test_what_goes_wrong_is_counted(open_site: OpenSite) -> None:
    """Who has to wait, what the database did not take, and chores that fail."""
    with open_site(clock=FakeClock(), refusal_rate=0.1) as site:
        agent = site.onboard()
        assert [site.ask(NOBODY, "Bearer x").status_code for _ in range(3)] == [404, 429, 429]
        site.fake.advance(10)
        url = site.authority.settings.database_url.get_secret_value()
        hurry(site, 0.3)
        with busy_database(url):
            assert site.ask(agent).status_code == 503

        async def chores(inner: Authority) -> None:
            async def fail() -> None:
                raise StorageUnavailableError("away")

            from authsec_server.authority import _Chore

            await _Chore("a chore", 1.0, fail).run_if_due(inner.clock, inner.observer)

        inside(site, chores)
        found = series(site)
        assert value(found, "authsec_rate_limited_total", limit="address") == 2
        assert value(found, "authsec_database_errors_total", where="write") >= 1
        assert value(found, "authsec_chores_failed_total", chore="a chore") == 1


def test_each_app_counts_for_itself(site: Site) -> None:
    """Two servers in one process do not add up."""
    agent = site.onboard()
    with site.replica() as twin:
        twin.token(agent)
        assert value(series(twin), "authsec_tokens_issued_total") == 1
