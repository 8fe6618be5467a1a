"""What the vault can do: secrets a second, each with a token that reads nothing else (P8).

Every read is decided on and has its entry in the audit, durable, before the value is unsealed; afterwards the run
looks whether all of them are there, and whether the answers had the value.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from benchmarks.authority import BARE, Turns, bare_routes, rigged
from benchmarks.environments import Environments
from benchmarks.processes import BrokenProcessError
from benchmarks.report import Goal, Row, Section
from benchmarks.served import CONNECTIONS, Authority

__all__ = ["reading"]

_SECRETS = 32
_OURS = "authsec, SQLite, one process"


def reading(environments: Environments, environment: Mapping[str, str], folder: Path, *, repeats: int) -> Section:
    """Measure how many secrets a second are read, beside a route that answers a constant (P8)."""
    value = secrets.token_urlsafe(32)
    with rigged(environments, environment, folder) as rig, ExitStack() as stack:
        bare = Turns(rig, *stack.enter_context(bare_routes(rig, "fastapi")))
        authority = stack.enter_context(rig.authority("vault"))
        ours = Turns(rig, authority.ports, authority.secret_requests(_SECRETS, value))
        before = authority.entries()
        for _ in range(1 + repeats):
            bare.take()
            ours.take()
        _check(authority, ours, before, value)
    return _section(bare, ours)


def _check(authority: Authority, turns: Turns, before: int, value: str) -> None:
    """Look whether each read is in the audit, and gave the secret.

    Raises:
        BrokenProcessError: It is not so, and the figures mean nothing.
    """
    recorded = authority.entries() - before
    if recorded != turns.made:
        raise BrokenProcessError(f"{turns.made} secrets were read, and the audit has {recorded}")
    if not turns.samples or any(json.loads(sample)["value"] != value for sample in turns.samples):
        raise BrokenProcessError("not all answers had the secret")


def _section(bare: Turns, ours: Turns) -> Section:
    floor = median(bare.rates)
    ratio, patience = median(ours.rates) / floor, median(ours.p99s)
    rows = (
        Row(what=BARE, kind="floor", value=floor, ratio=1.0, note=_latency(bare)),
        Row(what=_OURS, kind="ours", value=median(ours.rates), ratio=ratio, note=_latency(ours)),
    )
    return Section(
        id="P8",
        title="secrets a second",
        unit="/s",
        ratio_to="a bare route",
        how=f"`GET /v1/secrets/…` over {CONNECTIONS} kept connections, {_SECRETS} secrets, each with a token that "
        "reads nothing else: whose token it is, scope, tier, an audit entry that is durable, and two unsealings for "
        "each; more is better. All is on loopback and on one machine, the program that makes the requests, too.",
        rows=rows,
        goals=(
            Goal(text="against a bare route of FastAPI", figure=ratio, limit=0.5, unit="×", at_least=True),
            Goal(text=f"its p99 with {CONNECTIONS} connections", figure=patience, limit=25.0, unit="ms"),
        ),
        group="authority",
    )


def _latency(turns: Turns) -> str:
    return f"p50 {median(turns.p50s):.1f} ms, p99 {median(turns.p99s):.1f} ms"
