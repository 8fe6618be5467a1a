"""What was typed after `secrets`, `tokens` and `run`, as values."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, TypeAlias

__all__ = [
    "RunArguments",
    "SecretsArguments",
    "TokensArguments",
    "VaultArguments",
    "take_vault",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretsArguments:
    """What was typed after `secrets`.

    Attributes:
        operation: `get`, `set`, `list`, `delete`, `rotate`, `import` or `export`.
        namespace: Of `list` (None: all that there is), `import` and `export`.
        reveal: Show the value.
        out: The file for it; None where none was named.
        exact: Keep the line end that stdin ends in.
        generate: Let the vault make up the value.
        yes: Do not ask back.
        source: The file to import; `-` is stdin.
    """

    operation: str
    path: str = ""
    namespace: str | None = None
    version: int | None = None
    reveal: bool = False
    out: Path | None = None
    exact: bool = False
    generate: bool = False
    yes: bool = False
    secret_type: str | None = None
    access_tier: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    source: Path = Path("-")
    form: str = "dotenv"
    token_file: Path | None = None
    agent_name: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokensArguments:
    """What was typed after `tokens`.

    Attributes:
        operation: `issue` or `revoke`.
        ttl: How long it shall live, in seconds; None leaves that to the vault.
        approval_id: Collect the token of a request that was made before.
        wait: How long to wait for an approval, in seconds; None does not wait.
        out: The file for the token; None prints it.
    """

    operation: str
    scopes: tuple[str, ...] = ()
    ttl: float | None = None
    max_uses: int | None = None
    allowed_ips: tuple[str, ...] = ()
    description: str | None = None
    access_tier: str | None = None
    approval_id: str | None = None
    wait: float | None = None
    out: Path | None = None
    token_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunArguments:
    """What was typed after `run`.

    Attributes:
        variables: Names of the environment, each with a secret's path.
        keep_key: Leave the program the agent's own credentials.
        program: The program and its arguments.
    """

    variables: tuple[tuple[str, str], ...] = ()
    keep_key: bool = False
    program: tuple[str, ...] = ()
    token_file: Path | None = None
    agent_name: str | None = None
    reason: str | None = None


VaultArguments: TypeAlias = SecretsArguments | TokensArguments | RunArguments
_KINDS: Final[dict[str, type[VaultArguments]]] = {
    "secrets": SecretsArguments,
    "tokens": TokensArguments,
    "run": RunArguments,
}


def take_vault(typed: dict[str, Any]) -> VaultArguments | None:
    """Return what was typed for the vault, and take it out of `typed`; None for the other commands."""
    kind = _KINDS.get(typed["command"])
    if kind is None:
        return None
    own: dict[str, Any] = {}
    for field in fields(kind):
        if field.name in typed:
            value = typed.pop(field.name)
            own[field.name] = tuple(value) if isinstance(value, list) else value
    return kind(**own)
