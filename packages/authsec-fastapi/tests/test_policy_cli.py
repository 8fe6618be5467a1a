"""`python -m authsec_fastapi`: what a policy says, for people and programs, and never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from authsec_fastapi.__main__ import main

POLICY = """\
version: 1
roles:
  viewer: [read]
  agent: [read, respond]
tools:
  clock: {}
  refund: {scopes: [write:refunds], action: respond}
  both: {role: viewer, action: respond}
routes:
  - {path: /health, methods: [GET], public: true}
  - {path: /chat, methods: [POST], action: respond}
"""
TABLES = """\
role    read  respond
------  ----  -------
viewer  yes   -
agent   yes   yes

tool    scopes         action   role    who
------  -------------  -------  ------  -------------------
clock                                   (any caller)
refund  write:refunds  respond          agent
both                   respond  viewer  (no role by itself)

methods  path     scopes  action   role  who
-------  -------  ------  -------  ----  ---------
GET      /health                         (anybody)
POST     /chat            respond        agent
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A file with the policy."""
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return str(path)


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    """Return the exit code, and what is told to programs."""
    code = main([*arguments, "--json"])
    out, err = capsys.readouterr()
    assert out.isascii()
    assert err == ""
    told: dict[str, Any] = json.loads(out)
    return code, told


def test_check_shows_who_may_do_what(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Roles with their actions, tools and routes with what they need, and which roles are enough."""
    assert main(["check", path]) == 0
    assert capsys.readouterr() == (TABLES, "")
    code, told = document(capsys, "check", path)
    assert (code, told["status"], told["actions"]) == (0, "ok", ["read", "respond"])
    assert told["roles"] == {"viewer": ["read"], "agent": ["read", "respond"]}
    assert [(tool["tool"], tool["roles"]) for tool in told["tools"]] == [
        ("clock", None),
        ("refund", ["agent"]),
        ("both", []),
    ]
    assert [(route["path"], route["public"], route["roles"]) for route in told["routes"]] == [
        ("/health", True, None),
        ("/chat", False, ["agent"]),
    ]


@pytest.mark.req("RV5")
def test_check_asks_about_what_looks_like_a_typo(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An action that nothing needs and that is nearly another, and two roles that are; no more than that."""
    roles = "viewer: [respnod, archive]\n  agent: [read, respond]\n  viewr: []\n  team-1: []\n  team-2: []"
    Path(path).write_text(POLICY.replace("viewer: [read]\n  agent: [read, respond]", roles))
    code, told = document(capsys, "check", path)
    assert (code, told["status"]) == (0, "ok")
    assert told["notes"] == [
        "role 'viewer': no tool and no route needs 'respnod': did you mean 'respond'?",
        "the roles 'viewer' and 'viewr' are nearly the same: are both meant?",
    ]
    assert main(["check", path]) == 0
    assert capsys.readouterr().out.endswith("".join(f"\nnote: {note}" for note in told["notes"]) + "\n")


def test_an_empty_policy_is_said_to_be_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No table is shown of nothing, and what no routes mean is said."""
    path = tmp_path / "policy.toml"
    path.write_text("version = 1\n")
    assert main(["check", str(path)]) == 0
    out = capsys.readouterr().out
    assert "No role permits anything." in out
    assert "No tool is known." in out
    assert "each good token" in out


@pytest.mark.parametrize(
    ("asked", "code", "said"),
    [
        (["--tool", "clock"], 0, "allowed\n"),
        (["--role", "agent", "--scope", "write:refunds", "--tool", "refund"], 0, "allowed\n"),
        (["--role", "agent", "--scope", "write", "--tool", "refund"], 1, "denied: the token lacks write:refunds\n"),
        (["--role", "viewer", "--scope", "write:refunds", "--tool", "refund"], 1, "denied: none of the roles permits"),
        (["--role", "agent", "--role", "viewer", "--tool", "both"], 0, "allowed\n"),
        (["--role", "agent", "--tool", "both"], 1, "denied: the caller lacks the role"),
        (["--role", "agnet", "--action", "read"], 1, "note: the policy has no role 'agnet': did you mean 'agent'?\n"),
        (["--tool", "refnd"], 1, "denied: the policy has no such tool\nnote: the policy has no tool 'refnd': did you"),
        (["--action", "fly"], 1, "note: no role of the policy permits 'fly': add it"),
        (["--role", "agent", "--action", "respond", "--tool", "clock"], 0, "allowed\n"),
        (["--route", "GET", "/health"], 0, "allowed\n"),
        (["--role", "agent", "--route", "POST", "/chat"], 0, "allowed\n"),
        (["--route", "POST", "/chat"], 1, "denied: none of the roles permits"),
        (["--route", "post", "/chat"], 1, "denied: the policy has no rule for this method and path"),
        (["--role", "\x1b[31m", "--tool", "clock"], 0, "'\\x1b[31m'"),
        (["--role", "\udcff", "--tool", "clock"], 0, "'\\udcff'"),
    ],
)
def test_explain_says_why(
    path: str, asked: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is allowed or denied as the guard would decide it, with what is missing and which names are unknown."""
    assert main(["explain", path, *asked]) == code
    out, err = capsys.readouterr()
    assert said in out
    assert (err, "\x1b" in out) == ("", False)
    told_code, told = document(capsys, "explain", path, *asked)
    assert (told_code, told["status"]) == (code, "allowed" if code == 0 else "denied")


@pytest.mark.parametrize(
    ("asked", "code", "said"),
    [
        ([], 2, "required: command"),
        (["verify"], 2, "invalid choice"),
        (["check"], 2, "required: policy"),
        (["check", "{path}", "--jso"], 2, "unrecognized"),
        (["check", "/nowhere.yaml"], 1, "/nowhere.yaml: cannot be read: No such file"),
        (["check", "a\0\x1b.yaml"], 1, "'a\\x00\\x1b.yaml': cannot be read"),
        (["explain", "/nowhere.yaml", "--tool", "a"], 2, "cannot be read"),
        (["explain", "{path}"], 2, "name what is asked for"),
        (["explain", "{path}", "--role", "agent"], 2, "name what is asked for"),
        (["explain", "{path}", "--tool", "clock", "--route", "GET", "/"], 2, "name what is asked for"),
        (["explain", "{path}", "--route", "GET"], 2, "expected 2 arguments"),
    ],
)
def test_what_cannot_be_answered(
    path: str, asked: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A policy that is not good is 1 for check; a question that is none is 2; the reason is on stderr."""
    assert main([one.replace("{path}", path) for one in asked]) == code
    out, err = capsys.readouterr()
    assert said in err
    assert out == ""


def test_help_is_an_answer(capsys: pytest.CaptureFixture[str]) -> None:
    """It is 0, and on stdout."""
    assert main(["--help"]) == 0
    assert "explain" in capsys.readouterr().out


def test_errors_are_told_to_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """As JSON on stdout."""
    code, told = document(capsys, "check", "/nowhere.yaml")
    assert (code, told["status"]) == (1, "error")
    assert "cannot be read" in told["message"]


def test_it_runs_where_the_terminal_knows_ascii_alone(tmp_path: Path) -> None:
    """Names in other letters are spelled out, and a reader that goes away is no error."""
    path = tmp_path / "policy.yaml"
    path.write_text("version: 1\nroles: {prüfer: [lesen]}\n", encoding="utf-8")
    command = [sys.executable, "-m", "authsec_fastapi", "check", str(path)]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii:strict"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "pr\\xfcfer" in done.stdout
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as gone:
        left = subprocess.run(command, stdout=gone, stderr=subprocess.PIPE, text=True, check=False)
    assert (left.returncode, left.stderr) == (0, "")
