"""An issuer that a guard trusts under another name than its tokens have: the operator is told, and no liar quoted."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from guard_support import Issuer, Memory, caller

from authsec_core import WrongIssuerError
from authsec_core.token import MOCK_ISSUER
from authsec_fastapi import AuthSecGuard
from authsec_fastapi._issuer_hint import IssuerHint


@pytest.mark.req("RU3")
@pytest.mark.parametrize(
    ("trusted", "claimed", "said"),
    [
        ("https://issuer.example", "https://issuer.example/authsec", "iss 'https://issuer.example/authsec', and this"),
        ("https://issuer.example/", "https://issuer.example", "trusts 'https://issuer.example/': if they are meant"),
        ("http://localhost:8321/authsec", "http://127.0.0.1:8321/authsec", "iss 'http://127.0.0.1:8321/authsec'"),
        ("https://issuer.example", MOCK_ISSUER, "a token of MOCK mode"),
        ("https://issuer.example", "https://canary.example", "trusts 'https://issuer.example'. Nobody"),
        ("https://issuer.example", "https://issuer.example/canary?a=b", "of another issuer"),
        ("https://issuer.example", "https://canary@issuer.example/", "of another issuer"),
        ("https://issuer.example", "https://issuer.example/" + "canary" * 40, "of another issuer"),
        ("https://issuer.example", "http://[canary", "of another issuer"),
    ],
)
def test_an_issuer_under_another_name_is_hinted_at_once(
    trusted: str, claimed: Any, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says what is trusted, and of the token's own words only a plain URL of a host that is trusted."""
    guard = AuthSecGuard(issuers=[Issuer(url=trusted).trusted()], sink=Memory())
    for _ in range(3):
        with pytest.raises(WrongIssuerError):
            asyncio.run(caller(guard, Issuer().token(iss=claimed)))
    (record,) = [one for one in caplog.records if one.name == "authsec.guard"]
    assert said in record.getMessage()
    assert "canary" not in record.getMessage()
    assert len(record.getMessage().splitlines()) == 1


def test_a_type_that_no_profile_has_is_hinted_at(caplog: pytest.LogCaptureFixture) -> None:
    """With several issuers the verifier is chosen by issuer and type: here it is not the issuer that is wrong."""
    both = [Issuer().trusted(), Issuer(url="https://another.example").trusted()]
    guard = AuthSecGuard(issuers=both, sink=Memory())
    with pytest.raises(WrongIssuerError):
        asyncio.run(caller(guard, Issuer(typ="at+jwt").token()))
    assert "refused for its type: is profile=" in caplog.text


@pytest.mark.parametrize("url", ["https://issuer.example", "spiffe://issuer.example", "https://["])
def test_no_token_makes_the_hint_fail(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """It comes after a refusal, which has to stay what it was; nothing odd is written down."""
    hint = IssuerHint([Issuer(url=url).trusted()])
    odd = [
        "https://issuer.example/canary\n",
        "https://issuer.example/\x1b[31mcanary",
        5,
        None,
        ["canary"],
        {"canary": 1},
    ]
    for token in (*(Issuer().token(iss=claimed) for claimed in odd), "canary", "", "a.b.c"):
        hint.note(token)
    (record,) = caplog.records
    assert "canary" not in record.getMessage()
