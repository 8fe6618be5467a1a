"""Pytest fixtures for programs that use authsec, registered under `pytest11`. docs/testing.md shows how to use them.

Loading this module costs nothing: a fixture imports what it needs when it is first used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from authsec_core.testing._chat import Turn
    from authsec_core.testing._clock import FakeClock
    from authsec_core.testing._leaks import LeakScan
    from authsec_core.testing.local_authority import LocalAuthority
    from authsec_core.testing.mock_authority import RecordingMockAuthority
    from authsec_core.testing.scripted_model import ScriptedModel
    from authsec_core.vault_mock import MockVault

__all__ = ["authsec_authority", "authsec_clock", "authsec_mock", "authsec_no_leaks", "mock_vault", "scripted_model"]

_CAPTURES = ("capsys", "capteesys", "capsysbinary", "capfdbinary", "capfd")  # of which a test can have one
_MADE = pytest.StashKey[list[object]]()  # what the fixtures of a test have made, for `authsec_no_leaks`


@pytest.fixture
def authsec_clock() -> FakeClock:
    """A clock that stands still until the test moves it."""
    from authsec_core.testing._clock import FakeClock

    return FakeClock()


@pytest.fixture
def authsec_mock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[RecordingMockAuthority]:
    """A MOCK authority to which every client belongs that the test makes; nothing is set but `AUTHSEC_MODE=mock`.

    Authority and clients go by `authsec_clock` when the test asks for that too.
    """
    from authsec_core.testing._environment_client import no_client_yet
    from authsec_core.testing._mock_mode import enter_mock_mode
    from authsec_core.testing.mock_authority import RecordingMockAuthority

    clock = _clock_of(request)
    mock = RecordingMockAuthority() if clock is None else RecordingMockAuthority(clock=clock)
    _note(request, mock)
    with no_client_yet():
        enter_mock_mode(monkeypatch, mock, clock)
        yield mock


@pytest.fixture
def mock_vault(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[MockVault]:
    """The vault of every `AgentVault` and `AgentVaultSync` that the test makes; `register` puts secrets into it.

    Nothing is set but `AUTHSEC_MODE=mock`. It goes by `authsec_clock` when the test asks for that too.
    """
    from authsec_core._clock import SYSTEM_CLOCK
    from authsec_core.testing._environment_client import no_client_yet
    from authsec_core.testing._mock_mode import enter_mock_vault
    from authsec_core.vault_mock import MockVault

    mock = MockVault(clock=_clock_of(request) or SYSTEM_CLOCK)
    _note(request, mock)
    with no_client_yet():
        enter_mock_vault(monkeypatch, mock)
        yield mock


@pytest.fixture
def authsec_authority(request: pytest.FixtureRequest) -> Iterator[LocalAuthority]:
    """A running `LocalAuthority`; it goes by `authsec_clock` when the test asks for that too."""
    from authsec_core.testing._environment_client import no_client_yet
    from authsec_core.testing.local_authority import LocalAuthority

    clock = _clock_of(request)
    with no_client_yet(), LocalAuthority() if clock is None else LocalAuthority(clock=clock) as authority:
        _note(request, authority)
        yield authority


@pytest.fixture
def scripted_model(request: pytest.FixtureRequest) -> Iterator[Callable[..., ScriptedModel]]:
    """A function that starts a `ScriptedModel` with the turns that it is given; the test's end closes it."""
    from authsec_core.testing.scripted_model import ScriptedModel

    with ExitStack() as running:

        def start(*turns: Turn, model: str = "gpt-4o") -> ScriptedModel:
            started = running.enter_context(ScriptedModel(*turns, model=model))
            _note(request, started)
            return started

        yield start


@pytest.fixture
def authsec_no_leaks(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[LeakScan]:
    """A `LeakScan` that fails the test, at its end, where a token or a key was printed, logged or sent to a model.

    Everything is logged meanwhile, from DEBUG on.
    """
    from authsec_core.testing._leaks import LeakScan

    caplog.set_level("DEBUG")
    name = next((name for name in _CAPTURES if name in request.fixturenames), _CAPTURES[-1])
    capture: pytest.CaptureFixture[Any] = request.getfixturevalue(name)
    scan = LeakScan(_made(request))
    failed_before = request.session.testsfailed
    with scan.listening(capture, monkeypatch):
        yield scan
    if request.session.testsfailed == failed_before:  # else the reason of that would be buried under ours
        scan.check()


def _clock_of(request: pytest.FixtureRequest) -> FakeClock | None:
    faked = "authsec_clock" in request.fixturenames
    return request.getfixturevalue("authsec_clock") if faked else None


def _made(request: pytest.FixtureRequest) -> list[object]:
    item: pytest.Item = request.node
    return item.stash.setdefault(_MADE, [])


def _note(request: pytest.FixtureRequest, thing: object) -> None:
    _made(request).append(thing)
