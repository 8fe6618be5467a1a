"""How exported values are written down: as a `.env` file, as JSON, or for a shell to read. Pure.

A `.env` file is what python-dotenv and `authsec secrets import` read; both find every value again as it was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Final

from authsec_core.cli._outcome import InputError

__all__ = ["environment_names", "export_text"]

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_BARE: Final = re.compile(r"[A-Za-z0-9_./:@%+,=-]+", re.ASCII)  # means itself in every dialect
_REFERENCE: Final = re.compile(r"\$[A-Za-z_{]", re.ASCII)
_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\r": r"\r", "\n": r"\n"})


def environment_names(keys: Iterable[str]) -> dict[str, str]:
    """Return the variable of the environment for each key; a key that is a good name for one keeps it.

    Raises:
        InputError: Two keys would have the same.

    >>> environment_names(["OPENAI_API_KEY", "tavily/api-key"])
    {'OPENAI_API_KEY': 'OPENAI_API_KEY', 'tavily/api-key': 'TAVILY_API_KEY'}
    """
    names: dict[str, str] = {}
    taken: dict[str, str] = {}
    for key in keys:
        name = key if _NAME.fullmatch(key) else _made_name(key)
        if name in taken:
            raise InputError(f"{taken[name]} and {key} would both be {name}: use --format json, which keeps the paths")
        names[key] = name
        taken[name] = key
    return names


def export_text(form: str, values: Mapping[str, str]) -> str:
    """Return values as one text that ends in a line end.

    Args:
        form: `dotenv`, `shell` or `json`.
        values: By the names that they shall have.

    Raises:
        InputError: This form cannot hold one of them; the message names it and not its value.
    """
    if form == "json":
        return json.dumps(dict(values), indent=2) + "\n"
    write = _for_shell if form == "shell" else _for_dotenv
    return "".join(f"{write(name, value)}\n" for name, value in values.items())


def _made_name(key: str) -> str:
    name = re.sub(r"[^A-Z0-9_]", "_", key.upper())
    return f"_{name}" if name[0].isdigit() else name


def _for_shell(name: str, value: str) -> str:
    _refuse_nul(name, value)
    escaped = value.replace("'", "'\\''")
    return f"export {name}='{escaped}'"


def _for_dotenv(name: str, value: str) -> str:
    _refuse_nul(name, value)
    if _BARE.fullmatch(value):
        return f"{name}={value}"
    if "\r" not in value:  # which readers make a line end of, unless it is escaped
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"{name}='{escaped}'"
    if _REFERENCE.search(value):
        raise InputError(f"the value of {name} cannot be written into a .env file: use --format json")
    return f'{name}="{value.translate(_ESCAPES)}"'


def _refuse_nul(name: str, value: str) -> None:
    if "\0" in value:
        raise InputError(f"the value of {name} has a NUL, which no environment can hold: use --format json")
