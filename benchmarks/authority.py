"""What the authority can do: tokens a second (P7), memory (P9), and both with a database that has grown.

Every token is decided on and has its entry in the audit, durable, before it is signed; afterwards the run looks whether
all of them are there, and a sample of the tokens is verified. References take turns with it.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks.environments import Environments
from benchmarks.processes import BrokenProcessError, Process, run_once
from benchmarks.report import Goal, Row, Section
from benchmarks.served import CONNECTIONS, Authority, Filling, Load, Served

__all__ = ["BARE", "Rig", "Turns", "bare_routes", "growth", "issuing", "memory_of_the_authority", "rigged"]

_PROGRAMS = Path(__file__).parent / "programs"
_TURN = 4.0  # seconds of one turn
_AT_ONCE = 2_000  # requests between two looks at the memory
_AGENTS = 8
_PAGES = 40  # requests of one turn
_SMALL = Filling(10_000, 100)  # so that its pages are full, too
_QUERIES = {
    "the newest page": "",
    "of one agent": "&client_id={client_id}",
    "what was refused": "&decision=deny",
    "one token": "&jti={jti}",
    "the oldest page": "&after=51",
}
_OPENSSL = "openssl speed rsa2048, one core"
BARE = "FastAPI, a bare route"
_PLAIN = {
    BARE: "fastapi",
    "Starlette, a bare route": "starlette",
    "FastAPI, a route that signs (PyJWT, RS256)": "fastapi-signed",
}
_NODE = "node oidc-provider, two processes, nothing kept"
_ONE = "authsec, SQLite, one process"
_ONE_PG = "authsec, PostgreSQL, one process"
_TWO_PG = "authsec, PostgreSQL, two processes"


class Rig(NamedTuple):
    """What all sections need: an interpreter, an environment, a place, and who makes the requests."""

    python: str
    environment: Mapping[str, str]
    folder: Path
    load: Load

    def authority(self, name: str, **more: Any) -> Authority:
        """Start an authority with its data in a folder of this name."""
        return Authority(self.python, self.environment, self.folder / name, **more)


@contextmanager
def rigged(environments: Environments, environment: Mapping[str, str], folder: Path) -> Iterator[Rig]:
    """Lend what a section needs."""
    python = environments.python("authority")
    if python is None:
        raise BrokenProcessError(environments.failures["authority"])
    with Load(sys.executable, environment) as load:
        yield Rig(python, environment, folder, load)


class Turns:
    """Something that answers requests, the turns it has had, and why it could not go on."""

    def __init__(self, rig: Rig, ports: Sequence[int], requests: Sequence[str]) -> None:
        self._load, self._ports, self._requests = rig.load, ports, requests
        self._count = 200
        self.rates: list[float] = []
        self.p50s: list[float] = []
        self.p99s: list[float] = []
        self.samples: list[str] = []
        self.made = 0

    def take(self) -> None:
        """Take a turn; the first one only finds out how many requests fill a turn."""
        told = self._load.make(self._ports, self._requests, count=self._count)
        self.made += self._count
        self.samples = told["samples"]
        rate = self._count / told["seconds"]
        if self._count != 200:
            self.rates.append(rate)
            self.p50s.append(told["p50"] * 1000)
            self.p99s.append(told["p99"] * 1000)
        self._count = max(201, int(rate * _TURN))


def issuing(environments: Environments, environment: Mapping[str, str], folder: Path, *, repeats: int) -> Section:
    """Measure how many tokens a second are issued, beside what they cost at the least (P7)."""
    signs: list[float] = []
    with ExitStack() as stack:
        rig = stack.enter_context(rigged(environments, environment, folder))
        turns, missing = _others(rig, stack)
        authorities: dict[str, Authority] = {}
        for what, start in _authorities(rig, stack).items():
            try:
                found = stack.enter_context(start())
            except BrokenProcessError as exc:
                missing.append(Row(what=what, kind="ours", why=str(exc)))
                continue
            found.onboard(_AGENTS)
            authorities[what], turns[what] = found, Turns(rig, found.ports, found.token_requests())
        before = {what: found.entries() for what, found in authorities.items()}
        for _ in range(1 + repeats):
            signs.append(_openssl())
            for turn in turns.values():
                turn.take()
        for what, found in authorities.items():
            _check(rig, found, turns[what], before[what])
    return _issue_section(median(signs), turns, missing)


def _others(rig: Rig, stack: ExitStack) -> tuple[dict[str, Turns], list[Row]]:
    """Start what the authority is measured beside; what cannot be had is a row with the reason."""
    turns = {what: Turns(rig, *stack.enter_context(bare_routes(rig, which))) for what, which in _PLAIN.items()}
    try:
        turns[_NODE] = Turns(rig, *stack.enter_context(_node(rig)))
    except (BrokenProcessError, OSError) as exc:
        return turns, [Row(what=_NODE, kind="reference", why=str(exc))]
    return turns, []


def _authorities(rig: Rig, stack: ExitStack) -> dict[str, Callable[[], Authority]]:
    def postgres(name: str, processes: int) -> Authority:
        database = stack.enter_context(_Postgres(rig)).url
        return rig.authority(name, database=database, processes=processes)

    return {
        _ONE: lambda: rig.authority("one"),
        _ONE_PG: lambda: postgres("one-postgres", 1),
        _TWO_PG: lambda: postgres("two-postgres", 2),
    }


class _Postgres(Process):
    """A PostgreSQL server of its own, from the wheel, with an empty database. It is durable."""

    def __init__(self, rig: Rig) -> None:
        super().__init__([rig.python, str(_PROGRAMS / "postgres.py")], rig.environment)
        self.url = str(self.hear()["url"])


@contextmanager
def bare_routes(rig: Rig, which: str) -> Iterator[tuple[list[int], list[str]]]:
    """Lend a server that answers a constant: its port, and a request for it."""
    path = f"/{secrets.token_hex(16)}"
    with Served([rig.python, str(_PROGRAMS / "routes.py"), which, path], rig.environment) as server:
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nAccept: */*\r\n\r\n"
        yield [server.port], [request]


@contextmanager
def _node(rig: Rig) -> Iterator[tuple[list[int], list[str]]]:
    place, secret = rig.folder / "node", secrets.token_hex(16)
    place.mkdir(parents=True)
    command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "oidc-provider"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True)
    if done.returncode != 0:
        raise BrokenProcessError("it could not be installed")
    entry = place / "node_modules" / "oidc-provider" / "lib" / "index.js"
    program = [str(_PROGRAMS / "oidc_provider.mjs"), str(entry), secret, "2"]
    with Served(["node", *program], rig.environment) as server:
        body = f"grant_type=client_credentials&scope=read%3Ametrics&client_id=agent&client_secret={secret}"
        head = f"POST /token HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Length: {len(body)}\r\n"
        yield [server.port], [f"{head}Content-Type: application/x-www-form-urlencoded\r\n\r\n{body}"]


def _openssl() -> float:
    command = ["openssl", "speed", "-seconds", "2", "rsa2048"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return float(lines[-1].split()[-2])


def _check(rig: Rig, authority: Authority, turns: Turns, before: int) -> None:
    """Look whether each token is in the audit, and whether they are tokens.

    Raises:
        BrokenProcessError: It is not so, and the figures mean nothing.
    """
    recorded = authority.entries() - before
    if recorded != turns.made:
        raise BrokenProcessError(f"{turns.made} tokens were issued, and the audit has {recorded}")
    tokens = [json.loads(sample)["token"] for sample in turns.samples]
    given = rig.folder / "tokens.json"
    given.write_text(json.dumps({"tokens": tokens, "jwks": authority.jwks()}), encoding="utf-8")
    told = run_once([rig.python, str(_PROGRAMS / "verified.py"), str(given)], rig.environment)
    if told["verified"] != len(tokens) or not tokens:
        raise BrokenProcessError(f"of {len(tokens)} tokens {told['verified']} can be verified")


def _issue_section(signs: float, turns: Mapping[str, Turns], missing: Sequence[Row]) -> Section:
    rows = [Row(what=_OPENSSL, kind="floor", value=signs, ratio=1.0)]
    for what, turn in turns.items():
        rate = median(turn.rates)
        kind: Any = "ours" if what.startswith("authsec") else "floor" if what == BARE else "reference"
        note = f"p50 {median(turn.p50s):.1f} ms, p99 {median(turn.p99s):.1f} ms"
        rows.append(Row(what=what, kind=kind, value=rate, ratio=rate / signs, note=note))
    found = {row.what: row for row in rows}
    one, two, node = found.get(_ONE), found.get(_TWO_PG), found.get(_NODE)
    ahead = two.value / node.value if two and node and two.value and node.value else None
    patience = median(turns[_ONE].p99s) if _ONE in turns else None
    return Section(
        id="P7",
        title="tokens a second",
        unit="/s",
        ratio_to="openssl",
        how=f"`GET …/delegation-token` with an agent key over {CONNECTIONS} kept connections: proof, policy, an audit "
        f"entry that is durable, and an RS256 signature for each token; more is better. All is on loopback and on one "
        f"machine, the program that makes the requests, too: it takes turns of {_TURN:.0f} s. Where a processor makes "
        f"few signatures, latency follows from that: {CONNECTIONS} requests under way take {CONNECTIONS} signatures.",
        rows=(*rows, *missing),
        goals=(
            Goal(
                text="SQLite, one process, against `openssl speed`",
                figure=one.ratio if one else None,
                limit=0.7,
                unit="×",
                at_least=True,
            ),
            Goal(text=f"its p99 with {CONNECTIONS} connections", figure=patience, limit=40.0, unit="ms"),
            Goal(
                text="two processes on PostgreSQL, against two of node oidc-provider (0.85 is a tie)",
                figure=ahead,
                limit=1.0,
                unit="×",
                at_least=True,
            ),
        ),
        group="authority",
    )


def memory_of_the_authority(
    environments: Environments, environment: Mapping[str, str], folder: Path, *, requests: int
) -> Section:
    """Measure what a process of the authority weighs, and whether it grows (P9)."""
    weights: list[float] = []
    with rigged(environments, environment, folder) as rig, rig.authority("memory") as authority:
        authority.onboard(_AGENTS)
        asked = authority.token_requests()
        weights.append(authority.rss())
        for _ in range(2):
            for start in range(0, requests, _AT_ONCE):
                rig.load.make(authority.ports, asked, count=min(_AT_ONCE, requests - start))
            weights.append(authority.rss())
    names = ("at its start", f"after {requests:,} tokens", f"after {requests:,} more")
    return Section(
        id="P9",
        title="memory of the authority",
        unit="MB",
        ratio_to="",
        how="Resident memory of `authsec-server serve` on SQLite, one process.",
        rows=tuple(
            Row(what=what.replace(",", "\N{NARROW NO-BREAK SPACE}"), kind="ours", value=weight)
            for what, weight in zip(names, weights, strict=True)
        ),
        goals=(
            Goal(text="the authority in use", figure=weights[1], limit=120.0, unit="MB"),
            Goal(text="what it grows by as many tokens again", figure=weights[2] - weights[1], limit=2.0, unit="MB"),
        ),
        group="authority",
    )


def growth(
    environments: Environments, environment: Mapping[str, str], folder: Path, *, filling: Filling, repeats: int
) -> Section:
    """Measure issue and audit queries with a database that has grown, beside a small one."""
    with rigged(environments, environment, folder) as rig, ExitStack() as stack:
        grown, small = (
            stack.enter_context(rig.authority(name, fill=fill))
            for name, fill in (("grown", filling), ("small", _SMALL))
        )
        turns = {found: Turns(rig, found.ports, found.token_requests()) for found in (grown, small)}
        for _ in range(1 + repeats):
            for turn in turns.values():
                turn.take()
        rows = [_beside("tokens", "/s", median(turns[grown].rates), median(turns[small].rates))]
        for what, query in _QUERIES.items():
            taken = _pages(rig, (grown, small), query, repeats)
            rows.append(_beside(f"audit: {what}", "ms", taken[grown], taken[small]))
    queries = [row.ratio for row in rows[1:] if row.ratio is not None]
    entries, agents = (f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}") for number in filling)
    return Section(
        id="growth",
        title=f"{entries} audit entries and {agents} agents",
        unit="",
        ratio_to="the small database",
        how=f"SQLite, one process, beside one with {_SMALL.entries} entries and {_SMALL.agents} agents. The entries "
        "come from the authority's own code and are one chain; the agents ask in turn. A page has 50 entries; medians "
        f"of {_PAGES} at a time, one after the other.",
        rows=tuple(rows),
        goals=(
            Goal(text="tokens, against the small database", figure=rows[0].ratio, limit=0.9, unit="×", at_least=True),
            Goal(text="the slowest kind of page, against the small one", figure=max(queries), limit=1.5, unit="×"),
        ),
        group="authority",
    )


def _pages(rig: Rig, authorities: Sequence[Authority], query: str, repeats: int) -> dict[Authority, float]:
    """Return the median milliseconds of a page of each; they take turns."""
    taken: dict[Authority, list[float]] = {found: [] for found in authorities}
    for _ in range(repeats):
        for found, seconds in taken.items():
            newest = found.admin("GET", "/audit?decision=allow&action=token.issue&limit=1")["items"][0]
            request = found.audit_request(f"limit=50{query.format(**newest)}")
            seconds.append(rig.load.make(found.ports, [request], count=_PAGES, connections=1)["p50"])
    return {found: median(seconds) * 1000 for found, seconds in taken.items()}


def _beside(what: str, unit: str, grown: float, small: float) -> Row:
    return Row(
        what=what, kind="ours", value=grown, unit=unit, ratio=grown / small, note=f"the small one: {small:.1f} {unit}"
    )
