"""What may be typed for one option, as the value that is meant. Pure. No message repeats what was typed."""

from __future__ import annotations

import argparse
import math
import re
from ipaddress import ip_network
from typing import Final

from authsec_core.scopes import parse_scopes
from authsec_core.vault_scopes import VaultScope, check_namespace, check_path
from authsec_core.wire import is_plain

__all__ = [
    "address",
    "count",
    "identifier",
    "line",
    "namespace",
    "pair",
    "path",
    "scope",
    "seconds",
    "span",
    "vault_scope",
]

_UNITS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SPAN: Final = re.compile(r"([1-9][0-9]{0,8})([smhd]?)", re.ASCII)
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)
_IDENTIFIER: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_PATHS: Final = "letters, digits, dots, dashes and underscores between slashes; import and rotate are reserved"


def seconds(typed: str) -> float:
    """Return a length of time in seconds."""
    try:
        value = float(typed)
    except ValueError:
        value = math.nan
    if not (value > 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError("give a positive number of seconds")
    return value


def span(typed: str) -> float:
    """Return the seconds of `45s`, `30m`, `1h`, `7d` or a plain number."""
    match = _SPAN.fullmatch(typed)
    if match is None:
        raise argparse.ArgumentTypeError("give a time such as 45s, 30m, 12h or 1d")
    return int(match[1]) * _UNITS[match[2]]


def count(typed: str) -> int:
    """Return a number from 1 on."""
    if not re.fullmatch(r"[1-9][0-9]{0,8}", typed, re.ASCII):
        raise argparse.ArgumentTypeError("give a whole number from 1 on")
    return int(typed)


def line(typed: str) -> str:
    """Return one line of text that is not blank."""
    return _line(typed, 500)


def name(typed: str) -> str:
    """Return what somebody is called: a short line of text."""
    return _line(typed, 200)


def identifier(typed: str) -> str:
    """Return the public name of something that the vault made; what has a secret in it is none."""
    if not _IDENTIFIER.fullmatch(typed):
        raise argparse.ArgumentTypeError(
            "give an id, such as the part of a token before its dot; never the token itself"
        )
    return typed


def scope(typed: str) -> str:
    """Return scopes of a delegation, separated by spaces."""
    try:
        parse_scopes(typed)
    except ValueError as exc:
        raise argparse.ArgumentTypeError("name scopes such as read:metrics, separated by spaces") from exc
    return typed


def vault_scope(typed: str) -> str:
    """Return one scope of the vault."""
    try:
        return str(VaultScope.parse(typed))
    except ValueError as exc:
        raise argparse.ArgumentTypeError(
            "give secrets:<read|write|delete|*>:<path>, such as secrets:read:production/*"
        ) from exc


def path(typed: str) -> str:
    """Return where a secret lies."""
    try:
        return check_path(typed)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"give a path such as production/openai/api-key: {_PATHS}") from exc


def namespace(typed: str) -> str:
    """Return what paths begin with."""
    try:
        return check_namespace(typed)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"give a namespace such as production/openai: {_PATHS}") from exc


def address(typed: str) -> str:
    """Return an address or a network."""
    try:
        return str(ip_network(typed))
    except ValueError as exc:
        raise argparse.ArgumentTypeError(
            "give an address such as 192.0.2.7, or a network such as 192.0.2.0/24"
        ) from exc


def pair(typed: str) -> tuple[str, str]:
    """Return name and text of `NAME=TEXT`."""
    named, equals, text = typed.partition("=")
    if not equals or not named.strip() or not is_plain(typed):
        raise argparse.ArgumentTypeError("give NAME=TEXT, such as owner=search-team")
    return named, text


def assignment(typed: str) -> tuple[str, str]:
    """Return the variable of the environment and the secret's path of `NAME=PATH`."""
    variable, equals, where = typed.partition("=")
    if not equals or not _NAME.fullmatch(variable):
        raise argparse.ArgumentTypeError("give NAME=PATH, such as OPENAI_API_KEY=production/openai/api-key")
    return variable, path(where)


def _line(typed: str, longest: int) -> str:
    text = typed.strip(" ")
    if not text or not is_plain(text) or len(text) > longest:
        raise argparse.ArgumentTypeError(f"give one line of text, of at most {longest} characters")
    return text
