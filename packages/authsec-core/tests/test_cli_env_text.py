"""How exported values are written down: each reader of a form finds again what was written."""

from __future__ import annotations

import io
import json
import shutil
import subprocess

import pytest
from dotenv import dotenv_values
from hypothesis import given
from hypothesis import strategies as st

from authsec_core.cli._env_text import environment_names, export_text
from authsec_core.cli._outcome import InputError

VALUES = [
    "plain-value",
    "two words",
    "it's",
    'say "hi"',
    "back\\slash",
    "ends in \\",
    "\\' both",
    "#no comment",
    "a #no comment",
    "$HOME ${HOME} `id` $(id)",
    "first\nsecond\n",
    "-----BEGIN KEY-----\nAAAA\n-----END KEY-----\n",
    'carriage\rreturn \\ "',
    "windows\r\nlines",
    " spaces around ",
    "ünï©ode \u2028 \ufeff",
    "=",
]
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,10}", fullmatch=True)
# What every form can hold: NUL none of them, and readers of .env files do not know U+0085 and the like as line ends.
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=30)


def read_dotenv(text: str) -> dict[str, str | None]:
    """Read it with python-dotenv, which puts nothing in the place of references here."""
    return dict(dotenv_values(stream=io.StringIO(text, newline=""), interpolate=False))


@pytest.mark.parametrize("value", VALUES)
def test_a_dotenv_file_gives_the_value_back(value: str) -> None:
    """Whatever stands before and behind it."""
    text = export_text("dotenv", {"BEFORE": "it's \\", "KEY": value, "AFTER": '"'})
    assert read_dotenv(text) == {"BEFORE": "it's \\", "KEY": value, "AFTER": '"'}


@given(st.dictionaries(NAMES, TEXTS.filter(lambda text: "\r" not in text), max_size=4))
def test_any_dotenv_file_gives_its_values_back(values: dict[str, str]) -> None:
    """All of them."""
    assert read_dotenv(export_text("dotenv", values)) == values


@pytest.mark.skipif(shutil.which("sh") is None, reason="a shell reads it")
@pytest.mark.parametrize("value", VALUES)
def test_a_shell_reads_the_value_and_runs_nothing(value: str) -> None:
    """Nothing in a value is a command, a variable or the end of the quotes."""
    script = export_text("shell", {"KEY": value}) + 'printf %s "$KEY"'
    done = subprocess.run(["sh", "-c", script], capture_output=True, check=True, env={"HOME": "wrong"})
    assert (done.stdout.decode(), done.stderr) == (value, b"")


@given(st.dictionaries(st.text(min_size=1), TEXTS, max_size=4))
def test_json_holds_everything(values: dict[str, str]) -> None:
    """Also what no environment can."""
    assert json.loads(export_text("json", values)) == values
    assert json.loads(export_text("json", {"a/b": "\0"})) == {"a/b": "\0"}


@pytest.mark.parametrize(("form", "value"), [("dotenv", "a\0b"), ("shell", "a\0b"), ("dotenv", "cr\r and $REFERENCE")])
def test_what_a_form_cannot_hold_is_refused(form: str, value: str) -> None:
    """By name, without the value."""
    with pytest.raises(InputError) as failed:
        export_text(form, {"KEY": value})
    assert "KEY" in failed.value.message
    assert "--format json" in failed.value.message
    assert value not in failed.value.message


def test_keys_become_names() -> None:
    """Good names stay; others are written in capitals, with underscores; none begins with a digit."""
    assert environment_names(["OPENAI_API_KEY", "lower_case", "tavily/api-key", "2fa.seed"]) == {
        "OPENAI_API_KEY": "OPENAI_API_KEY",
        "lower_case": "lower_case",
        "tavily/api-key": "TAVILY_API_KEY",
        "2fa.seed": "_2FA_SEED",
    }


def test_two_keys_with_one_name_are_refused() -> None:
    """Neither of them would be missed."""
    with pytest.raises(InputError, match=r"a-b and a\.b would both be A_B"):
        environment_names(["a-b", "a.b"])
