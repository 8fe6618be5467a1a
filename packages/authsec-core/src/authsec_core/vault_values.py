"""What the vault hands out, as frozen values: a secret, a token for some secrets, and what is said of a secret.

The texts that matter are `.value`; they appear in no `repr`, log or pickle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from authsec_core.token import Secret
from authsec_core.vault_scopes import split_path

__all__ = ["ImportedSecrets", "SecretInfo", "VaultSecret", "VaultToken"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretInfo:
    """What the vault says of a secret without telling it. Immutable; may be shared freely.

    Attributes:
        path: Namespace and key: `production/openai/api-key`.
        version: 1 for the first; each new value has the next one.
        secret_type: `api_key`, `oauth_token`, `db_credential`, `ssh_key`, `certificate`, `payment_credential` or
            `custom`.
        access_tier: `standard`; `sensitive` and `critical` need an approved token.
        metadata: What was said of it when it was written. It is no secret.
        created_at: Epoch seconds; None where the vault does not say.
        updated_at: Likewise.
    """

    path: str
    version: int
    secret_type: str = "custom"  # noqa: S105 -- a kind of secret
    access_tier: str = "standard"
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)
    created_at: float | None = None
    updated_at: float | None = None

    @property
    def namespace(self) -> str:
        """All of the path but its last segment."""
        return split_path(self.path)[0]

    @property
    def key(self) -> str:
        """The path's last segment."""
        return split_path(self.path)[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultSecret(SecretInfo):
    """A secret that was read. The text itself is `value`; hand it to what needs it, and keep it nowhere."""

    secret: Secret

    @property
    def value(self) -> str:
        """The secret, as text."""
        return self.secret()

    def __str__(self) -> str:
        return f"secret {self.path} version {self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultToken:
    """A token that reaches some secrets for a while. Its public name is `token_id`; the text itself is `value`.

    Attributes:
        token_id: Its name in the audit, and what it is revoked by.
        scopes: What it may do, such as `secrets:read:production/*`.
        issued_at: Epoch seconds by this machine's clock: when the request for it was sent.
        expires_at: Epoch seconds by this machine's clock.
    """

    secret: Secret
    token_id: str
    scopes: frozenset[str]
    issued_at: float
    expires_at: float

    @property
    def value(self) -> str:
        """The token, as text. Send it to the vault and nowhere else."""
        return self.secret()

    def __str__(self) -> str:
        return f"vault token {self.token_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedSecrets:
    """What became of an import.

    Attributes:
        namespace: Where the secrets lie now.
        keys: The last segments of their paths, in the order of the text.
        skipped: How many were left out, because they have no value.
    """

    namespace: str
    keys: tuple[str, ...]
    skipped: int = 0
