"""How entries become lines: one line each, canonical, bounded, whatever is in them."""

from __future__ import annotations

import enum
import hashlib
import json
from typing import Any

import pytest
from audit_support import START, entry
from hypothesis import given
from hypothesis import strategies as st

from authsec_server.audit.chain import (
    GENESIS,
    LONGEST_LINE,
    chained,
    columns,
    columns_of,
    format_instant,
    sealed_text,
)
from authsec_server.audit.entry import ANONYMOUS, Actor, Caller, Entry

NASTY = {
    "line breaks": "ok\r\n2026-01-01 allow admin\n",
    "terminal escapes": "\x1b[2J\x1b]0;owned\x07\x9b31m",
    "json": '"},"decision":"allow","x":{"y":"',
    "a megabyte": "x" * 1_000_000,
    "a megabyte of what takes most room": "\U0001f600" * 250_000,
    "line separators": "a\u2028b\u2029c\x85d\x0b\x0c",
    "text direction": "\u202eneddih\u2066\u200f",
    "delete and nul": "a\x7fb\x00c\x80d\x9f",
    "lone surrogates": "\ud800 and \udfff",
    "look-alikes": "аdmin\ufeff\u200b",
}


def sealed(**more: Any) -> str:
    """Return the line of an entry with these members."""
    return sealed_text(entry(1, **more), seq=7, at=START)


def is_one_safe_line(text: str) -> bool:
    """Return whether a terminal, a log and a disk can take it."""
    return text.isascii() and text.isprintable() and len(text) <= LONGEST_LINE


@pytest.mark.req("RU3")
@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY.keys())
@pytest.mark.parametrize(
    "place", ["claimed", "asked", "reason", "name", "id", "request_id", "address", "details", "jti"]
)
def test_whatever_is_written_makes_one_bounded_line_of_printable_ascii(text: str, place: str) -> None:
    """Line breaks, escapes, JSON, direction marks and megabytes are data in one string of one line."""
    if place in {"name", "id", "request_id", "address"}:
        actor = Actor(kind="operator", **({place: text} if place in {"name", "id"} else {}))
        caller = Caller(
            actor=actor,
            request_id=text if place == "request_id" else "request-1",
            address=text if place == "address" else None,
        )
        line = sealed_text(Entry(action="role.put", decision="deny", caller=caller), seq=7, at=START)
    else:
        line = sealed(**{place: {"reason": text} if place in {"claimed", "details"} else text})
    said = json.loads(line)
    assert is_one_safe_line(line)
    assert said["seq"] == 7
    assert said["decision"] == ("deny" if "role.put" in line else "allow")
    for value in columns_of(said).values():
        assert value is None or (value.isprintable() and len(value) < 4000)


@pytest.mark.req("RU3")
def test_a_cut_is_visible_and_says_how_much_is_missing() -> None:
    """500 characters of what was asked and claimed are kept, the mark of the cut among them; 500 are not cut."""
    line = json.loads(sealed(asked="a" * 501, claimed={"reason": "b" * 1000, "agent_name": "c" * 500}))
    assert line["asked"] == "a" * 460 + " [cut: 41 more]"
    assert line["claimed"]["reason"] == "b" * 460 + " [cut: 540 more]"
    assert line["claimed"]["agent_name"] == "c" * 500


@pytest.mark.req("RU3")
def test_names_of_claims_are_bounded_too() -> None:
    """An agent that can choose the names of its claims gains nothing by that."""
    line = sealed(claimed={"\n" * 10_000: "x", **{f"name-{n}": "y" * 500 for n in range(5000)}})
    assert is_one_safe_line(line)
    assert "characters" in json.loads(line)["claimed"]["[cut]"]


@pytest.mark.req("RU3")
def test_what_is_proven_stays_when_a_line_would_be_too_long() -> None:
    """Claims and details make room; agent, token and decision are kept even where each character takes twelve."""
    wide = "\U0001f600" * 20_000
    actor = Actor(kind="agent", id=wide, name=wide)
    said = json.loads(
        line := sealed_text(
            Entry(
                action=wide,
                decision="deny",
                caller=Caller(actor=actor, request_id=wide, address=wide),
                client_id="c-1",
                subject=wide,
                jti="t-1",
                asked=wide,
                scope=wide,
                reason=wide,
                details={str(n): wide for n in range(500)},
                claimed={str(n): wide for n in range(500)},
            ),
            seq=7,
            at=START,
        )
    )
    assert is_one_safe_line(line)
    assert (said["client_id"], said["jti"], said["decision"]) == ("c-1", "t-1", "deny")
    assert set(said["details"]) == set(said["claimed"]) == {"[cut]"}


def test_members_without_a_value_are_left_out() -> None:
    """An entry that says little is a short line."""
    bare = Entry(action="token.issue", decision="deny", caller=Caller(actor=ANONYMOUS, request_id=""))
    assert sealed_text(bare, seq=1, at=0.5) == (
        '{"action":"token.issue","actor":{"kind":"anonymous"},"at":"1970-01-01T00:00:00.500000Z",'
        '"decision":"deny","seq":1,"v":1}'
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda children: st.lists(children, max_size=5) | st.dictionaries(st.text(max_size=10), children, max_size=5),
    max_leaves=20,
)


@given(details=st.dictionaries(st.text(max_size=10), json_values, max_size=8), text=st.text(), at=st.floats(0, 4e9))
@pytest.mark.req("RU3")
def test_a_line_is_canonical_and_reproducible(details: dict[str, Any], text: str, at: float) -> None:
    """Taken apart and put together again, with its members sorted, it is the same line; twice made, too."""
    made = entry(1, details=details, claimed={"reason": text}, asked=text, client_id=text)
    line = sealed_text(made, seq=1, at=at)
    again = json.dumps(json.loads(line), sort_keys=True, separators=(",", ":"))
    assert line == again == sealed_text(made, seq=1, at=at)
    assert is_one_safe_line(line)
    assert columns(made) == columns_of(json.loads(line))


class Colour(str, enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (float("nan"), "[cut: not a plain number]"),
        (float("inf"), "[cut: not a plain number]"),
        (10**5000, "[cut: not a plain number]"),
        (frozenset({"b", "a"}), ["a", "b"]),
        ((1, None, True), [1, None, True]),
        (Colour.RED, "red"),
        (object(), "[object]"),
        (b"secret", "[bytes]"),
        (list(range(1000))[:128], list(range(128))),
        ([0] * 130, [0] * 128 + ["[cut: 2 more members]"]),
        ({"a": {"b": {"c": {"d": 1}}}}, {"a": {"b": {"c": "[cut: 1 members]"}}}),
        ({1: 2}, {"1": 2}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_details_of_any_kind_have_a_bounded_form(value: object, shown: object) -> None:
    """What JSON has no form for, or too much of, is replaced by a mark: an entry never fails."""
    assert json.loads(sealed(details={"x": value}))["details"]["x"] == shown


def test_the_hash_covers_what_came_before() -> None:
    """It is SHA-256 over the hash before, a line break and the line, as the documentation says."""
    assert chained(GENESIS, "{}") == hashlib.sha256(b"0" * 64 + b"\n{}").hexdigest()
    assert chained("f" * 64, "{}") != chained(GENESIS, "{}")


def test_columns_hold_what_a_database_takes() -> None:
    """NUL and lone surrogates, which PostgreSQL refuses, are spelled out; plain ids stay as they are."""
    assert columns(entry(1, client_id="a\x00b\ud800", jti="Zoë"))["client_id"] == r"a\x00b\ud800"
    assert columns(entry(1, jti="Zoë"))["jti"] == "Zoë"


@pytest.mark.parametrize("at", [float("nan"), float("inf"), 1e300, -1e300])
def test_what_is_no_time_is_refused(at: float) -> None:
    """A number that no calendar has is a ValueError, whichever."""
    with pytest.raises(ValueError, match=r"time|NaN"):
        format_instant(at)
