"""Pytest fixtures for programs that use authsec, registered under `pytest11`.

Loading this module costs nothing: a fixture imports what it needs when it is first used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from authsec_core.testing._chat import Turn
    from authsec_core.testing._clock import FakeClock
    from authsec_core.testing.local_authority import LocalAuthority
    from authsec_core.testing.scripted_model import ScriptedModel

__all__ = ["authsec_authority", "authsec_clock", "authsec_model"]


@pytest.fixture
def authsec_clock() -> FakeClock:
    """A clock that stands still until the test moves it."""
    from authsec_core.testing._clock import FakeClock

    return FakeClock()


@pytest.fixture
def authsec_authority(request: pytest.FixtureRequest) -> Iterator[LocalAuthority]:
    """A running `LocalAuthority`; it goes by `authsec_clock` when the test asks for that too."""
    from authsec_core._clock import SYSTEM_CLOCK
    from authsec_core.testing.local_authority import LocalAuthority

    faked = "authsec_clock" in request.fixturenames
    with LocalAuthority(clock=request.getfixturevalue("authsec_clock") if faked else SYSTEM_CLOCK) as authority:
        yield authority


@pytest.fixture
def authsec_model() -> Iterator[Callable[..., ScriptedModel]]:
    """A function that starts a `ScriptedModel` with the turns that it is given; the test's end closes it."""
    from authsec_core.testing.scripted_model import ScriptedModel

    with ExitStack() as running:

        def start(*turns: Turn, model: str = "gpt-4o") -> ScriptedModel:
            return running.enter_context(ScriptedModel(*turns, model=model))

        yield start
