"""What does an authority need for so many agents? Bytes that are measured, and arithmetic that is written out.

`python -m benchmarks.sizing` issues some thousand tokens over HTTP on SQLite and on PostgreSQL, looks how much each
adds to the database, and prints the tables of docs/deploy/sizing.md. How fast tokens are issued is for P7, whose figure
is an argument here.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx

from authsec_core.wire import DELEGATION_TOKEN_PATH
from authsec_server.testing import LocalPostgres, RunningAuthority
from authsec_server.testing._binaries import installation
from authsec_server.tokens.claims import PLACES_IN_A_LIST
from authsec_server.tokens.status import packed

__all__ = ["Load", "Plan", "list_bytes", "measured", "tables"]

AGENTS: Final = (1_000, 100_000, 10_000_000)
LIVES: Final = {"30 minutes": 1800, "8 hours": 28_800}  # the default, and one for many agents
_DAY: Final = 86_400  # seconds; also for how long a token's row is kept after its end
_RENEWED_AT: Final = 0.75  # of its life the SDK fetches the next token
_LIST_FETCHED: Final = 2.0  # seconds from one fetch of a status list to the next, by `ttl`
_LIST_HEAD: Final = 700  # bytes of a signed list beside the bits: header, claims, signature
_BUSY: Final = 0.5  # of what P7 measures, so that a burst or a lost server finds room
_PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "deploy" / "sizing.md"
_MARKERS: Final = re.compile(r"(?<=<!-- figures -->\n).*(?=<!-- /figures -->)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What one token leaves behind, in bytes."""

    audit: float
    token: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """So many agents, whose tokens live for so many seconds."""

    agents: int
    life: int

    @property
    def rate(self) -> float:
        """Tokens a second, when each agent holds one token all the time."""
        return self.agents / (self.life * _RENEWED_AT)

    @property
    def a_day(self) -> float:
        """Tokens a day; each is one entry of the audit."""
        return self.rate * _DAY

    @property
    def rows(self) -> float:
        """Rows of tokens that are in the database at the same time."""
        return self.rate * (self.life + _DAY)

    @property
    def lists(self) -> int:
        """Status lists in which live tokens have a place."""
        return 1 + int(self.rate * self.life / PLACES_IN_A_LIST)


def measured(folder: Path, *, tokens: int) -> dict[str, Load]:
    """Issue tokens on both databases, and return what each left behind."""
    with RunningAuthority() as authority:
        _issue(authority, tokens)
        authority.stop()
        found = {"SQLite": _of_sqlite(Path(str(authority.settings.data_dir)) / "authsec.db", folder, tokens)}
    with LocalPostgres(fsync=False) as server:
        url = server.create_database()
        with RunningAuthority(database_url=url) as authority:
            _issue(authority, tokens)
            found["PostgreSQL"] = _of_postgres(url, tokens)
    return found


def list_bytes(revoked: int) -> int:
    """Return how large a signed status list is in which so many tokens, of all that it has a place for, are revoked."""
    places = random.Random(revoked).sample(range(PLACES_IN_A_LIST), revoked)  # noqa: S311 -- a sample, no secret
    return _LIST_HEAD + len(packed(places)) * 4 // 3  # in base64url once more, as part of the claims


def tables(loads: Mapping[str, Load], *, tokens: int, rate: float | None) -> str:
    """Return the tables of the page."""
    return "\n".join([*_bytes_table(loads, tokens), "", *_plan_table(loads, rate), "", *_list_table()]) + "\n"


def _issue(authority: RunningAuthority, tokens: int) -> None:
    agent = authority.onboard("read:metrics read:records")
    with httpx.Client(base_url=authority.base_url, headers={"Authorization": f"Bearer {agent.agent_key}"}) as client:
        for _ in range(tokens):
            asked = {"client_id": agent.client_id, "scope": "read:metrics"}
            client.get(DELEGATION_TOKEN_PATH, params=asked).raise_for_status()


def _of_sqlite(database: Path, folder: Path, tokens: int) -> Load:
    copy = folder / "sizing.db"
    shutil.copy2(database, copy)
    sizes = []
    for emptied in (None, "tokens", "audit"):
        with sqlite3.connect(copy, isolation_level=None) as connection:
            if emptied is not None:
                connection.execute(f"DELETE FROM {emptied}")  # noqa: S608 -- one of three words of ours
            connection.execute("VACUUM")
        connection.close()
        sizes.append(copy.stat().st_size)
    full, without_tokens, without_both = sizes
    return Load(token=(full - without_tokens) / tokens, audit=(without_tokens - without_both) / tokens)


def _of_postgres(url: str, tokens: int) -> Load:
    parts = urlsplit(url)
    statements = ["VACUUM FULL", *(f"SELECT pg_total_relation_size('{table}')" for table in ("tokens", "audit"))]
    commands = [f"--command={statement}" for statement in statements]
    done = subprocess.run(
        [
            installation() / "bin" / "psql",
            "--no-psqlrc",
            "--quiet",
            "--tuples-only",
            *commands,
        ],
        env={
            "PGHOST": str(parts.hostname),
            "PGPORT": str(parts.port),
            "PGUSER": str(parts.username),
            "PGPASSWORD": str(parts.password),
            "PGDATABASE": parts.path.removeprefix("/"),
        },
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    of_tokens, of_audit = map(int, done.stdout.split())
    return Load(token=of_tokens / tokens, audit=of_audit / tokens)


def _bytes_table(loads: Mapping[str, Load], tokens: int) -> Iterator[str]:
    yield f"Bytes for each token, indexes included, after {_whole(tokens)} of them:"
    yield ""
    yield "| | entry of the audit | row of the token |"
    yield "| --- | ---: | ---: |"
    for name, load in loads.items():
        yield f"| {name} | {_whole(load.audit)} | {_whole(load.token)} |"


def _plan_table(loads: Mapping[str, Load], rate: float | None) -> Iterator[str]:
    plans = [(name, Plan(agents=agents, life=life)) for name, life in LIVES.items() for agents in AGENTS]
    worst = Load(audit=max(load.audit for load in loads.values()), token=max(load.token for load in loads.values()))
    yield "| life of a token | " + " | ".join(name for name, _ in plans) + " |"
    yield "| --- |" + " ---: |" * len(plans)
    rows = {
        "agents": [_whole(plan.agents) for _, plan in plans],
        "tokens a second": [_short(plan.rate) for _, plan in plans],
        "entries of the audit a day": [_short(plan.a_day) for _, plan in plans],
        "audit a day": [_size(plan.a_day * worst.audit) for _, plan in plans],
        "audit a year": [_size(plan.a_day * 365 * worst.audit) for _, plan in plans],
        "rows of tokens": [_short(plan.rows) for _, plan in plans],
        "their size": [_size(plan.rows * worst.token) for _, plan in plans],
        "status lists in use": [_whole(plan.lists) for _, plan in plans],
    }
    if rate is not None:
        rows[f"processes, at {_whole(rate)} tokens a second each and {_BUSY:.0%} of that"] = [
            _whole(max(1, -(-plan.rate // (rate * _BUSY)))) for _, plan in plans
        ]
    for what, cells in rows.items():
        yield f"| {what} | " + " | ".join(cells) + " |"


def _list_table() -> Iterator[str]:
    yield f"| revoked, of {_whole(PLACES_IN_A_LIST)} tokens | size of the list | for one verifier |"
    yield "| ---: | ---: | ---: |"
    for revoked in (0, 13, 131, 1_311, 13_107):
        size = list_bytes(revoked)
        yield f"| {_whole(revoked)} | {_size(size)} | {_size(size / _LIST_FETCHED)}/s |"


def _whole(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ")


def _short(value: float) -> str:
    for unit, name in ((1e9, " billion"), (1e6, " million")):
        if value >= unit:
            return f"{value / unit:.3g}{name}"
    return _whole(value) if value >= 100 else f"{value:.2g}"


def _size(value: float) -> str:
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= unit:
            return f"{value / unit:.3g} {name}"
    return f"{value:.0f} B"


def main() -> None:
    """Measure, print the tables, and write them into the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sizing", description=__doc__)
    parser.add_argument("--tokens", type=int, default=5_000, help="how many to issue on each database")
    parser.add_argument("--rate", type=float, help="tokens a second of one process, as `nox -s bench` measures P7")
    parser.add_argument("--no-docs", action="store_true", help="leave the docs as they are")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = tables(measured(Path(folder), tokens=given.tokens), tokens=given.tokens, rate=given.rate)
    print(text)
    if not given.no_docs:
        page = _PAGE.read_text(encoding="utf-8")
        _PAGE.write_text(_MARKERS.sub(lambda _: f"\n{text}\n", page), encoding="utf-8")


if __name__ == "__main__":
    main()
