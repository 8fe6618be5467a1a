"""How a secret stands in a header: under which name, and behind which prefix. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from authsec_core.errors import ConfigurationError
from authsec_core.vault_values import VaultSecret

__all__ = ["SecretHeader"]

_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110 section 5.6.2
_VALUE: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


@dataclass(frozen=True, slots=True)
class SecretHeader:
    """A header that takes a secret. Have it from `of`."""

    name: str
    prefix: str

    @classmethod
    def of(cls, name: str, prefix: str | None) -> SecretHeader:
        """Return the header; without a prefix `Bearer ` stands in `Authorization`, and nothing elsewhere.

        Raises:
            ValueError: Name or prefix cannot be one.
        """
        usual = "Bearer " if name.lower() == "authorization" else ""
        header = cls(name, usual if prefix is None else prefix)
        if not _NAME.fullmatch(name) or (header.prefix and not _VALUE.fullmatch(header.prefix + "x")):
            raise ValueError("header= is a header's name, and prefix= printable ASCII")
        return header

    def value(self, secret: VaultSecret) -> str:
        """Return what stands in the header.

        Raises:
            ConfigurationError: The secret has characters that no header has.
        """
        if not _VALUE.fullmatch(secret.value):
            raise ConfigurationError(
                f"The secret {secret.path} has line ends or other characters that no header has: write it again."
            )
        return self.prefix + secret.value
