"""What measures the clients that keep running: held tokens (P1), cold callers (P2), fetches (P3), verification (P5).

Each client has a process in its own environment. Batches are short and the processes take turns, so that a busy moment
of the machine meets all of them; ratios are taken within a turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import Any, NamedTuple

from benchmarks.endpoint import API_DELAY, API_PATH, SLOW_API_PATH
from benchmarks.environments import REFERENCES, Environments
from benchmarks.processes import BrokenProcessError, Endpoint, Process
from benchmarks.report import Goal, Row, Section

__all__ = ["Workers", "cold_callers", "fetching", "held_token", "verifying", "workers"]

_OWN = {"authsec": "authsec", "authsec-async": "authsec"}  # subject -> environment
_EACH = {**_OWN, **{name: name for name in REFERENCES}}
_NOTES = {
    "authsec": "keyed by scope",
    "authsec-async": "awaited; keyed by scope",
    "authsec-langchain-sdk": "one token for each client, whatever the scope",
    "authsec-sdk": "awaited; one token for each client",
    "authlib": "one token for each client",
    "httpx-auth": "keyed by scope; authorizes a request",
    "google-auth": "one token for each credentials object; authorizes headers",
    "botocore": "one set of credentials",
    "msal": "keyed by resource",
    "azure-identity": "keyed by scope",
}
_KEYED = ("httpx-auth", "msal", "azure-identity")
_BATCH = 2e6  # nanoseconds
_FLOOR_CALLS = 10_000


class Workers:
    """The processes by client, and why others are missing."""

    def __init__(self, running: Mapping[str, Process], missing: Mapping[str, str]) -> None:
        self.running, self.missing = running, missing

    def unmeasured(self) -> list[Row]:
        """Return a row for each client that could not be started."""
        return [Row(what=_name(name), kind=_kind(name), why=why) for name, why in self.missing.items()]


@contextmanager
def workers(
    environments: Environments, environment: Mapping[str, str], url: str, *, subjects: Mapping[str, str] | None = None
) -> Iterator[Workers]:
    """Start a process for each client, configured for the endpoint at `url`.

    Args:
        subjects: Which, and in which environment; by default ours, and each reference in its own.
    """
    running: dict[str, Process] = {}
    missing: dict[str, str] = {}
    with ExitStack() as stack:
        for subject, home in (_EACH if subjects is None else subjects).items():
            python = environments.python(home)
            if python is None:
                missing[subject] = environments.failures[home]
                continue
            process = stack.enter_context(Process([python, "-m", "benchmarks.worker", subject, url], environment))
            try:
                process.hear()
            except BrokenProcessError as exc:
                missing[subject] = str(exc)
            else:
                running[subject] = process
        yield Workers(running, missing)


def held_token(processes: Workers, *, rounds: int) -> Section:
    """Measure a call for a held token (P1)."""
    calls = {}
    for name, process in processes.running.items():
        once = process.ask(do="warm", calls=50, floor_calls=50)["ns"]
        calls[name] = max(20, int(_BATCH / once))
    turns: dict[str, list[dict[str, Any]]] = {name: [] for name in processes.running}
    for _ in range(rounds):
        for name, process in processes.running.items():
            turns[name].append(process.ask(do="warm", calls=calls[name], floor_calls=_FLOOR_CALLS))
    rows = [*_floors(turns), *(_held(name, told) for name, told in turns.items())]
    rows.sort(key=lambda row: (row.kind != "floor", row.value or 0.0))
    return Section(
        id="P1",
        title="a token that is held",
        unit="ns",
        ratio_to="dict + expiry",
        how="`get_delegation_token(scope=…)` with a warm cache, and what each other client does in its place. Ratios "
        "are to a dict lookup and a look at the clock, without a lock, in the same process and the same turn.",
        rows=(*rows, *processes.unmeasured()),
        goals=_held_goals(rows),
        log=True,
    )


def _floors(turns: Mapping[str, list[dict[str, Any]]]) -> list[Row]:
    told = [turn["floors"] for turn in turns.get("authsec", ())]
    names = {
        "attribute": "attribute + expiry",
        "dict": "dict + expiry, the floor",
        "locked dict": "the same under a lock",
    }
    return [
        Row(
            what=what,
            kind="floor",
            value=median(turn[name] for turn in told),
            ratio=median(turn[name] / turn["dict"] for turn in told),
        )
        for name, what in names.items()
        if told
    ]


def _held(name: str, told: list[dict[str, Any]]) -> Row:
    return Row(
        what=_name(name),
        kind=_kind(name),
        value=median(turn["ns"] for turn in told),
        ratio=median(turn["ns"] / turn["floors"]["dict"] for turn in told),
        note=_NOTES[name],
    )


def _held_goals(rows: list[Row]) -> tuple[Goal, ...]:
    own = next((row for row in rows if row.what == "authsec"), None)
    keyed = [row.ratio for row in rows if row.what in _KEYED and row.ratio is not None]
    ahead = own.ratio / min(keyed) if own is not None and own.ratio is not None and keyed else None
    return (
        Goal(text="a held token, against the floor", figure=own.ratio if own else None, limit=1.5, unit="×"),
        Goal(text="against the fastest other client that keys by scope", figure=ahead, limit=1.0, unit="×"),
    )


def cold_callers(processes: Workers, endpoint: Endpoint, *, delay: float, repeats: int) -> Section:
    """Measure what callers do that come at once and find no token (P2)."""
    rows: list[Row] = []
    for name, process in processes.running.items():
        if name == "authsec-async":
            continue
        for how, what in (("threads", "64 threads"), ("tasks", "1000 tasks"), ("mixed", "64 threads and 1000 tasks")):
            row = _cold(f"{_name(name)}: {what}", name, _Burst(process, how, endpoint, repeats), delay)
            rows += [row] if row is not None else []
    own = [row for row in rows if row.kind == "ours"]
    measured = [row for row in own if row.value is not None]
    goals = [
        Goal(
            text="requests upstream, the most of all runs",
            figure=max((row.value or 0.0 for row in measured), default=None) if len(measured) == len(own) else None,
            limit=1,
            unit="requests",
        )
    ]
    goals += [
        Goal(text=f"until {row.what.partition(': ')[2]} all have a token", figure=row.ratio, limit=1.5, unit="× delay")
        for row in own
    ]
    rows.sort(key=lambda row: (row.kind != "ours", row.value or 0.0))
    return Section(
        id="P2",
        title="callers that come at once and find no token",
        unit="requests",
        ratio_to="the delay",
        how=f"All callers share one client, which holds no token; the endpoint answers after {delay * 1000:.0f} ms. "
        "The figure is how often it was asked; the ratio is the time until the last caller had a token.",
        rows=(*rows, *(row for row in processes.unmeasured() if row.what != "authsec, async")),
        goals=tuple(goals),
        log=True,
    )


class _Burst(NamedTuple):
    """Callers that come at once, several times, and whom they ask."""

    process: Process
    how: str
    endpoint: Endpoint
    repeats: int

    def run(self) -> tuple[list[int], list[float]] | None:
        """Return the requests upstream and the seconds of each time; None where the client has no such callers."""
        counts, seconds = [], []
        for repeat in range(1 + self.repeats):  # the first loads what a client loads late
            before = self.endpoint.tokens()
            told = self.process.ask(do="cold", how=self.how)
            if told.get("unknown"):
                return None
            if repeat:
                counts.append(self.endpoint.tokens() - before)
                seconds.append(float(told["seconds"]))
        return counts, seconds


def _cold(what: str, name: str, burst: _Burst, delay: float) -> Row | None:
    try:
        told = burst.run()
    except BrokenProcessError as exc:
        return Row(what=what, kind=_kind(name), why=str(exc))
    if told is None:
        return None
    counts, seconds = told
    return Row(
        what=what,
        kind=_kind(name),
        value=float(max(counts) if name in _OWN else median(counts)),
        ratio=median(seconds) / delay,
        note=f"{median(seconds) * 1000:.0f} ms",
    )


def fetching(processes: Workers, url: str, *, repeats: int) -> Section:
    """Measure a secure fetch beside the same GET with a static header (P3)."""
    rows: list[Row] = []
    goals: list[Goal] = []
    for path, speed, calls in (
        (API_PATH, "answers at once", 200),
        (SLOW_API_PATH, f"takes {API_DELAY * 1000:.0f} ms", 60),
    ):
        names = {
            "static header": (f"httpx, static header; the API {speed}", "floor"),
            "auth": (f"httpx, auth=client.auth(…); it {speed}", "ours"),
            "fetch": (f"client.fetch(…); it {speed}", "ours"),
        }
        found = _beside(processes, {"do": "fetch", "url": url, "path": path, "calls": calls}, names, repeats)
        goals.append(Goal(text=f"`client.fetch`, where the API {speed}", figure=found[-1].ratio, limit=1.05, unit="×"))
        rows += found
    return Section(
        id="P3",
        title="a fetch from a protected API, with a held token",
        unit="µs",
        ratio_to="the static header",
        how="The API is on loopback, over plain HTTP, so that little but the clients is measured. `fetch` also asks "
        "the endpoint policy, keeps to a deadline and bounds the answer. The calls alternate; each parses the JSON.",
        rows=tuple(rows),
        goals=tuple(goals),
    )


def verifying(environments: Environments, environment: Mapping[str, str], url: str, *, repeats: int) -> Section:
    """Measure verification with every check, beside the bare signature and others (P5)."""
    with workers(environments, environment, url, subjects={"authsec": "guard"}) as processes:
        rows = _beside(
            processes,
            {"do": "verify", "calls": 300},
            {
                "signature": ("RSA-2048 signature alone", "floor"),
                "PyJWT": ("PyJWT with a key object", "reference"),
                "PyJWKClient": ("PyJWT + PyJWKClient(cache_keys=True)", "reference"),
                "authlib": ("authlib.jose with a key set", "reference"),
                "joserfc": ("joserfc with a key set", "reference"),
                "verify": ("TokenVerifier", "ours"),
                "remembered": ("TokenVerifier(remember=…), a token seen before", "ours"),
                "guard": ("AuthSecGuard: header to caller, on record", "ours"),
                "guard remembered": ("AuthSecGuard, a token seen before", "ours"),
            },
            repeats,
        )
    found = {row.what: row for row in rows}
    plain, again = found.get("TokenVerifier"), found.get("TokenVerifier(remember=…), a token seen before")
    guard, usual = (
        found.get("AuthSecGuard: header to caller, on record"),
        found.get("PyJWT + PyJWKClient(cache_keys=True)"),
    )
    return Section(
        id="P5",
        title="verifying a token",
        unit="µs",
        ratio_to="the signature alone",
        how="RS256 with keys and a status list that were fetched from a loopback authority; all checks, revocation "
        "among them. The guard also reads the header, looks for a scope and writes to a sink that keeps nothing; by "
        "default it knows tokens again. The others check signature, times, issuer and audience with keys that are at "
        "hand; joserfc is where authlib's documentation sends its users. All take turns in one process.",
        rows=tuple(rows),
        goals=(
            Goal(
                text="every check, against the signature alone",
                figure=plain.ratio if plain else None,
                limit=2.0,
                unit="×",
            ),
            Goal(text="a token seen before", figure=again.value if again else None, limit=2.0, unit="µs"),
            Goal(
                text="the guard's whole decision, against PyJWT + PyJWKClient",
                figure=guard.ratio / usual.ratio if guard and usual and guard.ratio and usual.ratio else None,
                limit=1.0,
                unit="×",
            ),
        ),
    )


def _beside(
    processes: Workers, message: dict[str, object], names: Mapping[str, tuple[str, Any]], repeats: int
) -> list[Row]:
    """Return microseconds of what our own process measures in turn; ratios are to the first of `names`."""
    process = processes.running.get("authsec")
    if process is None:
        return [Row(what="authsec", kind="ours", why=processes.missing["authsec"])]
    told = [process.ask(**message) for _ in range(repeats)]
    floor = next(iter(names))
    return [
        Row(
            what=what,
            kind=kind,
            value=median(turn[name] for turn in told) * 1e6,
            ratio=median(turn[name] / turn[floor] for turn in told),
        )
        for name, (what, kind) in names.items()
    ]


def _name(subject: str) -> str:
    return "authsec, async" if subject == "authsec-async" else subject


def _kind(subject: str) -> Any:
    return "ours" if subject in _OWN else "reference"
