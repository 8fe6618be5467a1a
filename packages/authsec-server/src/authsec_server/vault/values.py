"""What a secret is, with and without its value, and what may be written as one. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from authsec_core.vault_scopes import split_path
from authsec_core.wire import is_plain
from authsec_server.errors import InvalidRequestError
from authsec_server.vault.policy import AccessTier

__all__ = [
    "LARGEST_VALUE",
    "MOST_VERSIONS",
    "Listing",
    "Secret",
    "SecretInfo",
    "SecretType",
    "Wanted",
    "check_metadata",
    "check_value",
]

SecretType = Literal[
    "api_key", "oauth_token", "db_credential", "ssh_key", "certificate", "payment_credential", "custom"
]

LARGEST_VALUE: Final = 65536  # bytes of UTF-8
MOST_VERSIONS: Final = 100  # that are kept of one secret
_MOST_METADATA: Final = 32
_LONGEST_NAME: Final = 64  # characters
_LONGEST_TEXT: Final = 256
_LARGEST_METADATA: Final = 4096  # bytes of UTF-8, of names and texts together: each list has them


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretInfo:
    """One version of a secret, without its value.

    Attributes:
        access_tier: The stricter one of what the secret has now and what this version was written under.
        metadata: Not secret: it is shown to everyone who may list.
        created_at: When the secret came into being, in epoch seconds.
        updated_at: When this version was written.
    """

    path: str
    secret_id: str
    version: int
    secret_type: str
    access_tier: AccessTier
    metadata: Mapping[str, str]
    created_at: float
    updated_at: float

    @property
    def namespace(self) -> str:
        """Where it lies."""
        return split_path(self.path)[0]

    @property
    def key(self) -> str:
        """What it is called there."""
        return split_path(self.path)[1]


@dataclass(frozen=True, slots=True)
class Secret:
    """One version of a secret, opened."""

    info: SecretInfo
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Listing:
    """What of a namespace may be seen.

    Attributes:
        next: After which path to go on; None where this is all.
    """

    namespace: str
    items: tuple[SecretInfo, ...]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a secret is to be. None is as it is now, and of a new one what is usual."""

    value: str = field(repr=False)
    secret_type: SecretType | None = None
    access_tier: AccessTier | None = None
    metadata: Mapping[str, str] | None = None


def check_value(value: str, *, field: str = "value") -> str:
    """Return a value that can be kept.

    Raises:
        InvalidRequestError: It is empty, too large, or no Unicode. It is not quoted.
    """
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        size = 0
    if not 1 <= size <= LARGEST_VALUE:
        raise InvalidRequestError(f"{field} must be text of 1 to {LARGEST_VALUE} bytes", field=field)
    return value


def check_metadata(metadata: Mapping[str, str]) -> Mapping[str, str]:
    """Return metadata that can be kept.

    Raises:
        InvalidRequestError: There is too much of it, or it has characters that cannot be seen.
    """
    fits = len(metadata) <= _MOST_METADATA and all(
        0 < len(name) <= _LONGEST_NAME and len(text) <= _LONGEST_TEXT and is_plain(name) and is_plain(text)
        for name, text in metadata.items()
    )
    if not fits or sum(len(name.encode()) + len(text.encode()) for name, text in metadata.items()) > _LARGEST_METADATA:
        raise InvalidRequestError(
            f"metadata may have {_MOST_METADATA} members, with names of at most {_LONGEST_NAME} and texts of at most "
            f"{_LONGEST_TEXT} visible characters, and {_LARGEST_METADATA} bytes in all",
            field="metadata",
        )
    return metadata
