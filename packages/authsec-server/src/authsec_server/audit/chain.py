"""How an entry becomes one line of text, and how each line is tied to the one before it. Pure: no database, no clock.

Whatever an agent writes, a line is ASCII, canonical JSON (sorted members, no spaces) and at most 64 KiB: no line break,
terminal escape, text direction mark or megabyte of somebody's own words comes out of it (RU3). Nothing in an entry
makes it fail, because an entry that cannot be written stops all that waits for it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from datetime import datetime, timezone
from functools import lru_cache
from itertools import islice
from json.encoder import encode_basestring_ascii
from typing import Any, Final

from authsec_server.audit.entry import Actor, Entry
from authsec_server.credentials import masked

__all__ = ["GENESIS", "LONGEST_LINE", "VERSION", "chained", "columns", "columns_of", "format_instant", "sealed_text"]

GENESIS: Final = "0" * 64  # what stands before the first entry
VERSION: Final = 1
LONGEST_LINE: Final = 65536  # characters

# Characters. What an agent says and asks for has 500, as a `reason` has everywhere.
_NAME, _WORDS, _SUBJECT, _SCOPE = 256, 500, 2048, 8192
_AS_IT_IS = 0  # instead of a number of characters: it is JSON already
_DEEPEST, _MOST_MEMBERS = 4, 128  # of details: levels, and members of each
_GREATEST = 2**63  # readers of JSON disagree about numbers beyond
_MARK = 40  # characters that are kept for the mark of a cut

_encode = json.JSONEncoder(ensure_ascii=True, sort_keys=True, allow_nan=False, separators=(",", ":")).encode


def sealed_text(entry: Entry, *, seq: int, at: float) -> str:
    """Return the line that is stored and hashed. The same entry, place and time always give the same line.

    Members without a value are left out. A text that is too long is cut, and says by how much.

    Args:
        seq: Its place in the audit, from 1.
        at: Epoch seconds.
    """
    claimed = _encode(_bounded(_words(entry.claimed), 1)) if entry.claimed else ""
    details = _encode(_bounded(entry.details, _DEEPEST)) if entry.details else ""
    line = _line(entry, seq, at, claimed, details)
    if len(line) <= LONGEST_LINE:
        return line
    # The details and the agent's words go. What is proven stays, and fits even if each character takes twelve.
    note = f'{{"[cut]":"the line had {len(line)} characters"}}'
    return _line(entry, seq, at, claimed and note, details and note, shorter=True)


def chained(previous: str, text: str) -> str:
    """Return the hash of an entry, in hex: SHA-256 over the hash before it, a line break and the entry's line."""
    return hashlib.sha256(f"{previous}\n{text}".encode()).hexdigest()


@lru_cache(maxsize=64)  # the entries of one transaction share their time
def format_instant(at: float) -> str:
    """Return epoch seconds as RFC 3339 in UTC, to the microsecond; each number has one spelling.

    Raises:
        ValueError: It is in no year that has four digits.
    """
    try:
        return datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="microseconds")[:-6] + "Z"
    except (OverflowError, OSError) as exc:
        raise ValueError("not a time that can be written") from exc


def columns(entry: Entry) -> dict[str, str | None]:
    """Return what the columns beside an entry's line say, so that it can be found: printable and bounded."""
    actor = entry.caller.actor
    return _columns(entry.action, entry.decision, actor.kind, actor.id, entry.client_id, entry.jti)


def columns_of(line: Mapping[str, Any]) -> dict[str, str | None]:
    """Return what the columns beside this line have to say, if it is the one that `columns` was written with.

    Raises:
        KeyError, TypeError, AttributeError: It is not a line of ours.
    """
    actor, get = line["actor"], line.get
    return _columns(line["action"], line["decision"], actor["kind"], actor.get("id", ""), get("client_id"), get("jti"))


def _columns(
    action: str, decision: str, kind: str, id: str, client_id: str | None, jti: str | None
) -> dict[str, str | None]:
    return {
        "action": _printable(action),
        "decision": decision,
        "actor": f"{kind}:{_printable(id)}",
        "client_id": _printable(client_id) if client_id else None,
        "jti": _printable(jti) if jti else None,
    }


def _printable(text: str) -> str:
    text = _cut(text, _NAME)
    # A database takes neither lone surrogates nor NUL; whatever else cannot be printed has no place in a table either.
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def _words(claimed: Mapping[str, str]) -> dict[str, str]:
    # People and models write keys and tokens into them, and whoever reads the audit could use those.
    return {name: masked(said) for name, said in claimed.items()}


def _line(entry: Entry, seq: int, at: float, claimed: str, details: str, *, shorter: bool = False) -> str:
    # Put together here, in the order that sorting would give: an encoder that sorts takes twice as long.
    caller = entry.caller
    parts = []
    for name, text, most in (
        ('"action":', entry.action, _NAME),
        ('"actor":', _actor(caller.actor), _AS_IT_IS),
        ('"address":', caller.address, _NAME),
        ('"asked":', entry.asked, _WORDS),
        ('"at":', f'"{format_instant(at)}"', _AS_IT_IS),
        ('"claimed":', claimed, _AS_IT_IS),
        ('"client_id":', entry.client_id, _NAME),
        ('"decision":', entry.decision, _NAME),
        ('"details":', details, _AS_IT_IS),
        ('"jti":', entry.jti, _NAME),
        ('"reason":', entry.reason, _WORDS),
        ('"request_id":', caller.request_id, _NAME),
        ('"scope":', entry.scope, _WORDS if shorter else _SCOPE),
        ('"seq":', str(seq), _AS_IT_IS),
        ('"subject":', entry.subject, _WORDS if shorter else _SUBJECT),
        ('"v":', str(VERSION), _AS_IT_IS),
    ):
        if text:
            parts.append(name + (encode_basestring_ascii(_cut(text, most)) if most else text))
    return f"{{{','.join(parts)}}}"


def _actor(actor: Actor) -> str:
    identity = f'"id":{encode_basestring_ascii(_cut(actor.id, _NAME))},' if actor.id else ""
    name = f',"name":{encode_basestring_ascii(_cut(actor.name, _NAME))}' if actor.name else ""
    return f'{{{identity}"kind":"{actor.kind}"{name}}}'


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    kept = most - _MARK
    return f"{text[:kept]} [cut: {len(text) - kept} more]"


def _bounded(value: Any, levels: int) -> Any:
    """Return a value that has a JSON form of limited size: its beginning, and a mark where something is missing."""
    if isinstance(value, str):
        return _cut(value, _WORDS)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        return value if abs(value) < _GREATEST and math.isfinite(value) else "[cut: not a plain number]"
    if not isinstance(value, (Mapping, list, tuple, set, frozenset)):
        return f"[{type(value).__name__}]"  # not its repr, which may show more than the caller meant to tell
    if levels == 0:
        return f"[cut: {len(value)} members]"
    return _bounded_members(value, levels - 1)


def _bounded_members(values: Any, levels: int) -> Any:
    left_out = len(values) - _MOST_MEMBERS
    if isinstance(values, Mapping):
        members = {
            _cut(str(_bounded(name, 0)), _NAME): _bounded(value, levels)
            for name, value in islice(values.items(), _MOST_MEMBERS)
        }
        return members if left_out <= 0 else {**members, "[cut]": f"{left_out} more members"}
    if isinstance(values, (set, frozenset)):
        values = sorted(values, key=lambda value: (type(value).__name__, str(value)))  # a set has no order of its own
    items = [_bounded(value, levels) for value in islice(values, _MOST_MEMBERS)]
    return items if left_out <= 0 else [*items, f"[cut: {left_out} more members]"]
