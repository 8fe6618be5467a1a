"""`nox -s bench`: measure, print, and write what the docs show. Progress goes to stderr.

Nothing here knows a figure: all of them come from this run, or with `--from` from the JSON of an earlier one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.authority import growth, issuing, memory_of_the_authority
from benchmarks.environments import Environments
from benchmarks.plot import to_svg
from benchmarks.processes import ROOT, Endpoint, private_environment
from benchmarks.report import Group, Report, Section, from_json, to_json, to_markdown, to_text
from benchmarks.running import cold_callers, fetching, held_token, verifying, workers
from benchmarks.served import Filling
from benchmarks.starting import importing, memory, mock_tokens
from benchmarks.vault import reading

_PAGE, _PLOT = ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "img" / "benchmarks.svg"
_MARKERS: dict[Group, str] = {"clients": "figures", "authority": "figures of the authority"}
_TITLES = {
    "P1": "held tokens",
    "P2": "cold callers",
    "P3": "fetches",
    "P4": "imports (the frameworks take a while)",
    "P5": "verification",
    "P6": "MOCK mode",
    "P7": "tokens a second",
    "P8": "secrets a second",
    "P9": "memory",
    "growth": "a database that has grown (it takes some minutes to grow)",
}


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def _measure(given: argparse.Namespace) -> Report:
    environments = Environments(given.wheels, given.folder / "environments")
    private = private_environment(given.folder / "home")
    sections: list[Section] = []
    if given.of in (None, "clients"):
        sections += _clients(given, environments, private)
    if given.of in (None, "authority"):
        sections += _authority(given, environments, private)
    versions = environments.versions() if given.of != "authority" else {}
    return Report(machine=_machine(), versions=versions, sections=tuple(sections))


def _clients(given: argparse.Namespace, environments: Environments, private: Mapping[str, str]) -> list[Section]:
    with (
        Endpoint(sys.executable, private) as endpoint,
        Endpoint(sys.executable, private, delay=given.delay) as slow,
        workers(environments, private, endpoint.url) as processes,
        workers(environments, private, slow.url) as cold,
    ):
        repeats = given.repeats
        return _run(
            given,
            {
                "P1": lambda: held_token(processes, rounds=given.rounds),
                "P2": lambda: cold_callers(cold, slow, delay=given.delay, repeats=repeats),
                "P3": lambda: fetching(processes, endpoint.url, repeats=repeats),
                "P4": lambda: importing(environments, private, repeats=3 * repeats),
                "P5": lambda: verifying(environments, private, endpoint.url, repeats=repeats),
                "P6": lambda: mock_tokens(processes, environments, private, repeats=3 * repeats),
                "P9": lambda: memory(environments, private, endpoint.url, repeats=repeats),
            },
        )


def _authority(given: argparse.Namespace, environments: Environments, private: Mapping[str, str]) -> list[Section]:
    folder = given.folder / "authority"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    filling = Filling(given.entries, given.agents)
    return _run(
        given,
        {
            "P7": lambda: issuing(environments, private, folder, repeats=given.repeats),
            "P8": lambda: reading(environments, private, folder, repeats=given.repeats),
            "P9": lambda: memory_of_the_authority(environments, private, folder, requests=given.requests),
            "growth": lambda: growth(environments, private, folder, filling=filling, repeats=given.repeats),
        },
    )


def _run(given: argparse.Namespace, parts: Mapping[str, Callable[[], Section]]) -> list[Section]:
    sections = []
    for name, part in parts.items():
        if not given.only or name in given.only:
            _say(f"{name}: {_TITLES[name]}")
            sections.append(part())
    return sections


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
    for group, name in _MARKERS.items():
        marked = re.compile(rf"(?<=<!-- {name} -->\n).*(?=<!-- /{name} -->)", re.DOTALL)
        if not marked.search(text):
            raise SystemExit(f"{page.name} has lost its markers <!-- {name} --> and <!-- /{name} -->")
        part = report.of(group)
        if part.sections:
            tables = f"\n{to_markdown(part)}\n"
            text = marked.sub(tables.replace("\\", r"\\"), text)
    page.write_text(text, encoding="utf-8")
    _say(f"wrote {page.name}")
    clients = report.of("clients")
    if clients.sections:
        plot.write_text(to_svg(clients), encoding="utf-8")
        _say(f"wrote {plot.name}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="nox -s bench --", description="Measure authsec beside other clients.")
    parser.add_argument("--wheels", type=Path, help="the folder with this tree's wheels; nox gives it")
    parser.add_argument("--folder", type=Path, help="where to make environments; nox gives it")
    parser.add_argument("--of", choices=list(_MARKERS), help="measure the clients, or the authority, alone")
    parser.add_argument(
        "--only", nargs="+", choices=list(_TITLES), metavar="ID", help="measure these alone; the docs stay as they are"
    )
    parser.add_argument("--rounds", type=int, default=101, help="turns of each client in P1")
    parser.add_argument("--repeats", type=int, default=5, help="how often the rest is repeated")
    parser.add_argument("--delay", type=float, default=0.1, help="seconds that the endpoint takes in P2")
    parser.add_argument("--requests", type=int, default=100_000, help="tokens between two looks at the memory, in P9")
    parser.add_argument("--entries", type=int, default=1_000_000, help="audit entries of the database that has grown")
    parser.add_argument("--agents", type=int, default=10_000, help="its agents")
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
    if not given.no_docs and not given.only:
        _write(report, given.page, given.plot)


if __name__ == "__main__":
    main()
