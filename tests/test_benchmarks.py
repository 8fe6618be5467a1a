"""Whether a benchmark run is told in full: every goal, every client, missed or not measured. Nothing is timed here."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[1]
IDS = ("P1", "P2", "P3", "P4", "P5", "P6", "P9")
OF_THE_AUTHORITY = ("P7", "growth")
_ALL = (*IDS, *OF_THE_AUTHORITY)
PAGE = (
    "before\n<!-- figures -->\nold\n<!-- /figures -->\nbetween\n"
    "<!-- figures of the authority -->\nolder\n<!-- /figures of the authority -->\nafter\n"
)


def _section(number: str) -> dict[str, Any]:
    row = {"unit": None, "why": None, "note": ""}
    return {
        "id": number,
        "title": f"title of {number}",
        "unit": "ns",
        "ratio_to": "the floor",
        "how": "So.",
        "log": number == "P1",
        "group": "authority" if number in OF_THE_AUTHORITY else "clients",
        "rows": [
            {**row, "what": "floor", "kind": "floor", "value": 100.0, "ratio": 1.0},
            {**row, "what": "authsec", "kind": "ours", "value": 150.2, "ratio": 1.502},
            {**row, "what": "other & <co>", "kind": "reference", "value": 14500.0, "ratio": 145.0},
            {**row, "what": "absent", "kind": "reference", "value": None, "ratio": None, "why": "no such package"},
        ],
        "goals": [
            {"text": "of floor", "figure": 1.502, "limit": 1.5, "unit": "×", "at_least": False},
            {"text": "of speed", "figure": 4000.0, "limit": 3000.0, "unit": "/s", "at_least": True},
            {"text": "of nothing", "figure": None, "limit": 2.0, "unit": "ms", "at_least": False},
        ],
    }


@pytest.fixture
def run(tmp_path: Path) -> dict[str, Any]:
    """Return what the program tells and draws of a run with fixed figures."""
    told = {"machine": {"python": "CPython"}, "versions": {"other": "1.0"}, "sections": [_section(n) for n in _ALL]}
    (tmp_path / "run.json").write_text(json.dumps(told), encoding="utf-8")
    (tmp_path / "page.md").write_text(PAGE, encoding="utf-8")
    places = ["--page", str(tmp_path / "page.md"), "--plot", str(tmp_path / "plot.svg")]
    command = [sys.executable, "-m", "benchmarks", "--from", str(tmp_path / "run.json"), *places]
    shown = [
        subprocess.run([*command, *more], cwd=ROOT, check=True, capture_output=True, encoding="utf-8").stdout
        for more in ((), ("--json",))
    ]
    page, plot = ((tmp_path / name).read_text(encoding="utf-8") for name in ("page.md", "plot.svg"))
    return {"text": shown[0], "json": json.loads(shown[1]), "page": page, "plot": plot, "told": told}


@pytest.mark.parametrize("number", _ALL)
def test_every_goal_is_told(run: dict[str, Any], number: str) -> None:
    """Each part of the run is in the table for the terminal and on the page of the docs."""
    assert f"{number}  title of {number}" in run["text"]
    assert f"### {number}: title of {number}" in run["page"]


def test_what_was_missed_is_not_rounded_away(run: dict[str, Any]) -> None:
    """1.502 against 1.5 is missed and shown as such; some limits are floors; what was not measured is no success."""
    assert "missed  of floor: 1.502 × (at most 1.5 ×)" in run["text"]
    assert "reached  of speed: 4\u202f000 /s (at least 3\u202f000 /s)" in run["text"]
    assert "not measured  of nothing: not measured (at most 2 ms)" in run["text"]
    assert [goal["reached"] for goal in run["json"]["sections"][0]["goals"]] == [False, True, None]


def test_a_client_without_a_figure_stays_in_the_report(run: dict[str, Any]) -> None:
    """A reference that could not be measured is named everywhere, with the reason."""
    assert "not measured: no such package" in run["text"]
    assert "| absent | – |  | not measured: no such package |" in run["page"]
    assert run["plot"].count("not measured") >= 1


def test_only_what_is_between_the_markers_changes(run: dict[str, Any]) -> None:
    """The text around the figures is the author's."""
    assert run["page"].startswith("before\n<!-- figures -->\n")
    assert "<!-- /figures -->\nbetween\n<!-- figures of the authority -->\n" in run["page"]
    assert run["page"].endswith("<!-- /figures of the authority -->\nafter\n")
    assert "old" not in run["page"]


def test_the_halves_of_a_run_have_their_places(run: dict[str, Any]) -> None:
    """What was measured of the authority is not among the clients, neither on the page nor in the plot."""
    clients, _, authority = run["page"].partition("between")
    assert "title of P1" in clients
    assert "title of P7" not in clients
    assert "title of P7" in authority
    assert "title of P1" not in authority
    assert "P7" not in run["plot"]


def test_what_was_not_measured_leaves_the_page_as_it_is(tmp_path: Path) -> None:
    """A run of the authority alone changes its own figures, and no plot is drawn."""
    told = {"machine": {"python": "CPython"}, "versions": {}, "sections": [_section("P7")]}
    (tmp_path / "run.json").write_text(json.dumps(told), encoding="utf-8")
    (tmp_path / "page.md").write_text(PAGE, encoding="utf-8")
    places = ["--page", str(tmp_path / "page.md"), "--plot", str(tmp_path / "plot.svg")]
    command = [sys.executable, "-m", "benchmarks", "--from", str(tmp_path / "run.json"), *places]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "\nold\n" in page
    assert "older" not in page
    assert not (tmp_path / "plot.svg").exists()


def test_the_json_of_a_run_can_be_shown_again(run: dict[str, Any]) -> None:
    """Nothing of a run is lost on the way through its JSON."""
    again = json.loads(json.dumps(run["json"]))
    for section in again["sections"]:
        for goal in section["goals"]:
            del goal["reached"]
    assert again == run["told"]


def test_the_plot_is_a_picture_with_every_label(run: dict[str, Any]) -> None:
    """The SVG is well-formed, its text is escaped, and longer bars mean larger figures."""
    root = ElementTree.fromstring(run["plot"])  # noqa: S314 -- our own output
    text = " ".join(root.itertext())
    assert all(label in text for label in ("P1", "P2", "P4", "P9", "other & <co>", "14\u202f500"))
    bars = [float(bar.attrib["width"]) for bar in root.iter("{http://www.w3.org/2000/svg}rect") if "y" in bar.attrib]
    assert bars[:3] == sorted(bars[:3])
    assert len(set(bars[:3])) == 3


def test_no_figure_is_written_into_the_programs() -> None:
    """The page of the docs says when its figures were measured, and the programs hold goals and settings only."""
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    figures = page.partition("<!-- figures -->\n")[2].partition("<!-- /figures -->")[0]
    assert re.search(r"Measured on .*\d{4}-\d\d-\d\d", figures)
    assert all(f"| {number} |" in figures for number in IDS)
