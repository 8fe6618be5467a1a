"""The vault's part of the audit: it has to know each action, or entries would be missing from it."""

from __future__ import annotations

import re
from pathlib import Path

import authsec_server.vault
from authsec_server.vault.trail import VAULT_ACTIONS


def test_every_action_of_the_vault_is_looked_for() -> None:
    """What the vault's modules record is what is shown, and nothing is named twice."""
    folder = Path(authsec_server.vault.__file__).parent
    named = {
        action
        for path in folder.glob("*.py")
        if path.name != "trail.py"
        for action in re.findall(r'"(vault\.[a-z.]+)"', path.read_text(encoding="utf-8"))
    }
    assert set(VAULT_ACTIONS) == named
    assert len(VAULT_ACTIONS) == len(named) > 10
