"""`nox -s bench`: measure, print, and write what the docs show. Progress goes to stderr.

Nothing here knows a figure: all of them come from this run, or with `--from` from the JSON of an earlier one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
import time
from pathlib import Path

from benchmarks.environments import Environments
from benchmarks.plot import to_svg
from benchmarks.processes import ROOT, Endpoint, private_environment
from benchmarks.report import Report, Section, from_json, to_json, to_markdown, to_text
from benchmarks.running import cold_callers, fetching, held_token, verifying, workers
from benchmarks.starting import importing, memory, mock_tokens

_PAGE, _PLOT = ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "img" / "benchmarks.svg"
_MARKERS = re.compile(r"(?<=<!-- figures -->\n).*(?=<!-- /figures -->)", re.DOTALL)


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def _measure(given: argparse.Namespace) -> Report:
    environments = Environments(given.wheels, given.folder / "environments")
    private = private_environment(given.folder / "home")
    sections: list[Section] = []

    _say("making environments")
    with (
        Endpoint(sys.executable, private) as endpoint,
        Endpoint(sys.executable, private, delay=given.delay) as slow,
        workers(environments, private, endpoint.url) as processes,
        workers(environments, private, slow.url) as cold,
    ):
        _say("P1: held tokens")
        sections.append(held_token(processes, rounds=given.rounds))
        _say("P2: cold callers")
        sections.append(cold_callers(cold, slow, delay=given.delay, repeats=given.repeats))
        _say("P3: fetches")
        sections.append(fetching(processes, endpoint.url, repeats=given.repeats))
        _say("P4: imports (the frameworks take a while)")
        sections.append(importing(environments, private, repeats=3 * given.repeats))
        _say("P5: verification")
        sections.append(verifying(processes, repeats=given.repeats))
        _say("P6: MOCK mode")
        sections.append(mock_tokens(processes, environments, private, repeats=3 * given.repeats))
        _say("P9: memory")
        sections.append(memory(environments, private, endpoint.url, repeats=given.repeats))
    return Report(machine=_machine(), versions=environments.versions(), sections=tuple(sections))


def _machine() -> dict[str, str]:
    """Return what the run was made on, as far as the figures depend on it."""
    return {
        "cores": f"{os.cpu_count()} cores ({platform.machine()})",
        "system": platform.system(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "day": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def _write(report: Report, page: Path, plot: Path) -> None:
    text = page.read_text(encoding="utf-8")
    if not _MARKERS.search(text):
        raise SystemExit(f"{page.name} has lost its markers <!-- figures --> and <!-- /figures -->")
    tables = to_markdown(report)
    page.write_text(_MARKERS.sub(lambda _: f"\n{tables}\n", text), encoding="utf-8")
    plot.write_text(to_svg(report), encoding="utf-8")
    _say(f"wrote {page.name} and {plot.name}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="nox -s bench --", description="Measure authsec beside other clients.")
    parser.add_argument("--wheels", type=Path, help="the folder with this tree's wheels; nox gives it")
    parser.add_argument("--folder", type=Path, help="where to make environments; nox gives it")
    parser.add_argument("--rounds", type=int, default=101, help="turns of each client in P1")
    parser.add_argument("--repeats", type=int, default=5, help="how often the rest is repeated")
    parser.add_argument("--delay", type=float, default=0.1, help="seconds that the endpoint takes in P2")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--no-docs", action="store_true", help="leave the docs as they are")
    parser.add_argument("--page", type=Path, default=_PAGE, help="the page whose figures to replace")
    parser.add_argument("--plot", type=Path, default=_PLOT, help="where to draw the plot")
    parser.add_argument("--from", dest="earlier", type=Path, metavar="FILE", help="show an earlier run's JSON")
    return parser.parse_args()


def main() -> None:
    """Run it."""
    given = _arguments()
    earlier: Path | None = given.earlier
    report = from_json(json.loads(earlier.read_text(encoding="utf-8"))) if earlier else _measure(given)
    print(json.dumps(to_json(report), indent=2) if given.json else to_text(report))
    if not given.no_docs:
        _write(report, given.page, given.plot)


if __name__ == "__main__":
    main()
