"""The vault, for agents: a secret at the moment that it is needed, under a token that reaches nothing else.

`AgentVault` is for coroutines, `AgentVaultSync` for threads. They decide nothing and differ in what they await; what
they are made of is put together in `_vault_parts`.
"""

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
from authsec_core._driving import Steps, drive_async
from authsec_core._http import Call, Failure, Reply, send_async
from authsec_core._vault_parts import VaultParts, approved
from authsec_core._vault_pool import shared_pool
from authsec_core._vault_shown import hidden
from authsec_core._vault_wire import Asked
from authsec_core.fetch import FetchResult
from authsec_core.token import Mode, Secret
from authsec_core.vault_auth import VaultAuth
from authsec_core.vault_sync import AgentVaultSync
from authsec_core.vault_use import SecretUse
from authsec_core.vault_values import ImportedSecrets, SecretInfo, VaultSecret, VaultToken

if TYPE_CHECKING:
    from authsec_core.vault_mock import MockVault

__all__ = ["AgentVault", "AgentVaultSync"]

T = TypeVar("T")


class AgentVault:
    """The vault, for coroutines. Constructing it opens no connection. One serves any number of event loops.

    ```python
    async with AgentVault() as vault:
        secret = await vault.get_secret("production/openai/api-key")
    ```

    Vaults of the same settings share their connections: it costs little to make one for each call.

    `AgentVault()` reads the environment: `AUTHSEC_VAULT_URL` (or `AUTHSEC_BASE_URL`) and `AUTHSEC_AGENT_KEY`, or
    `ASS_API_URL` and `ASS_AGENT_KEY`. A key goes to no other origin than the one that it was given for. Nor does
    the token of `AUTHSEC_VAULT_TOKEN`, which is shown instead of the key wherever a call names no other.

    Args:
        url: The vault's root, such as `https://vault.example.com`.
        agent_key: The agent's own key. What is asked with a token goes without it.
        secrets: MOCK mode: path -> value, or a `MockVault` to share.
        timeout: Seconds for one call, all of it.
        ca_file: A PEM file of the certificate authorities to trust instead of the usual ones.
        env_file: A `.env` file to read settings from; the environment wins over it.
        transport: An httpx transport to send everything through; it stays the caller's to close.
        product: Named in the `User-Agent`, as `name/version`.

    Raises:
        ConfigurationError: The settings are missing, wrong or unsafe.

    Each method raises a `VaultError`, by what to do next; `ConfigurationError` where it needs the agent's own key and
    there is none; `ValueError` where a path, a scope or a number is none; and `RuntimeError` once the vault is closed.
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
        transport: httpx.AsyncBaseTransport | None = None,
        product: str | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        key = agent_key and SecretStr(agent_key)
        del agent_key  # an error that is raised below may be reported with this frame's locals
        given = {"vault_url": url, "agent_key": key, "timeout": timeout, "ca_file": ca_file, "env_file": env_file}
        self._parts = VaultParts(given, secrets=secrets, product=product, clock=clock)
        self._pool = shared_pool(self._parts, transport)
        self._closed = False

    @property
    def mode(self) -> Mode:
        """`"live"` or `"mock"`; decided at the start and never changed."""
        return self._parts.mode

    async def get_secret(
        self,
        path: str,
        *,
        token: str | VaultToken | Secret | None = None,
        version: int | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> VaultSecret:
        """Read a secret, over the network. Each read is on record.

        Args:
            path: Namespace and key, such as `production/openai/api-key`.
            token: What to read it with; by default `AUTHSEC_VAULT_TOKEN`, or else the agent's own key.
            version: Of an earlier one; the latest by default.
            metadata: What the agent says of itself, for the audit: `agent_name`, `reason`, `conversation_id`.
        """
        shown = hidden(token)
        del token
        return await self._do(wire.read_secret(path, version, metadata), shown)

    async def set_secret(
        self,
        path: str,
        value: str,
        *,
        secret_type: str | None = None,
        access_tier: str | None = None,
        metadata: Mapping[str, str] | None = None,
        token: str | VaultToken | Secret | None = None,
    ) -> SecretInfo:
        """Keep a secret, or its next version.

        Args:
            value: 1 byte to 64 KiB of text.
            secret_type: Such as `api_key`.
            access_tier: `standard`, `sensitive` or `critical`.
            metadata: What people should know of it. It is no secret, and is shown in lists.
        """
        held, shown = Secret(value), hidden(token)
        del value, token
        asked = wire.write_secret(path, held, secret_type=secret_type, access_tier=access_tier, metadata=metadata)
        return await self._do(asked, shown)

    async def delete_secret(self, path: str, *, token: str | VaultToken | Secret | None = None) -> None:
        """Destroy a secret with all of its versions."""
        shown = hidden(token)
        del token
        await self._do(wire.remove_secret(path), shown)

    async def list_secrets(
        self, namespace: str | None = None, *, token: str | VaultToken | Secret | None = None
    ) -> tuple[SecretInfo, ...]:
        """Return what lies in a namespace and below it, without the values. None is the whole vault."""
        shown = hidden(token)
        del token
        return await self._run(self._parts.ask_for_all(namespace, shown))

    async def rotate_secret(
        self, path: str, value: str | None = None, *, token: str | VaultToken | Secret | None = None
    ) -> VaultSecret:
        """Make a new version of a secret: of this value, or of one that the vault makes up."""
        held, shown = None if value is None else Secret(value), hidden(token)
        del value, token
        return await self._do(wire.rotate_secret(path, held), shown)

    async def import_env(
        self,
        namespace: str,
        content: str,
        *,
        secret_type: str | None = None,
        access_tier: str | None = None,
        metadata: Mapping[str, str] | None = None,
        token: str | VaultToken | Secret | None = None,
    ) -> ImportedSecrets:
        """Keep what a `.env` text holds, whole or not at all.

        Raises:
            VaultRequestError: Some lines cannot be read; `lines` has their numbers.
        """
        held, shown = Secret(content), hidden(token)
        del content, token
        asked = wire.import_env(namespace, held, secret_type=secret_type, access_tier=access_tier, metadata=metadata)
        return await self._do(asked, shown)

    async def request_token(
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
        """Ask for a token that reaches some secrets for a while. It takes the agent's own key.

        Args:
            scope: Such as `secrets:read:production/search/*`; several in a list, or separated by spaces.
            ttl_seconds: How long it is to live.
            description: For the people who read the audit.
            max_uses: How often it can be used; any number by default.
            allowed_ips: The only addresses or networks that it can be used from.
            access_tier: Ask for consent up to this tier, even where nothing that the scopes reach has it now.
            approval_id: Of an earlier call with this scope, once that has been approved; the token is the one that was
                asked for then.

        Raises:
            ApprovalRequiredError: Somebody has to approve first.
        """
        asked = wire.request_token(
            scope,
            ttl_seconds=ttl_seconds,
            description=description,
            max_uses=max_uses,
            allowed_ips=allowed_ips,
            access_tier=access_tier,
            approval_id=approval_id,
        )
        return approved(await self._run(self._parts.ask_with_key(asked)))

    async def revoke_token(self, token: VaultToken | str) -> None:
        """Let a token reach nothing any more, from now on. It takes the agent's own key, or the very token.

        Args:
            token: The token that `request_token` returned, or its `token_id`; never the text of one.
        """
        named = Secret(token.token_id if isinstance(token, VaultToken) else token)
        shown = token.secret if isinstance(token, VaultToken) else None
        del token
        await self._run(self._parts.ask_to_revoke(wire.revoke_token(named), shown))

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
        """Return an `httpx.Auth` for `httpx.AsyncClient` that puts a secret on requests. See `VaultAuth`."""
        shown = hidden(token)
        del token
        return VaultAuth(
            None,
            partial(self._do, wire.read_secret(path, None, metadata), shown),
            header=header,
            prefix=prefix,
            origins=origins,
            cache_seconds=cache_seconds,
            allow_http=self._parts.config.allow_http,
            clock=self._parts.clock,
        )

    async def fetch(self, endpoint: str, use: SecretUse, *, metadata: Mapping[str, str] | None = None) -> FetchResult:
        """GET an endpoint of the API that a secret is for, with that secret, and return its data.

        The policy is asked first, then the vault, then the API; each may refuse.

        Args:
            endpoint: A path relative to the API.
            use: Which secret, and at which API.
            metadata: What the agent says of itself, for the audit.

        Raises:
            EndpointRefusedError: The policy does not allow the endpoint; nothing was read.
            VaultError: The secret cannot be had; the API was not called.
            DownstreamError: The API refused, failed or answered with something unusable.
        """
        grant = use.policy.grant(endpoint)
        secret = await self._do(wire.read_secret(use.path, None, metadata), use.token)
        call = use.call(grant.url, secret, deadline=self._parts.deadline())
        answer = await send_async(await self._pool.client(self), call, self._parts.clock)
        return use.result(answer, secret, self.mode)

    async def release(self) -> None:
        """Close the running loop's connections where nobody else uses them; the vault stays usable, here too.

        For a loop that is about to be closed without `shutdown_asyncgens`, as AutoGen's are: `asyncio.run` needs none.
        While other tasks run, the loop goes on, and the connections stay.
        """
        await self._pool.leave(self, keep=True)

    async def aclose(self) -> None:
        """Close the running loop's connections, unless another vault uses them. May be called twice."""
        await self._leave(keep=False)

    async def _leave(self, *, keep: bool) -> None:
        self._closed = True
        await self._pool.leave(self, keep=keep)

    async def _do(self, asked: Asked[T], token: Secret | None) -> T:
        return await self._run(self._parts.ask(asked, token))

    async def _run(self, steps: Steps[T]) -> T:
        if self._closed:
            raise RuntimeError("this vault is closed: make a new one")
        return await drive_async(steps, self._send, self._parts.clock)

    async def _send(self, call: Call) -> Reply | Failure:
        mock = self._parts.mock
        if mock is not None:
            return mock.send(call)
        return await send_async(await self._pool.client(self), call, self._parts.clock)

    async def __aenter__(self) -> AgentVault:
        self._pool.enter(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._leave(keep=True)

    def __repr__(self) -> str:
        # The constructor may have failed, and who reports that prints its frames.
        return self._parts.describe("AgentVault") if hasattr(self, "_parts") else "AgentVault()"

    def __reduce__(self) -> NoReturn:
        raise TypeError("AgentVault holds credentials and is not pickled: make one in the other process")

    def __deepcopy__(self, memo: object) -> AgentVault:
        return self
