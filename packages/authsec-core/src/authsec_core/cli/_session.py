"""One command's way to the vault: with which settings and credential it is asked, and how its outcomes are made.

A vault token is used where one is named, by `--token-file` or `AUTHSEC_VAULT_TOKEN`, and the agent's key is then not
sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from authsec_core._clock import Clock
from authsec_core.cli._outcome import Kind, Launch, Outcome, Shown, outcome
from authsec_core.token import Secret
from authsec_core.vault_sync import AgentVaultSync
from authsec_core.vault_values import SecretInfo
from authsec_core.wire import format_time

__all__ = ["Session", "counted", "described"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """The vault as one command uses it.

    Attributes:
        token: The vault token of the file that was named; None uses what the settings say.
        by_key: The agent's own key is shown, and no token.
        notify: Told what is being done.
        credentials: What no outcome shows unless it was asked for.
    """

    vault: AgentVaultSync
    token: Secret | None
    by_key: bool
    notify: Callable[[str], None]
    clock: Clock
    credentials: tuple[Secret, ...]

    @property
    def using(self) -> dict[str, Any]:
        """The `token=` of a call, where there is one."""
        return {} if self.token is None else {"token": self.token}

    def done(
        self,
        kind: Kind,
        message: str,
        document: Mapping[str, Any],
        *,
        shown: Shown | None = None,
        launch: Launch | None = None,
    ) -> Outcome:
        """Return the outcome of a command that did what it was asked.

        Args:
            message: One line of it, for people.
            document: What programs are told besides.
        """
        told = {"status": "success", "mode": self.vault.mode, "message": message, **document}
        return outcome(kind, told, failed=False, secrets=self.credentials, shown=shown, launch=launch)


def counted(number: int, what: str) -> str:
    """Return a number of things.

    >>> counted(1, "secret"), counted(2, "secret")
    ('1 secret', '2 secrets')
    """
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def described(info: SecretInfo) -> dict[str, Any]:
    """Return what is known of a secret, for JSON; its value is never among it."""
    return {
        "path": info.path,
        "namespace": info.namespace,
        "key": info.key,
        "version": info.version,
        "secret_type": info.secret_type,
        "access_tier": info.access_tier,
        "metadata": dict(info.metadata),
        "created_at": None if info.created_at is None else format_time(info.created_at),
        "updated_at": None if info.updated_at is None else format_time(info.updated_at),
    }
