"""Whether every numbered requirement in scope is claimed by a test, wherever in the repository that test runs.

The claims are read from the sources, because the adapters' tests run in other environments. It cannot tell whether a
test shows what it claims.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]


def _in_scope() -> frozenset[str]:
    areas = tomllib.loads((ROOT / "tests" / "requirements.toml").read_text(encoding="utf-8"))
    return frozenset(requirement for area in areas.values() for requirement in area)


def _claims(source: str) -> Iterator[tuple[int, object]]:
    """Yield line and id of each `pytest.mark.req(…)`; an id that is not a literal yields None."""
    for node in ast.walk(ast.parse(source)):
        is_req = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "req"
        if isinstance(node, ast.Call) and is_req and ast.unparse(node.func) == "pytest.mark.req":
            arguments: list[ast.expr | None] = [*node.args] or [None]
            for argument in arguments:
                yield node.lineno, argument.value if isinstance(argument, ast.Constant) else None


@cache
def _claims_of_the_repository() -> tuple[tuple[str, object], ...]:
    return tuple(
        (f"{path.relative_to(ROOT).as_posix()}:{line}", requirement)
        for folder in (*ROOT.glob("packages/*/tests"), ROOT / "tests")
        for path in folder.rglob("test_*.py")
        for line, requirement in _claims(path.read_text(encoding="utf-8"))
    )


def test_every_requirement_in_scope_is_claimed() -> None:
    """A requirement that no test claims is not done."""
    unclaimed = _in_scope() - {requirement for _, requirement in _claims_of_the_repository()}
    assert not unclaimed, f"no test is marked with {sorted(unclaimed)}"


def test_every_claim_names_a_requirement_in_scope() -> None:
    """A claim with a mistyped id, or of something out of scope, is an error and not a silent nothing."""
    unknown = {
        where: requirement for where, requirement in _claims_of_the_repository() if requirement not in _in_scope()
    }
    assert not unknown


@pytest.mark.parametrize(
    ("source", "claimed"),
    [
        ('@pytest.mark.req("A1")\ndef test(): ...', ["A1"]),
        ('@pytest.mark.req("A1", "A2")\nclass TestIt: ...', ["A1", "A2"]),
        ('pytestmark = [pytest.mark.req("A1")]', ["A1"]),
        ('ROWS = [pytest.param(1, marks=pytest.mark.req("A1"))]', ["A1"]),
        ("@pytest.mark.req(WHICH)\ndef test(): ...", [None]),
        ("@pytest.mark.req()\ndef test(): ...", [None]),
        ('"""Says pytest.mark.req("A1") in words."""\n# @pytest.mark.req("A1")', []),
    ],
)
def test_claims_are_read_wherever_a_marker_can_stand(source: str, claimed: list[object]) -> None:
    """Markers on functions, classes, modules and parameters count; text about them does not."""
    assert [requirement for _, requirement in _claims(source)] == claimed
