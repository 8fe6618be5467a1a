"""Cursors: one spelling each, and no text that was not made here becomes one."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsec_server.errors import InvalidRequestError
from authsec_server.pages import Cursor

_IDS = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1, max_size=64)


@given(at=st.floats(allow_nan=False, allow_infinity=False), name=_IDS)
def test_a_cursor_survives_its_spelling(at: float, name: str) -> None:
    """Whatever instant and id a row has."""
    assert Cursor.decode(Cursor(at, name).encode()) == Cursor(at, name)


def _spelled(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "????",
        "ä",
        "\ud800",
        _spelled("1.0"),
        _spelled("1.0 "),
        _spelled("nan a"),
        _spelled("inf a"),
        _spelled("1 a"),
        _spelled("1.00 a"),
        _spelled("1_0.0 a"),
        _spelled(" a"),
        _spelled("1.0 a\0"),
        _spelled("1.0 a\nb"),
        Cursor(1.0, "a").encode() + "=",
        Cursor(1.0, "a").encode() + "\n",
        Cursor(1.0, "a").encode()[:-1] + "F",  # bits after the end that decoders overlook
        base64.urlsafe_b64encode(b"1.0 \xff").rstrip(b"=").decode(),
    ],
)
def test_what_was_not_made_here_is_refused(text: str) -> None:
    """Other spellings of a cursor are refused too, so that nothing unforeseen reaches a query."""
    with pytest.raises(InvalidRequestError) as caught:
        Cursor.decode(text)
    assert caught.value.field == "after"


@given(st.text())
def test_any_text_is_refused_and_breaks_nothing(text: str) -> None:
    """Text of chance is a refusal, never another error, unless it is exactly what a cursor is spelled as."""
    try:
        assert Cursor.decode(text).encode() == text
    except InvalidRequestError as exc:
        assert exc.field == "after"  # noqa: PT017 -- either is right
