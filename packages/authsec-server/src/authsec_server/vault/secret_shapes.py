"""What is sent to the vault's secrets, and what they answer, as OpenAPI describes it. No value is in a repr."""

from __future__ import annotations

from typing import Annotated

from pydantic import AliasChoices, Field, StringConstraints

from authsec_core.vault_scopes import LONGEST_PATH
from authsec_server import shapes
from authsec_server.vault.policy import AccessTier
from authsec_server.vault.values import LARGEST_VALUE, SecretType

__all__ = [
    "EnvFile",
    "ImportReply",
    "ListedSecret",
    "NewSecret",
    "NewValue",
    "RotatedSecret",
    "SecretList",
    "SecretReply",
    "WrittenSecret",
]

Value = Annotated[str, StringConstraints(min_length=1, max_length=LARGEST_VALUE)]  # in bytes: see `values`
Kind = Annotated[SecretType | None, Field(description="`custom` where it is new and nothing is said.")]
Tier = Annotated[AccessTier | None, Field(description="Whether a token that reads it has to be approved first.")]
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=256)]] | None,
    Field(max_length=32, description="Not secret: it is shown in lists. 4096 bytes in all."),
]


class NewSecret(shapes.Request):
    """A version of a secret. What is left out stays as it is."""

    value: Annotated[Value, Field(repr=False, description="The secret itself, 64 KiB at most.")]
    secret_type: Kind = None
    access_tier: Tier = None
    metadata: Metadata = None


class NewValue(shapes.Request):
    """The value that a secret is to have."""

    value: Annotated[Value | None, Field(repr=False, description="A random one of 256 bits where it is left out.")] = (
        None
    )


class EnvFile(shapes.Request):
    """A `.env` text, each name of which becomes a secret."""

    namespace: Annotated[str, Field(max_length=LONGEST_PATH)]
    content: Annotated[str, Field(repr=False, description="The text.", examples=["GREETING=hello\n"])]
    secret_type: Kind = None
    access_tier: Tier = None
    metadata: Metadata = None


class ListedSecret(shapes.Reply):
    """A secret, without its value. Times are RFC 3339."""

    namespace: str
    key: str
    version: int
    secret_type: SecretType
    access_tier: AccessTier
    metadata: dict[str, str]
    created_at: shapes.When
    updated_at: shapes.When


class WrittenSecret(ListedSecret):
    """What was written, without its value."""

    id: Annotated[str, Field(validation_alias=AliasChoices("id", "secret_id"))]
    path: str


class RotatedSecret(WrittenSecret):
    """What was written."""

    value: Annotated[str, Field(repr=False)]


class SecretReply(ListedSecret):
    """A secret."""

    path: str
    value: Annotated[str, Field(repr=False)]


class SecretList(shapes.Reply):
    """What of a namespace may be seen, ordered by path."""

    namespace: str
    items: list[ListedSecret]
    next: Annotated[str | None, Field(description="The `after` of the next page.")]


class ImportReply(shapes.Reply):
    """What was imported."""

    namespace: str
    imported: list[str]
    imported_count: int
    skipped: Annotated[int, Field(description="Names without a value, or given again by a later line.")]
    keys: list[str]
