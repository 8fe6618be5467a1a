"""A `.env` text is read as python-dotenv reads it; where it cannot be, the lines are named and nothing is quoted."""

from __future__ import annotations

import io
from contextlib import suppress
from importlib.metadata import version
from time import thread_time
from typing import Any

import pytest
from dotenv.parser import parse_stream  # the oracle: it is no part of its public API
from hypothesis import example, given
from hypothesis import strategies as st

from authsec_server.vault.env_text import MOST_UNREAD, EnvTextError, TooManyNamesError, Unread, read_env_text

PEM = "-----BEGIN KEY-----\nMIIB\n-----END KEY-----"


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("A=1", {"A": "1"}),
        ("A=1\nB=2\n", {"A": "1", "B": "2"}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("A=1\rB=2", {"A": "1", "B": "2"}),
        ("\ufeffA=1", {"A": "1"}),
        ("export A=1\n  export\tB=2", {"A": "1", "B": "2"}),
        ("  A = 1  ", {"A": "1"}),
        ("# A=1\n\n   # B=2\nC=3", {"C": "3"}),
        ("A=1 # why\nB=1#2\nC=#3\nD= # nothing", {"A": "1", "B": "1#2", "C": "#3"}),
        ("A='1 # 2' # why\nB=\"3 # 4\"# why", {"A": "1 # 2", "B": "3 # 4"}),
        ("A=a b  c", {"A": "a b  c"}),
        ("A=x=y==", {"A": "x=y=="}),
        (r"A='it\'s \n \\'", {"A": r"it's \n " + "\\"}),
        (r'A="\"\n\t\\ \q \$x"', {"A": '"\n\t\\ \\q \\$x'}),
        (f'A="{PEM}"\nB=2', {"A": PEM, "B": "2"}),
        (f"A='{PEM}'\nB=2", {"A": PEM, "B": "2"}),
        ("A='${B}'\nB=pa$word", {"A": "${B}", "B": "pa$word"}),
        ("A=o'clock", {"A": "o'clock"}),
        ("A=ключ", {"A": "ключ"}),
        ("A=1\nA=2", {"A": "2"}),
        ("A=1\nA=", {}),
        ("", {}),
    ],
)
def test_what_is_read(text: str, values: dict[str, str]) -> None:
    """Quotes, `export`, comments, escapes, several lines, line ends of every kind."""
    assert read_env_text(text).values == values


def test_what_has_no_value_is_counted() -> None:
    """A name without a value, and one that a later line replaced, are skipped; the lines are those that count."""
    read = read_env_text("A=1\n\nB=\nC=''\nA='2\n3'\nD=4")
    assert (read.values, read.lines, read.skipped) == ({"A": "2\n3", "D": "4"}, {"A": 5, "D": 7}, 3)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("A", [1]),
        ("A=1\nsk-canary\nB=2", [2]),
        ("A: 1", [1]),
        ("=1", [1]),
        ("export =1", [1]),
        ("A B=1", [1]),
        ("'A'=1", [1]),
        ("A='1", [1]),
        ('A="1', [1]),
        ('A="1\nB=2\nC="3"', [1]),
        ("A='1' 2\nB='3\n4' 5\nC=6", [1, 2]),
        ('A="${B}"\nC=x${D}', [1, 2]),
        (f"A={PEM}", [2, 3]),
        ("\n\n  x\n\n\ny\n", [3, 6]),
    ],
)
def test_what_cannot_be_read_is_named_by_its_line(text: str, lines: list[int]) -> None:
    """Each entry that is none is told, by the line that it begins on; nothing else is read, and nothing quoted."""
    with pytest.raises(EnvTextError) as caught:
        read_env_text(text)
    assert [each.line for each in caught.value.unread] == lines
    assert "canary" not in f"{caught.value} {caught.value.unread}"


LINES = st.lists(
    st.builds(
        "{}{}={}{}".format,
        st.sampled_from(["", "export ", "  "]),
        st.sampled_from(["A", "B_2", "c.d-e"]),
        st.one_of(
            st.text("ab1 =\"'#\\\tn", max_size=8),
            st.text("ab \\n'\n#", max_size=6).map(lambda text: f'"{text}"'),
            st.text('ab \\n"\n#', max_size=6).map(lambda text: f"'{text}'"),
        ),
        st.sampled_from(["", " # why", "  "]),
    ),
    max_size=5,
)


@pytest.mark.skipif(
    tuple(map(int, version("python-dotenv").split(".")[:3])) < (1, 2, 4), reason="older ones read some of it otherwise"
)
@given(LINES)
@example(["A='it\\'s'"])
def test_what_is_read_is_what_dotenv_reads(lines: list[str]) -> None:
    """Every text that is read here is read alike there; what fails there fails here."""
    text = "\n".join(lines)
    theirs: list[Any] = [binding for binding in parse_stream(io.StringIO(text)) if binding.key or binding.error]
    try:
        ours = read_env_text(text).values
    except EnvTextError:
        assert any(binding.error or binding.value is None for binding in theirs)
        return
    assert not any(binding.error for binding in theirs)
    assert ours == {name: value for name, value in {each.key: each.value for each in theirs}.items() if value}


@pytest.mark.parametrize(
    "text",
    [
        "A=x" + " " * 60_000 + "y",
        "A='" + "\\" * 60_001,
        "A='\n" * 20_000,
        "A=\"\\'" * 20_000,
        "export " * 15_000,
        " " * 120_000 + "A",
        "A" * 120_000,
        "A='x'" + " " * 120_000 + "y",
        "\n" * 120_000 + "A",
    ],
)
def test_no_text_takes_long(text: str) -> None:
    """120 KB of anything are read, or refused, in a moment: python-dotenv takes seconds for the first."""
    began = thread_time()  # of the processor, which on a busy machine stands still while others have their turn
    with suppress(EnvTextError, TooManyNamesError):
        read_env_text(text)
    assert thread_time() - began < 1.0


def test_why_a_line_is_no_good_is_said() -> None:
    """In words that say what to do."""
    with pytest.raises(EnvTextError) as caught:
        read_env_text("A=${B}")
    assert caught.value.unread == (
        Unread(1, "it refers to another variable: write out the value, or put it into single quotes"),
    )


@pytest.mark.parametrize("text", ["x\n" * 20, "A=1\n" + "x\n" * 20])
def test_after_so_many_lines_nothing_more_is_looked_at(text: str) -> None:
    """Nobody mends more at once, and a text of nothing else must not keep the others waiting."""
    for more in ("", "y\n" * 60_000):
        with pytest.raises(EnvTextError) as caught:
            read_env_text(text + more)
        assert len(caught.value.unread) == MOST_UNREAD


@pytest.mark.parametrize(("line", "most"), [("K{}=1", 128), ("K{}=", 1024), ("K=1", 1024)])
def test_so_many_names_are_read_and_no_more(line: str, most: int) -> None:
    """128 with a value, more of lines that come to nothing; nothing after the first one too many is looked at."""
    lines = [line.format(number) for number in range(most)]
    read = read_env_text("\n".join(lines))
    assert len(read.values) + read.skipped == most
    with pytest.raises(TooManyNamesError):
        read_env_text("\n".join([*lines, line.format("x"), "no assignment"]))
