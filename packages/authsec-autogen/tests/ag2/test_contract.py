"""The contract of the tools for coroutines, on the ag2 that is installed."""

from __future__ import annotations

from json import JSONDecodeError

import ag2  # noqa: F401 - without it there is nothing to test
from coroutine_contract import Conversations, Endings, HostileModels, Identities, evil

__all__ = ["TestConversations", "TestEndings", "TestHostileModels", "TestIdentities", "evil"]


class TestConversations(Conversations):
    """ag2 agents fetch."""


class TestHostileModels(HostileModels):
    """ag2 reads the arguments once more where it writes its history, and breaks off where they are no JSON."""

    breaks_off = (JSONDecodeError, ValueError, RecursionError)


class TestIdentities(Identities):
    """Tools of ag2."""


class TestEndings(Endings):
    """Runs of ag2."""
