"""What a guard is given by mistake: it is found when the guard is made, and the message says what to pass instead."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from guard_support import Issuer, Memory, caller

from authsec_core import ConfigurationError
from authsec_fastapi import AuthSecGuard, Policy, StaticToken, TrustedIssuer

issuer = Issuer()
CANARY = "canary-of-a-static-token"
ROLES = "version: 1\nroles: {viewer: [read], agent: [read]}\n"


@pytest.mark.req("RV5")
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"static_token": CANARY}, r"takes a StaticToken\(…\), not a value of the type str"),
        ({"static_token": StaticToken}, "not the class StaticToken"),
        ({"issuers": "https://a.example"}, "takes a list of TrustedIssuer"),
        ({"issuers": ["https://a.example"]}, "a value of the type str is among them"),
        ({"issuers": issuer.trusted()}, "takes a list of TrustedIssuer"),
        ({"issuers": 5}, "takes a list of TrustedIssuer"),
        ({"issuers": [issuer.trusted()], "sink": Memory}, "not the class Memory"),
        ({"issuers": [issuer.trusted()], "sink": "audit.jsonl"}, "sink= takes an AuditSink"),
        ({"issuers": [issuer.trusted(audience=5)]}, "an audience one or several"),
        ({"issuers": [issuer.trusted(issuer=5)]}, "an issuer is one text"),
    ],
)
def test_an_argument_of_the_wrong_kind_is_refused_when_the_guard_is_made(given: dict[str, Any], said: str) -> None:
    """With the words that help, and never with the value, which may be a token."""
    with pytest.raises(ConfigurationError, match=said) as refused:
        AuthSecGuard(**given)
    assert CANARY not in str(refused.value)


@pytest.mark.parametrize("wrong", [{"value": 5}, {"value": CANARY, "roles": [None]}, {"value": CANARY, "subject": ""}])
def test_a_static_token_is_made_of_texts(wrong: dict[str, Any]) -> None:
    """What is none is refused when the token is made, and not shown."""
    with pytest.raises(ConfigurationError, match="static token") as refused:
        StaticToken(**wrong)
    assert CANARY not in str(refused.value)


def test_issuers_may_come_one_by_one() -> None:
    """An iterator of issuers is used up once, and still makes a guard."""
    guard = AuthSecGuard(issuers=(one for one in [issuer.trusted()]), sink=Memory())
    assert asyncio.run(caller(guard, issuer.token())).issuer == issuer.url


def test_names_of_what_is_needed_are_texts() -> None:
    """A list in the place of one scope, role or action is refused where the route is made, or looked at again."""
    guard: Any = issuer.guard(policy=Policy(roles={"viewer": frozenset({"read"})}))
    with pytest.raises(TypeError, match="as an argument of its own"):
        guard.require(["a"])
    with pytest.raises(TypeError, match="as an argument of its own"):
        guard.require(None, "a")
    with pytest.raises(TypeError, match="role= takes one name"):
        guard.require_role(["viewer"])
    with pytest.raises(TypeError, match="action= takes one name"):
        guard.require("a", action=("read",))

    async def again() -> None:
        await guard.check_again(await caller(guard, issuer.token()), ["a"])

    with pytest.raises(TypeError, match="as an argument of its own"):
        asyncio.run(again())


@pytest.mark.req("RV5")
def test_a_role_of_the_static_token_that_the_policy_lacks_is_refused(tmp_path: Path) -> None:
    """A typo in it would let in nobody; a policy that is loaded later has to know it too. Without one, any will do."""
    path = tmp_path / "policy.yaml"
    path.write_text(ROLES)
    with pytest.raises(ConfigurationError, match="static token's role: the policy has no role 'viewr': did you mean"):
        AuthSecGuard(static_token=StaticToken(CANARY, roles=["viewr"]), policy=path)
    guard = AuthSecGuard(static_token=StaticToken(CANARY, roles=["viewer"]), policy=path)
    path.write_text(ROLES.replace("viewer", "reader"))
    with pytest.raises(ConfigurationError, match="has no role 'viewer'"):
        guard.reload_policy()
    AuthSecGuard(static_token=StaticToken(CANARY, roles=["viewr"]))


def test_an_action_without_a_policy_asks_for_the_policy() -> None:
    """Who forgot to pass it is not sent to look for a name in it."""
    with pytest.raises(ConfigurationError, match="there is no policy: give the guard one, policy="):
        issuer.guard().require_action("read")


@pytest.mark.parametrize("url", ["127.0.0.1:8321", "authority.example.com/authsec", "spiffe://a.example"])
def test_an_issuer_without_a_scheme_is_called_by_its_name(url: str) -> None:
    """The message is about issuer=, and not about the address of the keys that is made of it."""
    with pytest.raises(ConfigurationError, match=f"the issuer '{url}' is no URL") as refused:
        AuthSecGuard(issuers=[TrustedIssuer(issuer=url, audience="a")])
    assert "jwks" not in str(refused.value)
