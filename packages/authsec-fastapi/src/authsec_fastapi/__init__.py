"""Guards FastAPI services, and the agents behind them, with authsec delegation tokens.

The names are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from authsec_fastapi.audit import AuditEvent, AuditSink, LoggingSink
    from authsec_fastapi.authority_sink import AuthoritySink
    from authsec_fastapi.combined_sink import CombinedSink
    from authsec_fastapi.conversations import Conversation, Conversations
    from authsec_fastapi.errors import (
        AccessDeniedError,
        AuditUnavailableError,
        ConversationBusyError,
        ConversationIdError,
        ConversationLimitError,
        CredentialsError,
        TokenMissingError,
    )
    from authsec_fastapi.guard import AuthSecGuard
    from authsec_fastapi.introspection import Introspection
    from authsec_fastapi.issuers import TrustedIssuer
    from authsec_fastapi.json_lines import JsonLinesSink
    from authsec_fastapi.middleware import AuthSecMiddleware
    from authsec_fastapi.policy import Policy, RouteRule, ToolRule
    from authsec_fastapi.policy_file import load_policy
    from authsec_fastapi.principal import Identity, Principal
    from authsec_fastapi.runs import AgentRun
    from authsec_fastapi.settings import GuardSettings
    from authsec_fastapi.static_token import StaticToken

__all__ = [
    "AccessDeniedError",
    "AgentRun",
    "AuditEvent",
    "AuditSink",
    "AuditUnavailableError",
    "AuthSecGuard",
    "AuthSecMiddleware",
    "AuthoritySink",
    "CombinedSink",
    "Conversation",
    "ConversationBusyError",
    "ConversationIdError",
    "ConversationLimitError",
    "Conversations",
    "CredentialsError",
    "GuardSettings",
    "Identity",
    "Introspection",
    "JsonLinesSink",
    "LoggingSink",
    "Policy",
    "Principal",
    "RouteRule",
    "StaticToken",
    "TokenMissingError",
    "ToolRule",
    "TrustedIssuer",
    "load_policy",
]

_HOMES = {
    "AccessDeniedError": "errors",
    "AgentRun": "runs",
    "AuditEvent": "audit",
    "AuditSink": "audit",
    "AuditUnavailableError": "errors",
    "AuthSecGuard": "guard",
    "AuthSecMiddleware": "middleware",
    "AuthoritySink": "authority_sink",
    "CombinedSink": "combined_sink",
    "Conversation": "conversations",
    "ConversationBusyError": "errors",
    "ConversationIdError": "errors",
    "ConversationLimitError": "errors",
    "Conversations": "conversations",
    "CredentialsError": "errors",
    "GuardSettings": "settings",
    "Identity": "principal",
    "Introspection": "introspection",
    "JsonLinesSink": "json_lines",
    "LoggingSink": "audit",
    "Policy": "policy",
    "Principal": "principal",
    "RouteRule": "policy",
    "StaticToken": "static_token",
    "TokenMissingError": "errors",
    "ToolRule": "policy",
    "TrustedIssuer": "issuers",
    "load_policy": "policy_file",
}


def __getattr__(name: str) -> Any:
    """Load a public name from its module (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"authsec_fastapi.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
