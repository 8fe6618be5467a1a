"""What the tests of the vault's commands share: a small vault on loopback, a set-up, and the printed outcome.

Each run is searched, every time, for the values and credentials that it was not asked to show. The real vault is met
by the authority's own tests, and by those of the documentation.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from cli_support import Printed
from dotenv import dotenv_values

from authsec_core.cli import main
from authsec_core.testing import FakeClock, LoopbackServer, Reply, Request, assert_no_secret

__all__ = ["CANARY", "KEY", "FakeVault", "Stdin", "VaultSetUp", "running_vault"]

KEY = "agk_00112233445566aa.q2w3e4r5t6y7u8i9o0p1a2s3d4f5g6h7j8k9l0z1x2c"
CANARY = "sk-canary-8f14e45fceea167a5a36dedd4bea2543"
_ERRORS = {400: "VALIDATION_ERROR", 401: "UNAUTHORIZED", 403: "SCOPE_DENIED", 404: "SECRET_NOT_FOUND"}


class FakeVault:
    """A vault that knows one agent. It checks who asks, and not what for.

    Attributes:
        secrets: By path: every version's value, and what is kept beside.
        tokens: Issued ones by their text, with what was asked for.
        pending: What is to be approved, and whether it has been.
        asked: The requests for it, as they were made.
        needs_approval: Whether tokens need one.
        good_from: From when on they can be had, once all have approved.
        failing: Statuses for the requests to come, by path.
    """

    def __init__(self) -> None:
        self.secrets: dict[str, tuple[list[str], dict[str, Any]]] = {}
        self.tokens: dict[str, dict[str, Any]] = {}
        self.pending: dict[str, bool] = {}
        self.asked: dict[str, dict[str, Any]] = {}
        self.needs_approval = False
        self.good_from: str | None = None
        self.failing: dict[str, Reply] = {}
        self.server = LoopbackServer(self._answer)

    @property
    def shown(self) -> list[tuple[str, str, str | None]]:
        """Who asked for what: method, path and credential."""
        return [
            (request.method, request.path, request.headers.get("authorization", "").removeprefix("Bearer ") or None)
            for request in self.server.requests
        ]

    def put(self, path: str, value: str, **beside: Any) -> None:
        """Keep a value as the next version."""
        versions, known = self.secrets.get(path, ([], {}))
        self.secrets[path] = ([*versions, value], {**known, **beside})

    def value(self, path: str) -> str:
        """Return the newest value."""
        return self.secrets[path][0][-1]

    def _answer(self, request: Request) -> Reply:
        if request.path in self.failing:
            return self.failing[request.path]
        if request.path == "/v1/health":
            return Reply.of_json({"status": "ok", "version": "1"})
        credential = request.headers.get("authorization", "").removeprefix("Bearer ")
        if credential != KEY and credential not in self.tokens:
            return _refused(401)
        if request.path == "/v1/me":
            me = {"email": "", "name": "sample-agent", "plan": "self-hosted"}
            return Reply.of_json({**me, "secret_count": len(self.secrets), "agent_count": 1})
        if request.path == "/v1/tokens":
            return self._issue(request.json()) if credential == KEY else _refused(403)
        if request.path.startswith("/v1/tokens/"):
            return self._revoke(request.path.rpartition("/")[2])
        return self._secrets(request, request.path.removeprefix("/v1/secrets").strip("/"))

    def _secrets(self, request: Request, path: str) -> Reply:
        if path == "import":
            return self._import(request.json())
        if request.method == "GET" and not path:
            return self._list(next(iter(request.parameters("namespace")), ""))
        if request.method == "POST":
            path = path.removesuffix("/rotate")
            self.put(path, request.json().get("value") or f"made-up-{CANARY}")
            return Reply.of_json(self._said(path) | {"value": self.value(path)})
        if request.method == "PUT":
            body = request.json()
            self.put(path, body.pop("value"), **body)
            return Reply.of_json(self._said(path), status=201)
        if path not in self.secrets:
            return _refused(404)
        if request.method == "DELETE":
            del self.secrets[path]
            return Reply(status=204)
        version = int(next(iter(request.parameters("version")), len(self.secrets[path][0])))
        return Reply.of_json(self._said(path, version) | {"value": self.secrets[path][0][version - 1]})

    def _list(self, namespace: str) -> Reply:
        below = f"{namespace}/" if namespace else ""
        items = [self._said(path) for path in sorted(self.secrets) if path.startswith(below)]
        return Reply.of_json({"namespace": namespace, "items": items})

    def _import(self, body: Mapping[str, Any]) -> Reply:
        if "=" not in body["content"]:
            error = {"code": "VALIDATION_ERROR", "message": "line 1: it is no NAME=value"}
            return Reply.of_json({"error": error}, status=400)
        found = dotenv_values(stream=io.StringIO(body["content"]), interpolate=False)
        beside = {name: body[name] for name in ("secret_type", "access_tier", "metadata") if body.get(name)}
        keys = [key for key, value in found.items() if value]
        for key in keys:
            self.put(f"{body['namespace']}/{key}", found[key] or "", **beside)
        said = {"namespace": body["namespace"], "imported": keys, "imported_count": len(keys), "keys": keys}
        return Reply.of_json({**said, "skipped": len(found) - len(keys)})

    def _issue(self, body: Mapping[str, Any]) -> Reply:
        approval = body.get("approval_id") or f"approval-{len(self.pending) + 1}"
        self.asked.setdefault(approval, dict(body))
        assert body.keys() == {"approval_id"} or "approval_id" not in body
        body = self.asked[approval]
        if self.needs_approval and not self.pending.setdefault(approval, False):
            waiting = {"requires_approval": True, "approval_id": approval, "scopes": body["scopes"]}
            return Reply.of_json(waiting | {"good_from": self.good_from})
        number = len(self.tokens) + 1
        text = f"vlt_{number:016x}.{'s3cr3t' * 7}{number}"
        self.tokens[text] = dict(body)
        said = {"token": text, "token_id": text.partition(".")[0], "scopes": body["scopes"], "requires_approval": False}
        return Reply.of_json({**said, "expires_at": "2040-01-01T00:00:00Z"})

    def _revoke(self, token_id: str) -> Reply:
        mine = [text for text in self.tokens if text.startswith(f"{token_id}.")]
        for text in mine:
            del self.tokens[text]
        return Reply(status=204) if mine else _refused(404)

    def _said(self, path: str, version: int | None = None) -> dict[str, Any]:
        versions, beside = self.secrets[path]
        namespace, _, key = path.rpartition("/")
        named = {"namespace": namespace, "key": key, "path": path, "version": version or len(versions)}
        times = {"created_at": "2027-01-15T08:00:00Z", "updated_at": "2027-01-15T08:30:00Z"}
        usual = {"secret_type": "api_key", "access_tier": "standard", "metadata": {}}
        return {**named, **usual, **times, **beside}


def _refused(status: int) -> Reply:
    return Reply.of_json({"error": {"code": _ERRORS[status], "message": "no"}}, status=status)


class Stdin(io.TextIOWrapper):
    """What is piped in, or typed on a terminal."""

    def __init__(self, text: str | bytes, *, terminal: bool = False) -> None:
        super().__init__(io.BytesIO(text if isinstance(text, bytes) else text.encode()), encoding="utf-8", newline="")
        self._terminal = terminal

    def isatty(self) -> bool:
        """Say whether it is a terminal."""
        return self._terminal


class VaultSetUp:
    """A running vault, and an agent with a key whose settings are in the environment."""

    def __init__(
        self, vault: FakeVault, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.vault, self.clock = vault, clock
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def set(self, **variables: object) -> None:
        """Set variables of the environment, or unset them."""
        for name, value in variables.items():
            if value is None:
                self._monkeypatch.delenv(name, raising=False)
            else:
                self._monkeypatch.setenv(name, str(value))

    def run(self, *argv: str, stdin: str | bytes | Stdin = "", shows: str | None = None) -> Printed:
        """Run the command in this process; what it prints holds no secret but the one that it `shows`."""
        self._capsys.readouterr()
        with self._monkeypatch.context() as patched:
            patched.setattr(sys, "stdin", stdin if isinstance(stdin, Stdin) else Stdin(stdin))
            code = main(argv, clock=self.clock)
        out, err = self._capsys.readouterr()
        hidden = {
            KEY,
            CANARY,
            *self.vault.tokens,
            *(v for versions, _ in self.vault.secrets.values() for v in versions),
        }
        secrets = [text for text in hidden if len(text) >= 8]
        assert_no_secret([err, out if shows is None else "", *argv], *secrets)
        assert shows is None or shows in out or json.dumps(shows)[1:-1] in out
        return Printed(code, out, err)


@contextmanager
def running_vault(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[VaultSetUp]:
    """Start it."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    vault = FakeVault()
    with vault.server:
        setup = VaultSetUp(vault, clock, monkeypatch, capsys)
        setup.set(AUTHSEC_VAULT_URL=vault.server.base_url, AUTHSEC_AGENT_KEY=KEY)
        yield setup
