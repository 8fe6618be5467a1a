"""Whose tokens does this gateway accept? What is set decides, and nothing is guessed: a half-set issuer is an error."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from autogen_ext.models.openai import OpenAIChatCompletionClient
from fastapi import FastAPI

from agent_gateway.app import create_app
from agent_gateway.offline import reply
from authsec_fastapi import AuthSecGuard, CombinedSink, JsonLinesSink, LoggingSink, StaticToken
from model import openai_llm

__all__ = ["POLICY", "Gateway", "gateway"]

POLICY: Final = Path(__file__).parent / "policy.yaml"
_ANSWERS: Final = 100_000  # of the model that plays offline, which has to be given each


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """What was made.

    Attributes:
        mode: In words.
        audit: The file with every decision and every run.
        tokens: Of sample callers, by role, if there are any. Not in the repr.
        files: With these tokens, for `curl -H @FILE`.
        revoke: Revokes one of them.
    """

    app: FastAPI
    mode: str
    audit: Path
    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)
    files: Mapping[str, Path] = field(default_factory=dict)
    revoke: Any = None


@contextlib.contextmanager
def gateway(folder: Path, *, policy: Path = POLICY) -> Iterator[Gateway]:
    """Provide the gateway that the environment asks for; `folder` gets its audit, and the files of sample callers.

    Raises:
        ConfigurationError: Something is missing, contradictory or unsafe.
    """
    audit = folder / "audit.jsonl"
    with contextlib.ExitStack() as held:
        rules: dict[str, Any] = {
            "policy": policy,
            "sink": CombinedSink(JsonLinesSink(audit), LoggingSink()),
            "realm": "agent-gateway",
        }
        made: dict[str, Any] = {}
        static = os.environ.get("APP_BEARER_TOKEN")
        if static is not None:
            # An issuer that is set as well is an error, which the guard knows.
            scopes = os.environ.get("APP_BEARER_SCOPES", "read:orders write:refunds")
            role = os.environ.get("APP_BEARER_ROLE", "agent")
            guard = AuthSecGuard(static_token=StaticToken(static, scopes=scopes, roles=[role]), **rules)
            made = {"mode": "one static token, for a first try", "tokens": {role: static}}
        elif any(name.startswith("AUTHSEC_GUARD_") for name in os.environ):
            guard = AuthSecGuard(**rules)
            made = {"mode": "the issuer that is set"}
        else:
            # Only here: a deployment needs no authority beside it.
            from agent_gateway.identities import sample_identities

            sample = held.enter_context(sample_identities())
            guard = AuthSecGuard(issuers=[sample.trusted], **rules)
            made = {
                "mode": f"an authority of its own at {sample.authority.base_url}",
                "tokens": sample.tokens,
                "files": sample.write(folder),
                "revoke": sample.revoke,
            }
        llm = held.enter_context(openai_llm(*[reply] * _ANSWERS))
        model = OpenAIChatCompletionClient(**llm, timeout=60.0)
        yield Gateway(app=create_app(guard, model=model), audit=audit, **made)
