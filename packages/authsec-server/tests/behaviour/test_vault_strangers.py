"""What strangers can make the vault do: little, and each of them only so often."""

from __future__ import annotations

import secrets
import socket
from collections import Counter
from urllib.parse import urlsplit

import pytest
from behaviour.support import PATIENCE, Call, OpenSite, Site, at_once
from behaviour.vault import agent

from authsec_core.testing import FakeClock

IMPORT = "/v1/secrets/import"


def stranger() -> str:
    """A key that looks like one and was never issued."""
    return f"agk_{secrets.token_hex(8)}.{secrets.token_urlsafe(32)}"


@pytest.mark.req("RU1")
def test_a_stranger_is_refused_before_anything_is_read(site: Site) -> None:
    """The answer comes although nothing of the body ever does; a wrong secret for a key that is there is no better."""
    wrong = f"{agent(site).bearer.partition('.')[0]}.{stranger().partition('.')[2]}"
    where = urlsplit(site.base_urls[0])
    for bearer in (stranger(), wrong):
        head = [
            f"POST {IMPORT} HTTP/1.1",
            f"Host: {where.netloc}",
            f"Authorization: Bearer {bearer}",
            "Content-Type: application/json",
            "Content-Length: 100000",
            "Connection: close",
        ]
        with socket.create_connection((str(where.hostname), where.port or 80), timeout=PATIENCE) as connection:
            connection.sendall("\r\n".join(head).encode() + b"\r\n\r\n")
            assert b" 401 " in connection.recv(100)


@pytest.mark.req("RU1")
def test_a_crowd_of_strangers_is_let_in_one_by_one(open_site: OpenSite) -> None:
    """At once from one address: so many are answered as may be refused, which is on record; the others wait."""
    clock = FakeClock()
    with open_site(clock=clock, refusal_rate=1.0) as site:
        before = len(site.entries())
        body = {"namespace": "n", "content": "A=1"}
        url = f"{site.authority.base_url}{IMPORT}"
        replies = at_once([Call("POST", url, bearer=stranger(), body=body) for _ in range(40)])
        assert Counter(reply.status_code for reply in replies) == {401: 10, 429: 30}
        clock.advance(60)  # so that the address may ask again
        made = [(entry["action"], entry["reason"]) for entry in site.entries()[before:]]
        assert made == [("vault.denied", "proof_wrong")] * 10
