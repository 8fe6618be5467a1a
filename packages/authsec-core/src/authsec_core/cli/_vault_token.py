"""Which vault token a command uses: that of a file that is named, or else of `AUTHSEC_VAULT_TOKEN`, or else none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from dotenv import dotenv_values

from authsec_core.cli._outcome import InputError
from authsec_core.cli._streams import read_limited
from authsec_core.token import Secret

__all__ = ["vault_token"]

_VARIABLE: Final = "AUTHSEC_VAULT_TOKEN"
_LONGEST: Final = 4096  # characters


def vault_token(env_file: Path | None, token_file: Path | None = None) -> Secret | None:
    """Return the token to use; None uses the agent's key.

    Args:
        env_file: What the environment does not say may stand in this file.
        token_file: The file that was named for it.

    Raises:
        InputError: What there is does not hold one token, or cannot be read.
    """
    if token_file is not None:
        return _only_token(read_limited(token_file, _LONGEST + 1), str(token_file))
    text = os.environ.get(_VARIABLE)
    if text is None and env_file is not None:
        text = dotenv_values(env_file).get(_VARIABLE)
    return None if text is None else _only_token(text.encode("utf-8", "surrogateescape"), _VARIABLE)


def _only_token(data: bytes, name: str) -> Secret:
    token = data.strip()
    if not token or len(token) > _LONGEST or not all(0x21 <= byte <= 0x7E for byte in token):
        raise InputError(f"{name} does not hold one vault token, as authsec tokens issue prints it")
    return Secret(token.decode("ascii"))
