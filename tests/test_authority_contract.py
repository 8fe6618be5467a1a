"""The authority of our tests and the real one keep the same contract, so that what one passes holds for both."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # importlib mode adds no folders

from authority_contract import AuthorityContract, Subject, SubjectAgent

from authsec_core.testing import FakeClock, LocalAuthority
from authsec_server.testing import LocalPostgres, RunningAuthority

_KEY = "agk_0123456789abcdef." + "local-authority-" * 2


class TestLocalAuthority(AuthorityContract):
    """The one of the SDK's tests."""

    @pytest.fixture
    def subject(self) -> Iterator[Subject]:
        """A new one for each test."""
        clock = FakeClock()
        with LocalAuthority(clock=clock) as authority:
            agents = iter(range(1000))

            def onboard(permissions: str) -> SubjectAgent:
                key = f"{_KEY}{next(agents):011}"
                return SubjectAgent(client_id=authority.register(permissions, agent_key=key).client_id, key=key)

            yield Subject(
                base_url=authority.base_url,
                issuer=authority.issuer,
                jwks_url=authority.jwks_url,
                clock=clock,
                onboard=onboard,
                end=lambda agent: authority.revoke_agent(agent.client_id),
                revoke=authority.revoke,
            )


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def real(request: pytest.FixtureRequest) -> Iterator[Subject]:
    """The real one, on each of its databases: for all tests, which leave one another's agents alone."""
    if request.param == "sqlite":
        with RunningAuthority(clock=(clock := FakeClock())) as authority:
            yield _subject(authority, clock)
        return
    with (
        LocalPostgres(fsync=False) as server,
        RunningAuthority(
            clock=(clock := FakeClock()),
            database_url=server.create_database(),
            database_timeout=30.0,  # on a busy machine a migration may rest for longer than by default
            request_timeout=60.0,
        ) as authority,
    ):
        yield _subject(authority, clock)


def _subject(authority: RunningAuthority, clock: FakeClock) -> Subject:
    delegations: dict[str, str] = {}

    def onboard(permissions: str) -> SubjectAgent:
        made = authority.onboard(permissions, max_duration=30, unit="minutes")
        delegations[made.client_id] = made.delegation_id
        return SubjectAgent(client_id=made.client_id, key=made.agent_key)

    def revoke(path: str) -> None:
        authority.client.post(f"{path}/revoke").raise_for_status()

    return Subject(
        base_url=authority.base_url,
        issuer=authority.issuer,
        jwks_url=authority.jwks_url,
        clock=clock,
        onboard=onboard,
        end=lambda agent: revoke(f"/trust-delegations/{delegations[agent.client_id]}"),
        revoke=lambda jti: revoke(f"/tokens/{jti}"),
    )


class TestAuthority(AuthorityContract):
    """The real one."""

    @pytest.fixture
    def subject(self, real: Subject) -> Subject:
        """It is shared."""
        return real
