"""What the types of `authsec_core.testing` say to who writes tests. Checked by `nox -s types` and never run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from typing_extensions import assert_type

from authsec_core import AuthSecClient, DelegationToken, MockAuthority, TokenCache, TokenSource
from authsec_core.mock import MockSource
from authsec_core.testing import (
    AsyncTokenSourceContract,
    FakeClock,
    IssuedToken,
    LeakScan,
    LocalAuthority,
    LoopbackServer,
    OfferedTool,
    RecordingMockAuthority,
    Reply,
    Request,
    ScriptedModel,
    TokenCacheContract,
    TokenSourceContract,
    assert_no_secret,
    call,
)


def fixtures(
    authsec_mock: RecordingMockAuthority,
    authsec_authority: LocalAuthority,
    authsec_clock: FakeClock,
    authsec_no_leaks: LeakScan,
    scripted_model: Callable[..., ScriptedModel],
) -> None:
    """What the fixtures are annotated with, and what they offer."""
    mock: MockAuthority = authsec_mock
    authsec_mock.register("reports/q3", {"revenue": 12}, scope="read:reports")
    authsec_mock.permit("read:reports")
    assert_type(authsec_mock.issued, tuple[DelegationToken, ...])
    assert_type(authsec_mock.answered, tuple[str, ...])
    assert_type(authsec_authority.issued, tuple[IssuedToken, ...])
    assert_type(authsec_authority.environ(authsec_authority.register("a")), dict[str, str])
    authsec_no_leaks.watch("my-own-api-key", *authsec_authority.secrets)
    authsec_no_leaks.include({"anything": object()})
    assert_no_secret([b"anything"], "my-own-api-key")
    assert_type(scripted_model("hello", model="gpt-4o"), ScriptedModel)
    AuthSecClient(mock=mock, clock=authsec_clock)
    authsec_clock.advance("1")  # type: ignore[arg-type]
    authsec_mock.register("reports/q3", {"revenue": 12})  # type: ignore[call-arg]


def models() -> None:
    """A script is made of texts, calls, several calls at once, and functions of the request."""

    def decide(body: dict[str, Any]) -> str:
        return str(body["messages"])

    with ScriptedModel("text", call("tool", a=1), [call("tool"), call("other")], decide, model="gpt-4o") as model:
        assert_type(model, ScriptedModel)
        assert_type(model.transcript, str)
        assert_type(model.tool_results, list[str])
        assert_type(model.offered_tools, dict[str, OfferedTool])
    ScriptedModel(1)  # type: ignore[arg-type]


def servers() -> None:
    """A handler is a function from a request to a reply."""

    def answer(request: Request) -> Reply:
        return Reply.of_json({"path": request.path})

    with LoopbackServer(answer) as server:
        assert_type(server.base_url, str)
        assert_type(server.requests, tuple[Request, ...])
    LoopbackServer(lambda request: request.path)  # type: ignore[arg-type, return-value]


class TestSource(TokenSourceContract):
    """A contract is fulfilled by a fixture."""

    refused = "write:metrics"

    @pytest.fixture
    def source(self) -> TokenSource:
        """Return the source."""
        return MockSource(MockAuthority("read:metrics read:records"), client_id=None, audience=None)


class TestAsyncSource(AsyncTokenSourceContract):
    """So is this one."""

    scopes = ("one",)  # type: ignore[assignment]


class TestCache(TokenCacheContract):
    """And this one."""

    @pytest.fixture
    def cache(self, clock: FakeClock) -> TokenCache:
        """Return the cache."""
        return TokenCache(clock=clock)
