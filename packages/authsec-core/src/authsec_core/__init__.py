"""authsec: short-lived, scoped delegation tokens for AI agents, in place of static API keys.

The names are loaded when they are first used: importing this package loads no framework, no HTTP and no cryptography.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from authsec_core._version import __version__ as __version__

if TYPE_CHECKING:
    from authsec_core.auth import DelegationAuth
    from authsec_core.cache import TokenCache
    from authsec_core.client import AsyncAuthSecClient, AuthSecClient
    from authsec_core.config import AuthSecConfig
    from authsec_core.endpoints import EndpointPolicy
    from authsec_core.errors import (
        ApprovalRequiredError,
        AuthorityUnreachableError,
        AuthSecError,
        BadReplyError,
        BadSignatureError,
        ConfigurationError,
        DelegationRefusedError,
        DownstreamDeniedError,
        DownstreamError,
        DownstreamUnavailableError,
        EndpointRefusedError,
        ExpiredTokenError,
        InsecureTransportError,
        MalformedTokenError,
        NotYetValidError,
        ProofUnavailableError,
        RevokedTokenError,
        ScopeNotGrantedError,
        ScopeRefusedError,
        SecretNotFoundError,
        TokenRejectedError,
        TokenUnavailableError,
        VaultConflictError,
        VaultError,
        VaultInsecureTransportError,
        VaultRateLimitedError,
        VaultReplyError,
        VaultRequestError,
        VaultScopeDeniedError,
        VaultTokenExhaustedError,
        VaultUnauthorizedError,
        VaultUnavailableError,
        VerificationUnavailableError,
        WrongAudienceError,
        WrongIssuerError,
    )
    from authsec_core.fetch import FetchResult
    from authsec_core.mock import MockAuthority
    from authsec_core.source import AsyncTokenSource, TokenRequest, TokenSource
    from authsec_core.token import DelegationToken
    from authsec_core.vault import AgentVault
    from authsec_core.vault_auth import VaultAuth
    from authsec_core.vault_config import VaultConfig
    from authsec_core.vault_mock import MockVault, VaultAccess
    from authsec_core.vault_sync import AgentVaultSync
    from authsec_core.vault_use import SecretUse
    from authsec_core.vault_values import ImportedSecrets, SecretInfo, VaultSecret, VaultToken
    from authsec_core.verify import TokenVerifier, VerifiedToken

__all__ = [
    "AgentVault",
    "AgentVaultSync",
    "ApprovalRequiredError",
    "AsyncAuthSecClient",
    "AsyncTokenSource",
    "AuthSecClient",
    "AuthSecConfig",
    "AuthSecError",
    "AuthorityUnreachableError",
    "BadReplyError",
    "BadSignatureError",
    "ConfigurationError",
    "DelegationAuth",
    "DelegationRefusedError",
    "DelegationToken",
    "DownstreamDeniedError",
    "DownstreamError",
    "DownstreamUnavailableError",
    "EndpointPolicy",
    "EndpointRefusedError",
    "ExpiredTokenError",
    "FetchResult",
    "ImportedSecrets",
    "InsecureTransportError",
    "MalformedTokenError",
    "MockAuthority",
    "MockVault",
    "NotYetValidError",
    "ProofUnavailableError",
    "RevokedTokenError",
    "ScopeNotGrantedError",
    "ScopeRefusedError",
    "SecretInfo",
    "SecretNotFoundError",
    "SecretUse",
    "TokenCache",
    "TokenRejectedError",
    "TokenRequest",
    "TokenSource",
    "TokenUnavailableError",
    "TokenVerifier",
    "VaultAccess",
    "VaultAuth",
    "VaultConfig",
    "VaultConflictError",
    "VaultError",
    "VaultInsecureTransportError",
    "VaultRateLimitedError",
    "VaultReplyError",
    "VaultRequestError",
    "VaultScopeDeniedError",
    "VaultSecret",
    "VaultToken",
    "VaultTokenExhaustedError",
    "VaultUnauthorizedError",
    "VaultUnavailableError",
    "VerificationUnavailableError",
    "VerifiedToken",
    "WrongAudienceError",
    "WrongIssuerError",
]

_HOMES = {
    "auth": ("DelegationAuth",),
    "cache": ("TokenCache",),
    "client": (
        "AsyncAuthSecClient",
        "AuthSecClient",
    ),
    "config": ("AuthSecConfig",),
    "endpoints": ("EndpointPolicy",),
    "fetch": ("FetchResult",),
    "mock": ("MockAuthority",),
    "source": (
        "AsyncTokenSource",
        "TokenRequest",
        "TokenSource",
    ),
    "token": ("DelegationToken",),
    "vault": ("AgentVault",),
    "vault_auth": ("VaultAuth",),
    "vault_config": ("VaultConfig",),
    "vault_mock": (
        "MockVault",
        "VaultAccess",
    ),
    "vault_sync": ("AgentVaultSync",),
    "vault_use": ("SecretUse",),
    "vault_values": (
        "ImportedSecrets",
        "SecretInfo",
        "VaultSecret",
        "VaultToken",
    ),
    "verify": (
        "TokenVerifier",
        "VerifiedToken",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Load a public name from its module (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME_OF.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
