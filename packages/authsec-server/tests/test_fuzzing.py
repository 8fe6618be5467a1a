"""Does the authority answer as its description says, whatever it is sent? Requests made up from `/openapi.json`."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authsec_server.app import create_app
from authsec_server.settings import ServerSettings
from authsec_server.testing import OnboardedAgent, RunningAuthority

pytest.importorskip("schemathesis")

import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

OF_THE_VAULT = re.compile(r" /v1/(me|tokens|secrets)")  # where an operator's token is good for nothing
CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)


@pytest.fixture(scope="module")
def authority() -> Iterator[RunningAuthority]:
    """An authority that may be ruined."""
    with RunningAuthority(client_rate=0, refusal_rate=0) as running:
        yield running


@pytest.fixture(scope="module")
def agent(authority: RunningAuthority) -> OnboardedAgent:
    """An agent, so that there is something to be found."""
    return authority.onboard()


@pytest.fixture(scope="module")
def holder(authority: RunningAuthority) -> OnboardedAgent:
    """An agent that may use the whole vault, and that no other request ends."""
    return authority.onboard(vault="secrets:*:*")


@pytest.fixture(scope="module")
def in_the_vault(authority: RunningAuthority, holder: OnboardedAgent) -> dict[str, str]:
    """What the placeholders of the vault's paths can stand for."""
    with httpx.Client(base_url=f"{authority.base_url}/v1", trust_env=False, timeout=60.0) as http:
        http.headers["Authorization"] = f"Bearer {holder.agent_key}"
        http.put("/secrets/production/openai/key", json={"value": "something"})
        wish = {"scopes": ["secrets:*:*"], "access_tier": "sensitive"}
        return {
            "token_id": http.post("/tokens", json={"scopes": ["secrets:*:*"]}).json()["token_id"],
            "approval_id": http.post("/tokens", json=wish).json()["approval_id"],
            "path": "production/openai/key",
        }


@pytest.fixture(scope="module")
def there(authority: RunningAuthority, agent: OnboardedAgent) -> dict[str, str]:
    """What the placeholders of paths can stand for, of what is there."""
    operator = authority.client.post("/operators", json={"name": "fuzz", "role": "auditor"}).json()["operator_id"]
    token = authority.client.post(f"/operators/{operator}/tokens", json={}).json()["token_id"]
    issuer = {
        "name": "fuzz",
        "kind": "users",
        "issuer": "https://fuzz.example",
        "jwks_url": f"{authority.base_url}/jwks",
    }
    return {
        "client_id": agent.client_id,
        "key_id": agent.key_id,
        "delegation_id": agent.delegation_id,
        "name": agent.role,
        "issuer_id": authority.client.post("/issuers", json=issuer).json()["issuer_id"],
        "kid": authority.client.get("/signing-keys").json()["items"][0]["kid"],
        "operator_id": operator,
        "token_id": token,
        "number": "0",
        "agent_id": agent.client_id,
    }


def operations() -> dict[str, Any]:
    """Return each operation by its name."""
    described = create_app(ServerSettings(dev=True)).openapi()
    results: Any = schemathesis.openapi.from_dict(described).get_all_operations()
    found = [result.ok() for result in results]
    return {operation.label: operation for operation in found}


OPERATIONS = operations()


@pytest.mark.req("RA10")
@pytest.mark.parametrize("label", OPERATIONS)
def test_every_answer_is_declared(
    label: str,
    authority: RunningAuthority,
    agent: OnboardedAgent,
    holder: OnboardedAgent,
    there: dict[str, str],
    in_the_vault: dict[str, str],
) -> None:
    """No request gets a 5xx, a status that is not declared, another media type or a body of another shape."""
    headers = {"Authorization": f"Bearer {authority.admin_token}"}
    if OF_THE_VAULT.search(label):
        headers = {"Authorization": f"Bearer {holder.agent_key}"}
    if " /v1/" in label or "/approvals" in label:
        there = {**there, **in_the_vault}
    if "/uflow/" in label:
        headers = {"Authorization": f"Bearer {agent.agent_key}"}
    if "/oauth2/" in label:
        pair = f"{agent.client_id}:{agent.agent_key}".encode()
        headers = {"Authorization": f"Basic {b64encode(pair).decode()}"}

    @settings(max_examples=20, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=OPERATIONS[label].as_strategy(), known=st.booleans(), proven=st.booleans())
    def fuzz(case: Any, known: bool, proven: bool) -> None:
        if known:
            case.path_parameters = {name: there.get(name, value) for name, value in case.path_parameters.items()}
        case.call_and_validate(base_url=authority.base_url, headers=headers if proven else {}, checks=CHECKS)

    fuzz()
