"""The vault, for threads. It decides nothing, and differs from `vault` in what it does not await."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, TypeVar

import httpx
from pydantic import SecretStr

from authsec_core import _vault_wire as wire
from authsec_core._clock import SYSTEM_CLOCK, Clock
from authsec_core._driving import Steps, drive
from authsec_core._http import Call, Failure, Reply, send
from authsec_core._pool import Pool
from authsec_core._vault_parts import VaultParts, approved
from authsec_core._vault_shown import hidden
from authsec_core._vault_wire import Asked
from authsec_core.fetch import FetchResult
from authsec_core.token import Mode, Secret
from authsec_core.vault_auth import VaultAuth
from authsec_core.vault_use import SecretUse
from authsec_core.vault_values import ImportedSecrets, SecretInfo, VaultSecret, VaultToken

if TYPE_CHECKING:
    from authsec_core.vault_mock import MockVault

__all__ = ["AgentVaultSync"]

T = TypeVar("T")


class AgentVaultSync:
    """What `AgentVault` is, for threads. It may be shared by them, and a forked child may go on using it.

    Each has connections of its own, which `close` closes.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        agent_key: str | None = None,
        secrets: Mapping[str, str] | MockVault | None = None,
        timeout: float | None = None,
        ca_file: str | Path | None = None,
        env_file: str | Path | None = None,
        transport: httpx.BaseTransport | None = None,
        product: str | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        key = agent_key and SecretStr(agent_key)
        del agent_key  # an error that is raised below may be reported with this frame's locals
        given = {"vault_url": url, "agent_key": key, "timeout": timeout, "ca_file": ca_file, "env_file": env_file}
        self._parts = VaultParts(given, secrets=secrets, product=product, clock=clock)
        self._pool = Pool(self._parts.options, transport)

    @property
    def mode(self) -> Mode:
        """`"live"` or `"mock"`; decided at the start and never changed."""
        return self._parts.mode

    def get_secret(
        self,
        path: str,
        *,
        token: str | VaultToken | Secret | None = None,
        version: int | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> VaultSecret:
        """Read a secret, over the network. See `AgentVault.get_secret`."""
        shown = hidden(token)
        del token
        return self._do(wire.read_secret(path, version, metadata), shown)

    def set_secret(
        self,
        path: str,
        value: str,
        *,
        secret_type: str | None = None,
        access_tier: str | None = None,
        metadata: Mapping[str, str] | None = None,
        token: str | VaultToken | Secret | None = None,
    ) -> SecretInfo:
        """Keep a secret, or its next version. See `AgentVault.set_secret`."""
        held, shown = Secret(value), hidden(token)
        del value, token
        asked = wire.write_secret(path, held, secret_type=secret_type, access_tier=access_tier, metadata=metadata)
        return self._do(asked, shown)

    def delete_secret(self, path: str, *, token: str | VaultToken | Secret | None = None) -> None:
        """Destroy a secret with all of its versions."""
        shown = hidden(token)
        del token
        self._do(wire.remove_secret(path), shown)

    def list_secrets(
        self, namespace: str | None = None, *, token: str | VaultToken | Secret | None = None
    ) -> tuple[SecretInfo, ...]:
        """Return what lies in a namespace and below it. See `AgentVault.list_secrets`."""
        shown = hidden(token)
        del token
        return self._run(self._parts.ask_for_all(namespace, shown))

    def rotate_secret(
        self, path: str, value: str | None = None, *, token: str | VaultToken | Secret | None = None
    ) -> VaultSecret:
        """Make a new version of a secret. See `AgentVault.rotate_secret`."""
        held, shown = None if value is None else Secret(value), hidden(token)
        del value, token
        return self._do(wire.rotate_secret(path, held), shown)

    def import_env(
        self,
        namespace: str,
        content: str,
        *,
        secret_type: str | None = None,
        access_tier: str | None = None,
        metadata: Mapping[str, str] | None = None,
        token: str | VaultToken | Secret | None = None,
    ) -> ImportedSecrets:
        """Keep what a `.env` text holds. See `AgentVault.import_env`."""
        held, shown = Secret(content), hidden(token)
        del content, token
        asked = wire.import_env(namespace, held, secret_type=secret_type, access_tier=access_tier, metadata=metadata)
        return self._do(asked, shown)

    def request_token(
        self,
        scope: str | Iterable[str],
        *,
        ttl_seconds: float = 3600.0,
        description: str | None = None,
        max_uses: int | None = None,
        allowed_ips: Iterable[str] | None = None,
        access_tier: str | None = None,
        approval_id: str | None = None,
    ) -> VaultToken:
        """Ask for a token that reaches some secrets for a while. See `AgentVault.request_token`."""
        asked = wire.request_token(
            scope,
            ttl_seconds=ttl_seconds,
            description=description,
            max_uses=max_uses,
            allowed_ips=allowed_ips,
            access_tier=access_tier,
            approval_id=approval_id,
        )
        return approved(self._run(self._parts.ask_with_key(asked)))

    def revoke_token(self, token: VaultToken | str) -> None:
        """Let a token reach nothing any more. See `AgentVault.revoke_token`."""
        named = Secret(token.token_id if isinstance(token, VaultToken) else token)
        shown = token.secret if isinstance(token, VaultToken) else None
        del token
        self._run(self._parts.ask_to_revoke(wire.revoke_token(named), shown))

    def auth(
        self,
        path: str,
        *,
        header: str = "Authorization",
        prefix: str | None = None,
        token: str | VaultToken | Secret | None = None,
        origins: Iterable[str] | None = None,
        metadata: Mapping[str, str] | None = None,
        cache_seconds: float = 0.0,
    ) -> VaultAuth:
        """Return an `httpx.Auth` for `httpx.Client` that puts a secret on requests. See `VaultAuth`."""
        shown = hidden(token)
        del token
        return VaultAuth(
            partial(self._do, wire.read_secret(path, None, metadata), shown),
            None,
            header=header,
            prefix=prefix,
            origins=origins,
            cache_seconds=cache_seconds,
            allow_http=self._parts.config.allow_http,
            clock=self._parts.clock,
        )

    def fetch(self, endpoint: str, use: SecretUse, *, metadata: Mapping[str, str] | None = None) -> FetchResult:
        """GET an endpoint of the API that a secret is for, with that secret. See `AgentVault.fetch`."""
        grant = use.policy.grant(endpoint)
        secret = self._do(wire.read_secret(use.path, None, metadata), use.token)
        call = use.call(grant.url, secret, deadline=self._parts.deadline())
        answer = send(self._pool.client(), call, self._parts.clock)
        return use.result(answer, secret, self.mode)

    def close(self) -> None:
        """Close the connections. May be called twice."""
        self._pool.close()

    def _do(self, asked: Asked[T], token: Secret | None) -> T:
        return self._run(self._parts.ask(asked, token))

    def _run(self, steps: Steps[T]) -> T:
        self._pool.check_open()
        return drive(steps, self._send, self._parts.clock)

    def _send(self, call: Call) -> Reply | Failure:
        mock = self._parts.mock
        return mock.send(call) if mock is not None else send(self._pool.client(), call, self._parts.clock)

    def __enter__(self) -> AgentVaultSync:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        # The constructor may have failed, and who reports that prints its frames.
        return self._parts.describe("AgentVaultSync") if hasattr(self, "_parts") else "AgentVaultSync()"

    def __reduce__(self) -> NoReturn:
        raise TypeError("AgentVaultSync holds credentials and is not pickled: make one in the other process")

    def __deepcopy__(self, memo: object) -> AgentVaultSync:
        return self
