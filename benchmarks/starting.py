"""What measures how a program starts: imports (P4), the first MOCK token (P6), resident memory (P9).

Each figure is the median of fresh processes; those that are compared take turns.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks.environments import REFERENCES, Environments
from benchmarks.processes import ROOT, BrokenProcessError, run_once
from benchmarks.report import Goal, Row, Section
from benchmarks.running import Workers

__all__ = ["importing", "memory", "mock_tokens"]

_PROGRAMS = Path(__file__).parent / "programs"


class _Import(NamedTuple):
    """Statements to time, in one process, one after the other; the last one's time is the figure."""

    what: str
    home: str
    statements: tuple[str, ...]
    kind: Any = "reference"


_CORE = "from authsec_core import AuthSecClient"
_FLOOR = "import httpx, pydantic_settings"
_ADAPTERS = {
    "autogen": ("import autogen", "from authsec_autogen import make_secure_fetch"),
    "crewai": ("import crewai.tools", "from authsec_crewai import AuthSecSecureFetchTool"),
}
_IMPORTS = (
    _Import("import authsec_core", "authsec", ("import authsec_core",), "ours"),
    _Import("import authsec_autogen", "authsec", ("import authsec_autogen",), "ours"),
    _Import("import authsec_crewai", "crewai", ("import authsec_crewai",), "ours"),
    _Import(_CORE, "authsec", (_CORE,), "ours"),
    _Import(_FLOOR, "authsec", (_FLOOR,), "floor"),
    _Import("import authsec_langchain", "authsec-langchain-sdk", ("import authsec_langchain",)),
    _Import("import authsec_sdk", "authsec-sdk", ("import authsec_sdk",)),
    _Import("authlib's httpx client", "authlib", ("import authlib.integrations.httpx_client",)),
    _Import("import httpx_auth", "httpx-auth", ("import httpx_auth",)),
    _Import("import google.auth", "google-auth", ("import google.auth",)),
    _Import("import botocore.session", "botocore", ("import botocore.session",)),
    _Import("import msal", "msal", ("import msal",)),
    _Import("import azure.identity", "azure-identity", ("import azure.identity",)),
)


def importing(environments: Environments, environment: Mapping[str, str], *, repeats: int) -> Section:
    """Measure imports in fresh interpreters (P4)."""
    slow = [_Import(framework, home, (framework, adapter)) for home, (framework, adapter) in _ADAPTERS.items()]
    taken: dict[_Import, list[list[float]]] = {timed: [] for timed in (*_IMPORTS, *slow)}
    why: dict[_Import, str] = {}
    for repeat in range(1 + repeats):  # the first one fills the disk's cache
        for timed in taken:
            if timed not in why and (timed in _IMPORTS or repeat <= max(3, repeats // 3)):
                told = _timed(timed, environments, environment, why)
                taken[timed] += [told] if told is not None and repeat else []
    rows = [_row(timed, taken[timed], why.get(timed)) for timed in _IMPORTS]
    added = {}
    for timed in slow:
        rows.append(_row(timed, [told[:1] for told in taken[timed]], why.get(timed)))
        adapter = f"then {timed.statements[1].rpartition(' ')[2]}"
        row = _row(timed._replace(what=adapter, kind="ours"), [told[1:] for told in taken[timed]], why.get(timed))
        rows.append(row)
        added[timed.home] = median(told[1] / told[0] for told in taken[timed]) if taken[timed] else None
    return Section(
        id="P4",
        title="imports",
        unit="ms",
        ratio_to="",
        how="Timed inside a fresh, isolated interpreter with compiled modules, so that its own start does not count. "
        "An adapter is timed after its framework, in the same process.",
        rows=tuple(rows),
        goals=_import_goals(rows, taken, added),
        log=True,
    )


def _timed(
    timed: _Import, environments: Environments, environment: Mapping[str, str], why: dict[_Import, str]
) -> list[float] | None:
    python = environments.python(timed.home)
    if python is None:
        why[timed] = environments.failures[timed.home]
        return None
    lines = ["import json, time", "taken = []"]
    for statement in timed.statements:
        lines += ["started = time.perf_counter()", statement, "taken.append((time.perf_counter() - started) * 1000)"]
    lines.append("print(); print(json.dumps({'taken': taken}))")
    try:
        taken: list[float] = run_once([python, "-I", "-c", "\n".join(lines)], environment)["taken"]
    except BrokenProcessError as exc:
        why[timed] = str(exc)
        return None
    return taken


def _row(timed: _Import, taken: list[list[float]], why: str | None) -> Row:
    if not taken:
        return Row(what=timed.what, kind=timed.kind, why=why or "it was not run")
    return Row(what=timed.what, kind=timed.kind, value=median(told[-1] for told in taken))


def _import_goals(
    rows: list[Row], taken: Mapping[_Import, list[list[float]]], added: Mapping[str, float | None]
) -> tuple[Goal, ...]:
    value = {row.what: row.value for row in rows}
    turns = {timed.what: [told[-1] for told in all_told] for timed, all_told in taken.items()}
    pairs = list(zip(turns[_CORE], turns[_FLOOR], strict=False))
    against = median(own / floor for own, floor in pairs) if pairs else None
    package = value["import authsec_core"]
    return (
        Goal(text="`import authsec_core`, over the bare interpreter", figure=package, limit=10.0, unit="ms"),
        Goal(text=f"`{_CORE}`, against `{_FLOOR}`", figure=against, limit=1.15, unit="×"),
        *(
            Goal(
                text=f"what the adapter adds to the import of {home}",
                figure=None if share is None else share * 100,
                limit=2.0,
                unit="%",
            )
            for home, share in added.items()
        ),
    )


def mock_tokens(
    processes: Workers, environments: Environments, environment: Mapping[str, str], *, repeats: int
) -> Section:
    """Measure how soon a process has its first MOCK token, and how many it can make (P6)."""
    python = environments.python("authsec")
    process = processes.running.get("authsec")
    if python is None or process is None:
        rows = [Row(what="authsec", kind="ours", why=processes.missing["authsec"])]
        return _mock_section(rows, None, None)
    started = [_first_token(python, environment) for _ in range(1 + repeats)][1:]
    told = [process.ask(do="mint", calls=100) for _ in range(repeats)]
    rate = {name: median(1 / turn[name] for turn in told) for name in ("signature", "PyJWT", "mint")}
    share = median(turn["mint"] / turn["signature"] for turn in told)
    first = median(started)
    rows = [
        Row(
            what="first token, imports aside",
            kind="ours",
            value=first,
            unit="ms",
            note=f"slowest {max(started):.0f} ms",
        ),
        Row(what="RSA-2048 signatures", kind="floor", value=rate["signature"], unit="/s"),
        Row(what="PyJWT with a key object", kind="reference", value=rate["PyJWT"], unit="/s"),
        Row(what="MOCK tokens", kind="ours", value=rate["mint"], unit="/s", note=f"each {share:.2f} × a signature"),
    ]
    return _mock_section(rows, first, rate["mint"])


def _mock_section(rows: list[Row], first: float | None, rate: float | None) -> Section:
    return Section(
        id="P6",
        title="MOCK mode",
        unit="",
        ratio_to="",
        how="From the start of the process, as its parent sees it, to the first token, less the time that the imports "
        "took; the key is made in that time. Then tokens per second on one thread (more is better).",
        rows=tuple(rows),
        goals=(
            Goal(text="first token, imports aside", figure=first, limit=150.0, unit="ms"),
            Goal(text="tokens per second and core", figure=rate, limit=3000.0, unit="/s", at_least=True),
        ),
    )


def _first_token(python: str, environment: Mapping[str, str]) -> float:
    began = time.monotonic()
    told = run_once([python, "-I", str(_PROGRAMS / "first_token.py")], environment)
    return (float(told["at"]) - began - float(told["imports"])) * 1000


def memory(environments: Environments, environment: Mapping[str, str], url: str, *, repeats: int) -> Section:
    """Measure what a process weighs that has just used a client (P9)."""
    subjects = ("bare interpreter", "httpx", "authsec", *REFERENCES)
    rows = [_weighed(subject, environments, environment, url, repeats) for subject in subjects]
    own = next(row for row in rows if row.what.startswith("authsec:"))
    return Section(
        id="P9",
        title="memory",
        unit="MB",
        ratio_to="",
        how="Resident memory of a process that has got a token from the loopback endpoint; ours has also fetched with "
        "it, and the one with httpx has made the same GET.",
        rows=tuple(rows),
        goals=(Goal(text="a client in use", figure=own.value, limit=45.0, unit="MB"),),
    )


def _weighed(subject: str, environments: Environments, environment: Mapping[str, str], url: str, repeats: int) -> Row:
    what = {"bare interpreter": "the bare interpreter", "httpx": "httpx: a GET", "authsec": "authsec: a token, a fetch"}
    kind: Any = "ours" if subject == "authsec" else "reference" if subject in REFERENCES else "floor"
    home = subject if subject in REFERENCES else "authsec"
    python = environments.python(home)
    if python is None:
        return Row(what=what.get(subject, subject), kind=kind, why=environments.failures[home])
    command = [python, "-I", str(_PROGRAMS / "memory.py"), str(ROOT), subject, url]
    try:
        weights = [float(run_once(command, environment)["bytes"]) / 1e6 for _ in range(repeats)]
    except BrokenProcessError as exc:
        return Row(what=what.get(subject, subject), kind=kind, why=str(exc))
    return Row(what=what.get(subject, subject), kind=kind, value=median(weights))
