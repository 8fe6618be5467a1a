"""The command line as a value, and what is said of a wrong one: never what was typed."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsec_core.cli._arguments import Arguments, UsageError, parse
from authsec_core.cli._vault_arguments import RunArguments, SecretsArguments, TokensArguments

TYPED = "sk-typed-by-mistake-0123456789"
LINES = [
    "secrets get production/a/key --reveal --version 2",
    "secrets set production/a/key --tier sensitive --type api_key --metadata a=b --exact",
    "secrets list production",
    "secrets delete production/a/key --yes",
    "secrets rotate production/a/key --generate --out file",
    "secrets import .env --namespace production",
    "secrets export --namespace production --format json",
    "tokens issue --scope secrets:read:production/* --ttl 1h --max-uses 3 --allow-ip 10.0.0.0/8 --wait 5m",
    "tokens revoke vlt_0123456789abcdef",
    "run --env A=production/a/key --keep-key -- python agent.py",
]


@pytest.mark.req("RW5")
@given(st.sampled_from(LINES), st.data())
def test_a_value_that_is_typed_anywhere_is_not_repeated(line: str, data: st.DataObject) -> None:
    """As a word of its own, in the place of another, behind an option or in front of what should stand there."""
    words = line.split()
    at = data.draw(st.integers(0, len(words) - 1))
    how = data.draw(st.sampled_from(["between", "instead", "behind", "option", "value of an option"]))
    wrong = {
        "between": [TYPED],
        "instead": [TYPED],
        "behind": [words[at] + TYPED],
        "option": [f"--{TYPED}", words[at]],
        "value of an option": [f"{words[at]}={TYPED}"],
    }[how]
    typed = [*words[:at], *wrong, *words[at + (how != "between") :]]
    told = ""
    try:
        parse(typed)
    except UsageError as exc:
        told = exc.message + exc.usage
    assert TYPED not in told


def test_what_is_typed_is_a_frozen_value() -> None:
    """Each group of commands has its own; lists become tuples."""
    arguments = parse(["--json", *LINES[7].split(), "--env-file", "x"])
    assert isinstance(arguments, Arguments)
    assert arguments.vault == TokensArguments(
        operation="issue",
        scopes=("secrets:read:production/*",),
        ttl=3600.0,
        max_uses=3,
        allowed_ips=("10.0.0.0/8",),
        wait=300.0,
    )
    assert (arguments.as_json, str(arguments.env_file)) == (True, "x")
    run = parse(LINES[9].split()).vault
    assert run == RunArguments(variables=(("A", "production/a/key"),), keep_key=True, program=("python", "agent.py"))
    assert isinstance(parse(LINES[2].split()).vault, SecretsArguments)
    with pytest.raises(dataclasses.FrozenInstanceError):
        run.keep_key = False  # type: ignore[misc] # that is what is tested


def test_no_option_takes_a_value_or_a_token() -> None:
    """What ends in a value, a token or a key is the name of a file or of something public."""
    import argparse

    from authsec_core.cli._arguments import _parser

    def options(parser: argparse.ArgumentParser) -> set[str]:
        below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        own = {name for action in parser._actions if action.nargs != 0 for name in action.option_strings}
        return own.union(*(options(one) for action in below for one in action.choices.values()))

    suspicious = {
        name for name in options(_parser()) if any(part in name for part in ("value", "token", "key", "secret"))
    }
    assert suspicious == {"--token-file"}
