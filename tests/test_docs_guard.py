"""Do the pages about the guard say what the code does? Each table is held to what it describes.

The commands of the first page are for `test_docs_guard_commands`, the programs for `examples/test_docs`.
"""

from __future__ import annotations

import ast
import inspect
import re
import shlex
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, Final, get_args

import pytest

from authsec_core import TokenRejectedError, VerificationUnavailableError, errors
from authsec_fastapi import (
    AccessDeniedError,
    AuditEvent,
    AuditUnavailableError,
    ConversationBusyError,
    ConversationLimitError,
    Conversations,
    CredentialsError,
    GuardSettings,
    Introspection,
    Principal,
    TokenMissingError,
    TrustedIssuer,
    load_policy,
)
from authsec_fastapi.__main__ import main
from authsec_fastapi.audit import EventKind, Outcome
from authsec_fastapi.issuers import RevocationCheck
from authsec_fastapi.refusals import refusal_of
from authsec_fastapi.requirement import Reason

ROOT: Final = Path(__file__).resolve().parents[1]
PAGES: Final = ROOT / "docs" / "guard"
REJECTED: Final = {
    kind.code for name in errors.__all__ if issubclass(kind := getattr(errors, name), errors.TokenRejectedError)
}
UNAVAILABLE: Final = {f"{what}_unavailable" for what in ("keys", "status_list", "introspection", "verification")}
OTHERS: Final = {TokenMissingError.code, CredentialsError.code, *UNAVAILABLE}


def _text(page: str) -> str:
    return (PAGES / page).read_text(encoding="utf-8")


def _rows(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the rows, heads left out, of the first table below a heading."""
    below = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", _text(page), re.MULTILINE | re.DOTALL)
    assert below, f"{page} has no heading {heading}"
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in below[1].splitlines() if line.startswith("| ")]
    return [row for row in rows[1:] if set(row[0]) != {"-"}]


def _code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def _named(page: str, heading: str) -> list[str]:
    return [name for row in _rows(page, heading) for name in _code(row[0])]


def _default(field: Field[Any]) -> object:
    return None if field.default is MISSING else field.default


def test_every_member_of_an_event_is_documented() -> None:
    """audit.md has each member in its order, and each word that a member can be."""
    assert _named("audit.md", "An event") == [field.name for field in fields(AuditEvent)]
    _, first, second, *_ = _rows("audit.md", "An event")
    assert set(_code(first[1])) == set(get_args(EventKind))
    assert set(_code(second[1])) == set(get_args(Outcome))


def test_every_attribute_of_a_caller_is_documented() -> None:
    """requirements.md has each public attribute of a `Principal`."""
    documented = _named("requirements.md", "The caller")
    assert documented == [field.name for field in fields(Principal) if not field.name.startswith("_")]


def test_every_reason_is_documented() -> None:
    """troubleshooting.md has each reason that can be on record of a denial, and no other."""
    reasons = {*get_args(Reason)} - {"allowed"} | REJECTED | OTHERS
    assert sorted(_named("troubleshooting.md", "Reasons on record")) == sorted(reasons)


@pytest.mark.parametrize(
    ("error", "heading"),
    [
        (TokenMissingError("why"), "401 without an error"),
        (TokenRejectedError("why"), "401 invalid_token"),
        (AccessDeniedError("why", reason="insufficient_scope", missing=["a"], needed=["a"]), "403"),
        (CredentialsError("why"), "400"),
        (VerificationUnavailableError("why"), "503"),
        (AuditUnavailableError("why"), "503"),
        (ConversationBusyError("why"), "409"),
        (ConversationLimitError("why"), "503"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_answer_is_documented(error: Any, heading: str) -> None:
    """troubleshooting.md has a heading and a row for each answer, with what its header says."""
    refusal = refusal_of(error, realm="authsec")
    assert f"\n## {heading}\n" in _text("troubleshooting.md")
    (row,) = [
        row for row in _rows("troubleshooting.md", "Troubleshooting") if f"#{heading.replace(' ', '-')}" in row[0]
    ]
    assert f"[{refusal.status}]" in row[0]
    named = [header for header in ("WWW-Authenticate", "Retry-After") if header in refusal.headers]
    assert named == (["Retry-After"] if "`Retry-After`" in row[1] else ["WWW-Authenticate"])
    challenge = refusal.headers.get("WWW-Authenticate", "")
    assert re.findall(r'error="\w+"', row[1]) == re.findall(r'error="\w+"', challenge)


def test_what_is_said_at_start_is_what_the_code_says() -> None:
    """Each beginning of a message that troubleshooting.md explains is in a message of the code."""
    sources = (ROOT / "packages" / "authsec-fastapi" / "src").rglob("*.py")
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in sources]
    texts = [
        node.value
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    for words, _ in _rows("troubleshooting.md", "It does not start"):
        assert any(words in text for text in texts), words


def test_how_long_something_old_counts_is_what_the_defaults_are() -> None:
    """issuers.md names the settings that bound it, and their defaults."""
    defaults = {field.name: _default(field) for field in fields(TrustedIssuer)}
    rows = _rows("issuers.md", "How long something old counts")
    assert len(rows) == 4
    for _, bound, setting in rows:
        (number,) = re.findall(r"\d+", bound)
        assert float(number) == defaults[_code(setting)[0]], setting
    (cooldown,) = re.findall(r"`cooldown` \((\d+)\)", _text("issuers.md"))
    assert float(cooldown) == defaults["cooldown"]


def test_every_mode_of_revocation_is_documented() -> None:
    """issuers.md has each, and no other."""
    assert {name.strip('"') for name in _named("issuers.md", "Revocation")} == set(get_args(RevocationCheck))


def test_every_setting_is_documented_with_its_default() -> None:
    """settings.md has each variable in its order; a default in code or in figures is the one that holds."""
    rows = _rows("settings.md", "Settings")
    assert [_code(row[0]) for row in rows] == [[f"AUTHSEC_GUARD_{name.upper()}"] for name in GuardSettings.model_fields]
    held = {field.name: _default(field) for field in fields(TrustedIssuer)} | {
        "introspection_max_age": Introspection(client_id="a", client_key="b" * 16, url="https://a.example").max_age,
        "static_subject": "static",
        **{name: field.default for name, field in GuardSettings.model_fields.items() if field.default is not None},
    }
    stated = {_code(row[0])[0].removeprefix("AUTHSEC_GUARD_").lower(): row[1].strip("`") for row in rows}
    figures = {name: text for name, text in stated.items() if re.fullmatch(r"[\w.]+", text) and text != "none"}
    assert len(figures) == 12
    assert figures == {name: str(held[name]).lower().removesuffix(".0") for name in figures}


def _save_policies(folder: Path) -> None:
    for form in ("yaml", "toml"):
        (code,) = re.findall(rf"^```{form}\n(.*?)^```$", _text("policy.md"), re.MULTILINE | re.DOTALL)
        (folder / f"policy.{form}").write_text(code, encoding="utf-8")


def test_what_is_asked_of_the_policy_is_answered_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each command of policy.md prints what stands beside it, and its exit code says whether that is good."""
    monkeypatch.chdir(tmp_path)
    _save_policies(tmp_path)
    lines = re.findall(r"^\.venv/bin/python -m authsec_fastapi (.*?)(?:  # (.*))?$", _text("policy.md"), re.MULTILINE)
    (table,) = re.findall(r"^```text\n(.*?)^```$", _text("policy.md"), re.MULTILINE | re.DOTALL)
    assert len(lines) == 5
    for command, promised in lines:
        code = main(shlex.split(command))
        printed = capsys.readouterr().out
        assert code == (1 if promised.startswith("denied") else 0), command
        assert printed == (f"{promised}\n" if promised else table), printed


def test_both_forms_of_the_policy_say_the_same(tmp_path: Path) -> None:
    """policy.md has one policy as YAML and as TOML, and each is one."""
    _save_policies(tmp_path)
    policy = load_policy(tmp_path / "policy.yaml")
    assert policy == load_policy(tmp_path / "policy.toml")
    assert (set(policy.roles), len(policy.tools), len(policy.routes)) == ({"viewer", "agent", "admin"}, 3, 4)


def test_the_bounds_of_conversations_are_the_defaults() -> None:
    """agents.md names each with its figure."""
    stated = dict(re.findall(r"`(\w+)` \((\d+)\)", _text("agents.md")))
    defaults = {
        name: str(parameter.default).removesuffix(".0")
        for name, parameter in inspect.signature(Conversations).parameters.items()
        if name != "clock"
    }
    assert stated == defaults
