"""A vault on 127.0.0.1: what a `MockVault` would say, over HTTP, to clients that are in LIVE mode.

What it keeps and whom it refuses is the `MockVault`'s to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from authsec_core._clock import SYSTEM_CLOCK, Clock
from authsec_core.testing._http import Reply, Request
from authsec_core.testing._loopback import LoopbackServer
from authsec_core.vault_mock import MockVault, VaultAccess

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

__all__ = ["LocalVault"]


class LocalVault:
    """Serve a `MockVault` on a free port of 127.0.0.1.

    Args:
        secrets: Path -> value.
        scopes: What the agent's own key may do.
        clock: What tokens end by.

    >>> with LocalVault({"production/openai/api-key": "sk-sample"}) as vault:
    ...     sorted(vault.environ())
    ['AUTHSEC_AGENT_KEY', 'AUTHSEC_VAULT_URL']
    """

    def __init__(
        self,
        secrets: Mapping[str, str] | None = None,
        *,
        scopes: str = "secrets:*:*",
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.mock: MockVault = MockVault(secrets, scopes=scopes, clock=clock)
        self._server = LoopbackServer(self._answer)

    @property
    def base_url(self) -> str:
        """The server's root, for `AUTHSEC_VAULT_URL`."""
        return self._server.base_url

    @property
    def agent_key(self) -> str:
        """The agent's own key."""
        return self.mock.agent_key()

    @property
    def accesses(self) -> tuple[VaultAccess, ...]:
        """All that was asked so far, in order."""
        return self.mock.accesses

    @property
    def requests(self) -> tuple[Request, ...]:
        """Every request as it came in."""
        return self._server.requests

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every key, token and secret that there was, for `assert_no_secret`."""
        return self.mock.secrets

    def environ(self) -> dict[str, str]:
        """Return the variables that make this the vault of an agent."""
        return {"AUTHSEC_VAULT_URL": self.base_url, "AUTHSEC_AGENT_KEY": self.agent_key}

    def start(self) -> LocalVault:
        """Listen; after `close`, on the same port and with everything remembered."""
        self._server.start()
        return self

    def close(self) -> None:
        """Stop listening: clients then find the connection refused. Harmless when closed."""
        self._server.close()

    def __enter__(self) -> LocalVault:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.__exit__(kind, error, trace)

    def _answer(self, request: Request) -> Reply:
        reply = self.mock.answer(request.method, request.path, dict(request.query), request.headers, request.body)
        return Reply(status=reply.status, headers=dict(reply.headers), body=reply.body)
