"""Whose tokens does this gateway accept? What is set decides, and nothing is guessed: a half-set issuer is an error."""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from autogen_ext.models.openai import OpenAIChatCompletionClient
from fastapi import FastAPI

from agent_gateway.app import create_app
from agent_gateway.offline import reply
from agent_gateway.terminal import TerminalSink
from authsec_core.errors import ConfigurationError
from authsec_fastapi import (
    AuditSink,
    AuthSecGuard,
    CombinedSink,
    GuardSettings,
    JsonLinesSink,
    LoggingSink,
    StaticToken,
    TrustedIssuer,
    load_policy,
)
from model import openai_llm

__all__ = ["POLICY", "Gateway", "gateway"]

POLICY: Final = Path(__file__).parent / "policy.yaml"
_ANSWERS: Final = 100_000  # of the model that plays offline, which has to be given each
_NO_ISSUER: Final = ("issuer", "issuers", "audience", "static_token")  # what APP_BEARER_TOKEN takes the place of


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """What was made.

    Attributes:
        mode: Whose tokens it accepts and on which terms, in words.
        model: What plays the model, in words.
        audit: The file with every decision and every run.
        tokens: Of sample callers, by role, if there are any. Not in the repr.
        files: With these tokens, for `curl -H @FILE`.
        revocation: A file by which `curl -K FILE` revokes the one who is `agent`.
        revoke: Revokes one of them, by role.
    """

    app: FastAPI
    mode: str
    model: str
    audit: Path
    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)
    files: Mapping[str, Path] = field(default_factory=dict)
    revocation: Path | None = None
    revoke: Callable[[str], None] | None = None


@contextlib.contextmanager
def gateway(folder: Path, *, policy: Path = POLICY, quiet: bool = False, verbose: bool = False) -> Iterator[Gateway]:
    """Provide the gateway that the environment asks for; `folder` gets its audit, and the files of sample callers.

    Args:
        quiet: Show no decision in the terminal.
        verbose: Log whole events as well.

    Raises:
        ConfigurationError: Something is missing, contradictory or unsafe.
    """
    audit = folder / "audit.jsonl"
    with contextlib.ExitStack() as held:
        who = _caller(held, folder, policy)
        sinks: list[AuditSink] = [JsonLinesSink(audit)]
        sinks += [] if quiet else [TerminalSink(who.names)]
        sinks += [LoggingSink()] if verbose else []
        guard = AuthSecGuard(policy=policy, sink=CombinedSink(*sinks), realm="agent-gateway", **who.trusted)
        llm = held.enter_context(openai_llm(*[reply] * _ANSWERS))
        model = f"{llm['model']} of OpenAI" if os.environ.get("OPENAI_API_KEY") else "a few rules, offline"
        app = create_app(guard, model=OpenAIChatCompletionClient(**llm, timeout=60.0))
        yield Gateway(app=app, audit=audit, model=model, **who.shown)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trust:
    """Whom to trust, what to show of it, and what callers are called."""

    trusted: Mapping[str, Any] = field(repr=False)
    shown: Mapping[str, Any] = field(repr=False)
    names: Mapping[str, str] = field(default_factory=dict)


def _caller(held: contextlib.ExitStack, folder: Path, policy: Path) -> _Trust:
    if "APP_BEARER_TOKEN" in os.environ:
        return _static(policy)
    if any(name.startswith("AUTHSEC_GUARD_") for name in os.environ):
        settings = GuardSettings()
        issuers = settings.trusted_issuers(static_token=None)
        mode = " and ".join(map(_terms, issuers)) or "one static token (AUTHSEC_GUARD_STATIC_TOKEN), for a first try"
        return _Trust(trusted={}, shown={"mode": mode})
    # Only here: a deployment needs no authority beside it.
    from agent_gateway.identities import sample_identities

    sample = held.enter_context(sample_identities())
    shown = {
        "mode": _terms(sample.trusted),
        "tokens": sample.tokens,
        "files": sample.write(folder),
        "revocation": sample.write_revocation(folder, "agent"),
        "revoke": sample.revoke,
    }
    return _Trust(trusted={"issuers": [sample.trusted]}, shown=shown, names=sample.names)


def _static(policy: Path) -> _Trust:
    beside = [name for name in _NO_ISSUER if name in GuardSettings().set_by]
    if beside:
        raise ConfigurationError(
            f"APP_BEARER_TOKEN is set, and so is AUTHSEC_GUARD_{beside[0].upper()}: unset one of them. "
            "A static token is for a first try without an issuer"
        )
    role = os.environ.get("APP_BEARER_ROLE", "agent")
    scopes = os.environ.get("APP_BEARER_SCOPES", "read:orders write:refunds")
    roles = sorted(load_policy(policy).roles)
    if role not in roles:
        near = difflib.get_close_matches(role, roles, n=1)
        mend = f"did you mean {near[0]}?" if near else f"it has {', '.join(roles)}"
        raise ConfigurationError(f"APP_BEARER_ROLE is no role of {policy.name}: {mend}")
    value = os.environ["APP_BEARER_TOKEN"]
    try:
        token = StaticToken(value, scopes=scopes, roles=[role])
    except ConfigurationError as exc:
        raise ConfigurationError(f"APP_BEARER_TOKEN: {exc.message}") from exc
    mode = f"one static token (APP_BEARER_TOKEN), for a first try; who has it is {role}, and may {scopes}"
    return _Trust(trusted={"static_token": token}, shown={"mode": mode, "tokens": {role: value}})


def _terms(issuer: TrustedIssuer) -> str:
    audience = issuer.audience if isinstance(issuer.audience, str) else " or ".join(issuer.audience)
    claim = issuer.roles_claim if isinstance(issuer.roles_claim, str) else ".".join(issuer.roles_claim)
    return f"tokens of {issuer.issuer} for {audience} (aud), whose roles are in {claim}"
