"""What the types of `authsec_autogen` say, AutoGen 0.2 having none itself. Checked by `nox -s types` and never run."""

from __future__ import annotations

from typing_extensions import assert_type

from authsec_autogen import (
    AuthSecClient,
    AuthSecConfig,
    fetch_secure_data,
    make_audited_vault_tool,
    make_secret_fetch,
    make_secure_fetch,
    make_vault_tool,
    register_secret_fetch,
    register_secure_fetch,
    register_vault_tool,
)
from authsec_autogen.classic import AsyncSecureFetch, AuthSecAutoGenWarning, SecureFetch
from authsec_autogen.secret_fetch import AsyncSecretFetch, SecretFetch
from authsec_autogen.vault import AuditedVaultTool, VaultTool
from authsec_core import AgentVault, AgentVaultSync, AsyncAuthSecClient, VaultToken


def functions() -> None:
    """Two texts go in and one comes out."""
    assert_type(fetch_secure_data("a", "read:a"), str)
    assert_type(fetch_secure_data(endpoint="a", scope="read:a"), str)
    fetch_secure_data("a")  # type: ignore[call-arg]
    fetch_secure_data("a", ["read:a"])  # type: ignore[arg-type]


async def the_client_decides_what_is_made() -> None:
    """A function for one kind of client, a coroutine function for the other."""
    assert_type(make_secure_fetch(), SecureFetch)
    assert_type(make_secure_fetch(AuthSecClient(AuthSecConfig()), per_call=True, name="fetch"), SecureFetch)
    made = make_secure_fetch(AsyncAuthSecClient())
    assert_type(made, AsyncSecureFetch)
    assert_type(await made("a", "read:a"), str)
    make_secure_fetch("client")  # type: ignore[call-overload]
    make_secure_fetch(AuthSecClient(), True)  # type: ignore[call-overload]


def registration(client: AuthSecClient) -> None:
    """It returns the tool's name, and takes nothing by position."""
    import autogen

    caller = autogen.AssistantAgent("assistant")
    executor = autogen.UserProxyAgent("proxy")
    assert_type(register_secure_fetch(caller=caller, executor=executor), str)
    register_secure_fetch(
        caller=caller, executor=executor, client=client, name="fetch", description="Fetches.", per_call=True
    )
    register_secure_fetch(caller, executor)  # type: ignore[call-arg]
    register_secure_fetch(caller=caller)  # type: ignore[call-arg]
    register_secure_fetch(caller=caller, executor=executor, client="client")  # type: ignore[arg-type]


async def vault_tools(vault: AgentVault, token: VaultToken) -> None:
    """A token is text or what was returned for it; the tools are coroutine functions of texts."""
    assert_type(make_vault_tool(vault_token=token.value), VaultTool)
    assert_type(await make_vault_tool(token, vault=vault)("a/b"), str)
    audited = make_audited_vault_tool(vault_token=token, agent_name="researcher")
    assert_type(audited, AuditedVaultTool)
    assert_type(await audited("a/b", reason="to see"), str)
    make_vault_tool(None)  # type: ignore[arg-type]
    make_audited_vault_tool("vlt_x")  # type: ignore[call-arg]


async def secret_fetches(vault: AgentVault, sync: AgentVaultSync, token: VaultToken) -> None:
    """The vault decides what is made."""
    assert_type(make_secret_fetch("a/b", base_url="https://a.example"), SecretFetch)
    assert_type(make_secret_fetch("a/b", base_url="https://a.example", vault=sync, token=token), SecretFetch)
    made = make_secret_fetch("a/b", base_url="https://a.example", vault=vault, header="X-Key", prefix="")
    assert_type(made, AsyncSecretFetch)
    assert_type(await made("search", reason="to see"), str)
    make_secret_fetch("a/b")  # type: ignore[call-overload]


def registrations(vault: AgentVault, token: VaultToken) -> None:
    """They return the tools' names."""
    import autogen

    caller = autogen.AssistantAgent("assistant")
    executor = autogen.UserProxyAgent("proxy")
    assert_type(register_vault_tool(caller=caller, executor=executor, vault_token=token, vault=vault), str)
    assert_type(
        register_secret_fetch(
            caller=caller, executor=executor, path="a/b", base_url="https://a.example", allowed_endpoints=["search"]
        ),
        str,
    )
    register_vault_tool(caller=caller, executor=executor)  # type: ignore[call-arg]


warning: type[UserWarning] = AuthSecAutoGenWarning
