"""What the types of the vault's client say to who uses it. Checked by `nox -s types` and never run.

A line with `type: ignore` must be an error: both checkers report an ignore that nothing needs.
"""

from __future__ import annotations

import httpx
from typing_extensions import assert_type

from authsec_core import (
    AgentVault,
    AgentVaultSync,
    ApprovalRequiredError,
    FetchResult,
    ImportedSecrets,
    MockVault,
    SecretInfo,
    SecretUse,
    VaultAuth,
    VaultError,
    VaultRequestError,
    VaultSecret,
    VaultToken,
    VaultUnavailableError,
)


def vaults_are_made_in_three_ways() -> None:
    """From the environment, told, or to play with."""
    assert_type(AgentVaultSync(), AgentVaultSync)
    AgentVaultSync("https://vault.example.com", agent_key="k", timeout=5, ca_file="ca.pem", product="p/1")
    AgentVaultSync(secrets={"a/b": "x"}, transport=httpx.HTTPTransport())
    AgentVault(secrets=MockVault({"a/b": "x"}), transport=httpx.AsyncHTTPTransport())
    AgentVault("https://vault.example.com", "k")  # type: ignore[call-arg]
    AgentVault(transport=httpx.HTTPTransport())  # type: ignore[arg-type]
    AgentVaultSync(secrets=["a/b"])  # type: ignore[arg-type]


async def what_coroutines_return(vault: AgentVault) -> None:
    """Each is awaited."""
    async with vault as entered:
        assert_type(entered, AgentVault)
    token = await vault.request_token(scope="secrets:read:a/*", ttl_seconds=1800, description="d", max_uses=1)
    assert_type(token, VaultToken)
    assert_type(await vault.get_secret("a/b", token=token, metadata={"reason": "r"}), VaultSecret)
    assert_type((await vault.get_secret("a/b", token=token.value, version=1)).value, str)
    assert_type(await vault.list_secrets("a"), tuple[SecretInfo, ...])
    assert_type(await vault.fetch("x", SecretUse.of("a/b", "https://a.example.com")), FetchResult)
    assert_type(vault.auth("a/b", header="X-API-Key"), VaultAuth)
    assert vault.get_secret("a/b").value  # type: ignore[attr-defined]


def what_threads_get(vault: AgentVaultSync, token: VaultToken) -> None:
    """The same, at once."""
    assert_type(vault.request_token(["secrets:read:a/*"], allowed_ips=["10.0.0.0/8"], approval_id="i"), VaultToken)
    assert_type(vault.get_secret("a/b").metadata["owner"], str)
    assert_type(vault.set_secret("a/b", "x", secret_type="api_key"), SecretInfo)  # noqa: S106 -- a kind of secret
    assert_type(vault.rotate_secret("a/b"), VaultSecret)
    assert_type(vault.import_env("a", "A=1"), ImportedSecrets)
    vault.revoke_token(token)
    vault.revoke_token(token.token_id)
    assert_type(token.scopes, frozenset[str])
    assert_type(token.expires_at, float)
    vault.set_secret("a/b", b"x")  # type: ignore[arg-type]
    vault.set_secret("a/b", "x", "api_key")  # type: ignore[call-arg]
    vault.get_secret("a/b", "token")  # type: ignore[call-arg]


def errors(error: VaultError) -> None:
    """What each carries."""
    if isinstance(error, ApprovalRequiredError):
        assert_type(error.approval_id, str | None)
        assert_type(error.good_from, float | None)
    elif isinstance(error, VaultRequestError):
        assert_type(error.lines, tuple[int, ...])
    elif isinstance(error, VaultUnavailableError):
        assert_type(error.retry_after, float | None)
