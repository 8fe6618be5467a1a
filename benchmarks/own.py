"""What only our own client does: secure fetches and MOCK tokens. Each beside its floor, call by call."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from statistics import median
from time import perf_counter
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from authsec_core import AuthSecClient, MockAuthority
from authsec_core.testing import SigningKey
from benchmarks.subjects import Authsec, Subject

__all__ = ["fetches", "in_turn", "mints"]


def fetches(subject: Subject, url: str, path: str, calls: int) -> dict[str, Any]:
    """Return median seconds of a fetch with a held token and of the same GET with a static header, which alternate."""
    assert isinstance(subject, Authsec)
    client, (static, authorized) = subject.client, _http(subject.client)
    target, header = f"{url}/{path}", {"Authorization": f"Bearer {client.get_delegation_token('read:metrics')}"}
    return in_turn(
        calls,
        {
            "static header": lambda: static.get(target, headers=header).raise_for_status().json(),
            "auth": lambda: authorized.get(target).raise_for_status().json(),
            "fetch": lambda: client.fetch(path, "read:metrics").data,
        },
    )


@cache
def _http(client: AuthSecClient) -> tuple[httpx.Client, httpx.Client]:
    return httpx.Client(), httpx.Client(auth=client.auth("read:metrics"))


def mints(calls: int) -> dict[str, Any]:
    """Return median seconds of a MOCK token, of PyJWT with the same claims and a key object, and of the signature."""
    authority, scopes = MockAuthority(), frozenset({"read:metrics"})
    key, claims = _key().private, jwt.decode(authority.mint(scopes).value, options={"verify_signature": False})
    return in_turn(
        calls,
        {
            "signature": lambda: key.sign(b"signed", PKCS1v15(), SHA256()),
            "PyJWT": lambda: jwt.encode(claims, key, algorithm="RS256", headers={"kid": "1"}),
            "mint": lambda: authority.mint(scopes),
        },
    )


@cache
def _key() -> SigningKey:
    return SigningKey.generate()


def in_turn(calls: int, measured: dict[str, Callable[[], object]], *, turn: float = 0.0) -> dict[str, Any]:
    """Let all take turns of one call, or of as many as fit into `turn` seconds, and return the median of one call.

    Each turn begins with another one, or a scheduler would take the processor away from always the same one. Turns are
    short for the same reason, and of one length, so that those who need little time are not measured at their coldest.
    """
    taken: dict[str, list[float]] = {name: [] for name in measured}
    times = {name: _fitting(call, turn) for name, call in measured.items()}
    names = list(measured)
    for number in range(calls):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            call, repeats = measured[name], times[name]
            started = perf_counter()
            for _ in range(repeats):
                call()
            taken[name].append((perf_counter() - started) / repeats)
    return {name: median(seconds) for name, seconds in taken.items()}


def _fitting(call: Callable[[], object], turn: float) -> int:
    call()
    once = min(_seconds(call) for _ in range(5))
    return max(1, int(turn / once))


def _seconds(call: Callable[[], object]) -> float:
    started = perf_counter()
    call()
    return perf_counter() - started
