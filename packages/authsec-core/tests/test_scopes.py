"""Scopes: sets of opaque strings, spelled in one way."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsec_core.scopes import format_scopes, parse_scopes

ALLOWED = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"\\')
scope_tokens = st.text(ALLOWED, min_size=1, max_size=20)


@pytest.mark.parametrize(
    ("text", "scopes"),
    [
        ("read:metrics", {"read:metrics"}),
        ("a b", {"a", "b"}),
        ("  a   b ", {"a", "b"}),
        ("a a", {"a"}),
        ("READ read", {"READ", "read"}),
        ("read read:metrics", {"read", "read:metrics"}),
        ("*", {"*"}),
        (["a", "b"], {"a", "b"}),
        (("a", ""), {"a"}),
        ({"a": 1}, {"a"}),
        ((name for name in "ab"), {"a", "b"}),
    ],
)
def test_scopes_are_exact_members_of_a_set(text: Any, scopes: set[str]) -> None:
    """Spaces separate, order and repetition do not count, case and every character do."""
    assert parse_scopes(text) == frozenset(scopes)


def test_none_is_the_whole_delegation_and_not_nothing() -> None:
    """Only None names no scope."""
    assert parse_scopes(None) is None


@pytest.mark.parametrize("blank", ["", " ", "   ", [], [""], (), set()])
def test_present_but_blank_is_an_error(blank: Any) -> None:
    """A blank scope is a mistake: read as the whole delegation it would widen what was meant."""
    with pytest.raises(ValueError, match="blank"):
        parse_scopes(blank)


@pytest.mark.parametrize("code", [*range(0x180), 0x2003, 0x200B, 0xD800, 0xFF0F, 0x1F511])
def test_only_the_characters_of_rfc_6749_are_allowed(code: int) -> None:
    """RFC 6749 section 3.3 lists them; a space separates, everything else is refused and nothing is trimmed away."""
    character = chr(code)
    if character in ALLOWED:
        assert parse_scopes(f"a{character}b") == frozenset({f"a{character}b"})
    elif character == " ":
        assert parse_scopes("a b") == frozenset({"a", "b"})
    else:
        for text in (f"a{character}b", character, f"{character}a", f"a{character}"):
            with pytest.raises(ValueError, match="not valid"):
                parse_scopes(text)


@pytest.mark.parametrize("scope", [5, 5.0, True, b"read", [1], ["a", None], object(), [["a"]], [b"a"]])
def test_what_is_no_text_is_refused(scope: Any) -> None:
    """A number or bytes cannot be a scope, however it got there."""
    with pytest.raises(ValueError, match="must be text"):
        parse_scopes(cast("str", scope))


def test_the_length_has_an_end() -> None:
    """4096 characters of scopes are allowed, one more is not; the error does not repeat them."""
    assert parse_scopes("a" * 4096) == frozenset({"a" * 4096})
    for scope in ("a" * 4097, " ".join(f"{number:04d}" for number in range(1025)), [f"{n:x}" for n in range(5000)]):
        with pytest.raises(ValueError, match="not valid") as caught:
            parse_scopes(scope)
        assert len(str(caught.value)) < 200


@given(st.sets(scope_tokens, min_size=1))
def test_formatting_and_parsing_undo_each_other(scopes: set[str]) -> None:
    """The one spelling of a set is sorted, and reads as that set."""
    text = format_scopes(scopes)
    assert parse_scopes(text) == frozenset(scopes)
    assert text.split(" ") == sorted(scopes)


@given(st.text() | st.lists(st.text()))
def test_whatever_is_given_it_is_a_set_or_a_value_error(scope: str | list[str]) -> None:
    """No text makes anything but a set of allowed names or a ValueError."""
    try:
        scopes = parse_scopes(scope)
    except ValueError:
        return
    assert scopes
    assert all(name and set(name) <= set(ALLOWED) for name in scopes)
