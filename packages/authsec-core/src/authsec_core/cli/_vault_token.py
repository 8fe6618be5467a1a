"""The vault token of a file that a command names. That of `AUTHSEC_VAULT_TOKEN` is a setting, as the key is."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from authsec_core._vault_shown import fits_header
from authsec_core.cli._outcome import InputError
from authsec_core.cli._streams import read_limited
from authsec_core.token import Secret

__all__ = ["token_of_file"]

_LONGEST: Final = 4096  # bytes


def token_of_file(named: Path) -> Secret:
    """Return the token in a file.

    Raises:
        InputError: The file does not hold one token, or cannot be read.
    """
    text = read_limited(named, _LONGEST + 1).strip().decode("latin-1")
    if not fits_header(text):
        raise InputError(f"{named} does not hold one vault token, as authsec tokens issue prints it")
    return Secret(text)
