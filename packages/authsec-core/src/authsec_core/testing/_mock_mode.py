"""MOCK mode for one test: a process in which every client that is made belongs to the test's authority.

What the environment says is put aside and comes back afterwards. Clients that were made before stay what they are.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from authsec_core import _parts, _vault_parts
from authsec_core._layers import PREFIX, RENAMED
from authsec_core.client import AsyncAuthSecClient, AuthSecClient

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pytest

    from authsec_core._clock import Clock
    from authsec_core.config import AuthSecConfig
    from authsec_core.mock import MockAuthority
    from authsec_core.vault_config import VaultConfig
    from authsec_core.vault_mock import MockVault

__all__ = ["enter_mock_mode", "enter_mock_vault"]

_OTHER_NAMES = frozenset(name for names in RENAMED.values() for name in names)


def enter_mock_mode(monkeypatch: pytest.MonkeyPatch, mock: MockAuthority, clock: Clock | None = None) -> None:
    """Let every client that is made from now on be in MOCK mode and belong to `mock`, unless it is given another.

    Args:
        monkeypatch: Takes all of it back.
        mock: Where tokens and data come from.
        clock: What the clients go by; the system's clock by default.
    """
    _set_nothing_else(monkeypatch)
    original = _parts._mock_authority

    def of_the_test(config: AuthSecConfig, given: MockAuthority | None, clock: Clock) -> MockAuthority:
        mine = given is None and config.resolved_mode == "mock"
        return original(config, mock if mine else given, clock)

    monkeypatch.setattr(_parts, "_mock_authority", of_the_test)
    if clock is not None:
        for defaults in (AuthSecClient.__init__.__kwdefaults__, AsyncAuthSecClient.__init__.__kwdefaults__):
            monkeypatch.setitem(defaults or {}, "clock", clock)


def enter_mock_vault(monkeypatch: pytest.MonkeyPatch, mock: MockVault) -> None:
    """Let every vault that is made from now on be in MOCK mode and be `mock`, unless it is given other secrets."""
    _set_nothing_else(monkeypatch)
    original = _vault_parts.mock_vault

    def of_the_test(config: VaultConfig, given: Mapping[str, str] | MockVault | None, clock: Clock) -> MockVault:
        return original(config, mock if given is None else given, clock)

    monkeypatch.setattr(_vault_parts, "mock_vault", of_the_test)


def _set_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in tuple(os.environ):
        if name.upper().startswith(PREFIX) or name.upper() in _OTHER_NAMES:
            monkeypatch.delenv(name)
    monkeypatch.setenv("AUTHSEC_MODE", "mock")
