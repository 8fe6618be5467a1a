"""The vault's two tools, which every adapter hands to its framework: use a secret unseen, or read one.

The arguments come from a model and are hostile until they have been looked at. Nothing is ever raised for what a model,
a vault or an API does; the text that comes back says it instead. That of `secret_fetch` never holds the secret.
"""

from __future__ import annotations

import hashlib
import logging

from authsec_core._vault_shown import claims_of, credential_of
from authsec_core.errors import AuthSecError, EndpointRefusedError, VaultRequestError
from authsec_core.fetch import FetchResult
from authsec_core.token import Mode, Secret
from authsec_core.vault import AgentVault
from authsec_core.vault_scopes import check_path
from authsec_core.vault_sync import AgentVaultSync
from authsec_core.vault_use import SecretUse
from authsec_core.vault_values import VaultToken

__all__ = [
    "check_agent_name",
    "describe_secret_fetch",
    "describe_vault_secret",
    "hold_token",
    "mark_of_fetch",
    "mark_of_token",
    "secret_fetch",
    "secret_fetch_async",
    "vault_secret_text",
    "vault_secret_text_async",
]

_LONGEST = {"reason": 500, "conversation_id": 200}  # characters
_log = logging.getLogger("authsec.tool")


def secret_fetch(
    vault: AgentVaultSync, use: SecretUse, endpoint: str, reason: str = "", *, conversation_id: str | None = None
) -> str:
    """Fetch data for a model with a secret that it never sees, and return bounded JSON text.

    Args:
        use: Which secret, and at which API.
        endpoint: A path relative to the API.
        reason: The model's own words, for the vault's audit; what is no text in them is left out.
        conversation_id: For the vault's audit.
    """
    try:
        claims = _claims(reason, use.agent_name, conversation_id)
        result = vault.fetch(_checked(endpoint), use, metadata=claims)
    except Exception as exc:  # noqa: BLE001 -- the rim: the model is told and the conversation goes on
        result = _error(exc, vault.mode)
    return result.to_json(limit=use.max_response_bytes)


async def secret_fetch_async(
    vault: AgentVault, use: SecretUse, endpoint: str, reason: str = "", *, conversation_id: str | None = None
) -> str:
    """Do what `secret_fetch` does, without blocking the loop. Cancellation passes through."""
    try:
        claims = _claims(reason, use.agent_name, conversation_id)
        result = await vault.fetch(_checked(endpoint), use, metadata=claims)
    except Exception as exc:  # noqa: BLE001 -- the rim, as above
        result = _error(exc, vault.mode)
    return result.to_json(limit=use.max_response_bytes)


def vault_secret_text(
    vault: AgentVaultSync,
    path: str,
    *,
    token: str | VaultToken | Secret | None,
    reason: str = "",
    agent_name: str | None = None,
    conversation_id: str | None = None,
) -> str:
    """Read a secret for a model: the secret itself as text, or JSON that says why not.

    The model then has the secret, and so has whoever keeps the conversation: `secret_fetch` is the safer way.

    Args:
        path: What the model asked for.
        token: What it may read with; None is the agent's own key.
        reason: The model's own words, for the vault's audit.
        agent_name: The operator's name for the agent, for the audit.
        conversation_id: For the audit.
    """
    try:
        claims = _claims(reason, agent_name, conversation_id)
        return vault.get_secret(_checked_path(path), token=token, metadata=claims).value
    except Exception as exc:  # noqa: BLE001 -- the rim, as above
        return _error(exc, vault.mode).to_json()


async def vault_secret_text_async(
    vault: AgentVault,
    path: str,
    *,
    token: str | VaultToken | Secret | None,
    reason: str = "",
    agent_name: str | None = None,
    conversation_id: str | None = None,
) -> str:
    """Do what `vault_secret_text` does, without blocking the loop. Cancellation passes through."""
    try:
        claims = _claims(reason, agent_name, conversation_id)
        secret = await vault.get_secret(_checked_path(path), token=token, metadata=claims)
        return secret.value
    except Exception as exc:  # noqa: BLE001 -- the rim, as above
        return _error(exc, vault.mode).to_json()


def describe_secret_fetch(use: SecretUse) -> str:
    """Return the tool's description for a model: what it does, what the arguments mean, what is permitted."""
    return (
        "Fetch data from a protected API. The credential is added behind the scenes: never ask for one. 'endpoint' is "
        f"a path relative to the API; 'reason' says in one line what it is for. {use.policy.describe()} The answer is "
        "JSON: status is 'success' with data, or 'error' with a code and a message; do not repeat a call whose error "
        "is not retryable."
    )


def describe_vault_secret() -> str:
    """Return the description of the tool that reads a secret, for a model."""
    return (
        "Read a credential from the vault, such as 'production/openai/api-key', and return it as plain text. 'reason' "
        "says in one line what it is for. An answer that is JSON with status 'error' is no credential; do not repeat a "
        "call whose error is not retryable."
    )


def hold_token(token: str | VaultToken) -> Secret:
    """Return a token that a tool is made with, as what neither a frame nor a copy of the tool shows.

    Raises:
        TypeError: It is not text. None is none: the tool would act with the agent's own key.
        ValueError: It cannot be one.
    """
    held = token.secret if isinstance(token, VaultToken) else Secret(token)
    del token
    return credential_of(held)


def check_agent_name(name: str) -> str:
    """Return an operator's name for an agent, once it is known to fit into the audit.

    Raises:
        ValueError: It is not one line of at most 200 printable characters.
        TypeError: It is not text.
    """
    claims_of({"agent_name": name})
    return name


def mark_of_token(vault: AgentVault | AgentVaultSync, token: Secret) -> str:
    """Return what a tool's name can end in to tell it from those of other tokens: eight hexadecimal digits."""
    return _mark(vault, token())


def mark_of_fetch(vault: AgentVault | AgentVaultSync, use: SecretUse) -> str:
    """Return what a tool's name can end in to tell it from those of other secrets, APIs, policies and agents."""
    token = use.token and use.token()
    return _mark(vault, use.path, use.policy, use.header, use.agent_name, token)


def _mark(vault: AgentVault | AgentVaultSync, *what: object) -> str:
    """Return 32 bits of a digest: too few to give anything of a key or a token away."""
    text = "\n".join(map(str, (vault._parts.identity(), *what)))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _claims(reason: object, agent_name: str | None, conversation_id: object) -> dict[str, str]:
    """Return what goes to the audit: the operator's words as they are, the others as one line of text each."""
    given = {"reason": reason, "conversation_id": conversation_id}
    claims = {name: _line(text, _LONGEST[name]) for name, text in given.items() if isinstance(text, str)}
    return claims if agent_name is None else {**claims, "agent_name": agent_name}


def _line(text: str, longest: int) -> str:
    printable = "".join(character if character.isprintable() else " " for character in text[: 4 * longest])
    return " ".join(printable.split())[:longest]


def _checked(endpoint: object) -> str:
    """Some frameworks hand over whatever the model typed: null, numbers, objects."""
    if not isinstance(endpoint, str):
        raise EndpointRefusedError("The endpoint must be text: a path relative to the API.")
    return endpoint


def _checked_path(path: object) -> str:
    if not isinstance(path, str):
        raise VaultRequestError("The path must be text, such as 'production/openai/api-key'.")
    try:
        return check_path(path)
    except ValueError as exc:
        raise VaultRequestError(f"That is no secret's path: {exc}.") from exc


def _error(exc: Exception, mode: Mode) -> FetchResult:
    if isinstance(exc, AuthSecError):
        _log.info("vault tool: %s %s", mode, exc.code)
        return FetchResult.of_error(exc, mode)
    _log.error("vault tool failed unexpectedly", exc_info=exc)
    return FetchResult(
        status="error",
        mode=mode,
        code="internal_error",
        message="The tool failed: its operator has to look at the log.",
    )
