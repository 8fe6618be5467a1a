"""`authsec secrets get|set|list|delete|rotate`. A value is shown to nobody but who says `--reveal`."""

from __future__ import annotations

from typing import Any

from authsec_core._vault_words import of_secret, scope_denied
from authsec_core.cli._outcome import InputError, Outcome, Shown
from authsec_core.cli._session import Session, counted, described
from authsec_core.cli._streams import confirm, read_value, require_absent, write_new
from authsec_core.cli._vault_arguments import SecretsArguments
from authsec_core.errors import SecretNotFoundError, VaultScopeDeniedError
from authsec_core.token import Secret
from authsec_core.vault_scopes import split_path
from authsec_core.vault_values import VaultSecret

__all__ = ["claims", "delete_secret", "get_secret", "kept", "list_secrets", "rotate_secret", "set_secret"]


def get_secret(session: Session, arguments: SecretsArguments) -> Outcome:
    """Return what is known of a secret; read it only where its value is wanted, so that each use is on record."""
    if not (arguments.reveal or arguments.out):
        return _looked_up(session, arguments)
    require_absent(arguments.out)
    session.notify("Reading the secret")
    secret = session.vault.get_secret(
        arguments.path, version=arguments.version, metadata=claims(arguments, "authsec secrets get"), **session.using
    )
    return _handed_over(session, arguments, secret, f"version {secret.version} of {secret.path}")


def set_secret(session: Session, arguments: SecretsArguments) -> Outcome:
    """Store a value from stdin or a prompt as the next version."""
    value = read_value(arguments.path, exact=arguments.exact)
    session.notify("Storing the secret")
    stored = session.vault.set_secret(arguments.path, value(), **kept(arguments), **session.using)
    return session.done("secret", f"{stored.path} is stored as version {stored.version}", {"secret": described(stored)})


def list_secrets(session: Session, arguments: SecretsArguments) -> Outcome:
    """Return which secrets there are."""
    session.notify("Asking what there is")
    found = session.vault.list_secrets(arguments.namespace, **session.using)
    document = {"namespace": arguments.namespace, "secrets": [described(info) for info in found]}
    return session.done("secrets", counted(len(found), "secret"), document)


def delete_secret(session: Session, arguments: SecretsArguments) -> Outcome:
    """Delete a secret with all its versions, once somebody has said so."""
    if not (arguments.yes or confirm(f"Delete {arguments.path} with all its versions, for good?")):
        raise InputError("nothing was deleted")
    session.notify("Deleting the secret")
    session.vault.delete_secret(arguments.path, **session.using)
    return session.done("done", f"{arguments.path} is deleted with all its versions", {"deleted": arguments.path})


def rotate_secret(session: Session, arguments: SecretsArguments) -> Outcome:
    """Replace the value: by one from stdin or a prompt, or by one that the vault makes up."""
    require_absent(arguments.out)
    value = None if arguments.generate else read_value(arguments.path, exact=arguments.exact)
    session.notify("Rotating the secret")
    rotated = session.vault.rotate_secret(arguments.path, None if value is None else value(), **session.using)
    return _handed_over(session, arguments, rotated, f"{rotated.path} is now version {rotated.version}")


def claims(arguments: Any, what: str) -> dict[str, str]:
    """Return what the audit shall quote of a read.

    Args:
        what: The reason, where none was typed.
    """
    named = {"agent_name": arguments.agent_name} if arguments.agent_name else {}
    return {**named, "reason": arguments.reason or what}


def kept(arguments: SecretsArguments) -> dict[str, Any]:
    """Return what was typed of all that is kept beside a value."""
    typed = {
        "secret_type": arguments.secret_type,
        "access_tier": arguments.access_tier,
        "metadata": dict(arguments.metadata) or None,
    }
    return {name: value for name, value in typed.items() if value is not None}


def _looked_up(session: Session, arguments: SecretsArguments) -> Outcome:
    if arguments.version is not None:
        raise InputError("--version names a value to read: say --reveal or --out FILE as well")
    session.notify("Asking what is known of it")
    try:
        found = session.vault.list_secrets(split_path(arguments.path)[0], **session.using)
    except VaultScopeDeniedError as exc:  # it is about the list; nobody asked for one
        words = of_secret("read", arguments.path)
        raise VaultScopeDeniedError(scope_denied(words, by_key=session.by_key), scopes=frozenset(words.scopes)) from exc
    for info in found:
        if info.path == arguments.path:
            return session.done("secret", "the value is hidden: --reveal shows it", {"secret": described(info)})
    raise SecretNotFoundError(f"There is no secret {arguments.path}: authsec secrets list shows which there are.")


def _handed_over(session: Session, arguments: SecretsArguments, secret: VaultSecret, message: str) -> Outcome:
    document: dict[str, Any] = {"secret": described(secret)}
    value = Secret(secret.value)
    if arguments.out is not None:
        write_new(arguments.out, value)
        return session.done(
            "secret", f"{message}, its value in {arguments.out}", {**document, "out": str(arguments.out)}
        )
    shown = Shown(member="value", value=value) if arguments.reveal else None
    return session.done("secret", message, document, shown=shown)
