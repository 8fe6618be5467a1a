"""Tokens that are asked for: how they are kept while they wait, and which networks they name. Pure."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsec_server.vault.policy import TIERS
from authsec_server.vault.wanted import WantedToken, wanted_token

WHOLE = "secrets:*:*"


@given(
    st.fixed_dictionaries(
        {
            "ttl": st.none() | st.integers(1, 3600),
            "max_uses": st.none() | st.integers(1, 1_000_000),
            "ip_allowlist": st.none() | st.lists(st.ip_addresses().map(str), min_size=1, max_size=32),
            "description": st.text(alphabet="abc ", max_size=20).map(str.strip),
            "tier": st.sampled_from(TIERS),
        }
    )
)
def test_what_waits_is_what_was_asked_for(asked: dict[str, Any]) -> None:
    """Whatever was asked for comes back from the JSON that is kept, equal to what it was."""
    wanted = wanted_token([WHOLE, "secrets:read:a/b", WHOLE], max_ttl=3600, **asked)
    assert WantedToken.of(json.loads(json.dumps(wanted.kept()))) == wanted


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("10.1.2.3", "10.1.2.3/32"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("::ffff:10.1.2.3", "10.1.2.3/32"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::fffe:0:0/95", "::fffe:0:0/95"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("::/0", "::/0"),
    ],
)
def test_a_network_has_one_spelling(typed: str, kept: str) -> None:
    """IPv4 in the clothes of IPv6 is IPv4, as the peers are that it is compared with."""
    assert wanted_token([WHOLE], max_ttl=60, ip_allowlist=[typed, typed]).addresses == (kept,)


def test_the_usual_life_is_not_above_the_longest() -> None:
    """Where an operator allows less than an hour, that is what comes by default."""
    assert wanted_token([WHOLE], max_ttl=60).ttl == 60
    assert wanted_token([WHOLE], max_ttl=10**6).ttl == 3600
