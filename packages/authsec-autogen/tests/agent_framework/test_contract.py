"""The contract of the tools for coroutines, on the Microsoft Agent Framework that is installed."""

from __future__ import annotations

import json

import agent_framework  # noqa: F401 - without it there is nothing to test
from coroutine_contract import Conversations, Endings, HostileModels, Identities, evil

__all__ = ["TestConversations", "TestEndings", "TestHostileModels", "TestIdentities", "evil"]


class TestConversations(Conversations):
    """Its agents fetch."""


class TestHostileModels(HostileModels):
    """The framework has a refusal of its own, and breaks off where JSON has numbers or depths that Python refuses."""

    breaks_off = (ValueError, RecursionError)

    def refused(self, text: str) -> bool:
        """Return whether the framework refused the arguments, or our tool the call."""
        return text == "Error: Argument parsing failed." or bool(json.loads(text)["status"] == "error")


class TestIdentities(Identities):
    """Tools of the framework."""


class TestEndings(Endings):
    """Runs of the framework."""
