"""The commands of the vault: with which settings and credential each is run, and what becomes of its errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from authsec_core._clock import Clock
from authsec_core._version import __version__
from authsec_core.cli._arguments import Arguments
from authsec_core.cli._outcome import InputError, Outcome, error_outcome, input_outcome
from authsec_core.cli._running import run
from authsec_core.cli._secrets import delete_secret, get_secret, list_secrets, rotate_secret, set_secret
from authsec_core.cli._session import Session
from authsec_core.cli._tokens import issue_token, revoke_token
from authsec_core.cli._transfer import export_secrets, import_secrets
from authsec_core.cli._vault_arguments import SecretsArguments, TokensArguments, VaultArguments
from authsec_core.cli._vault_mends import with_command
from authsec_core.cli._vault_token import token_of_file
from authsec_core.errors import AuthSecError
from authsec_core.token import Mode, Secret
from authsec_core.vault_config import VaultConfig
from authsec_core.vault_sync import AgentVaultSync

__all__ = ["vault_command"]

_SECRETS: Final[dict[str, Callable[[Session, SecretsArguments], Outcome]]] = {
    "get": get_secret,
    "set": set_secret,
    "list": list_secrets,
    "delete": delete_secret,
    "rotate": rotate_secret,
    "import": import_secrets,
    "export": export_secrets,
}
_TOKENS: Final[dict[str, Callable[[Session, TokensArguments], Outcome]]] = {
    "issue": issue_token,
    "revoke": revoke_token,
}


def vault_command(arguments: Arguments, typed: VaultArguments, clock: Clock, notify: Callable[[str], None]) -> Outcome:
    """Run one command of the vault and return what came of it."""
    mode: Mode | None = None
    credentials: tuple[Secret, ...] = ()
    by_key = True
    try:
        config = VaultConfig(env_file=arguments.env_file)
        mode = config.resolved_mode
        credentials = tuple(Secret(held.get_secret_value()) for held in (config.key, config.token) if held is not None)
        named = None if isinstance(typed, TokensArguments) else typed.token_file
        token = None if named is None else token_of_file(named)
        credentials += () if token is None else (token,)
        by_key = isinstance(typed, TokensArguments) or (token is None and config.token is None)
        with AgentVaultSync(env_file=arguments.env_file, product=f"authsec-cli/{__version__}", clock=clock) as vault:
            session = Session(
                vault=vault, token=token, by_key=by_key, notify=notify, clock=clock, credentials=credentials
            )
            return _run(session, typed)
    except InputError as exc:
        return input_outcome(exc, mode)
    except AuthSecError as exc:
        return error_outcome(with_command(exc, by_key=by_key), mode, secrets=credentials)


def _run(session: Session, typed: VaultArguments) -> Outcome:
    if isinstance(typed, SecretsArguments):
        return _SECRETS[typed.operation](session, typed)
    if isinstance(typed, TokensArguments):
        return _TOKENS[typed.operation](session, typed)
    return run(session, typed)
