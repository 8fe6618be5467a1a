"""The servers of the authority's benchmarks, each in processes of its own: ours, and what it is measured beside.

Whoever starts one can be sure of it: ours is known by the admin token that was made for this run, the others by a
random or secret that only the one just started has.
"""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
import tempfile
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from benchmarks.processes import ROOT, BrokenProcessError, Process

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["CONNECTIONS", "Agent", "Authority", "Filling", "Load", "Served"]

CONNECTIONS = 32
_PATIENCE = 60.0  # seconds
_FILL = Path(__file__).parent / "programs" / "fill.py"


class Agent(NamedTuple):
    """An agent of the authority, and how it proves that it is the one."""

    client_id: str
    key: str


class Filling(NamedTuple):
    """What a database has before anything is measured."""

    entries: int
    agents: int


class Served(Process):
    """A server on a port of its own, which it says, or which it was told. It ends when it is told to."""

    def __init__(self, command: list[str], environment: Mapping[str, str], *, port: int | None = None) -> None:
        super().__init__(command, environment)
        said = self.hear()
        self.port: int = port or said["port"]

    def rss(self) -> float:
        """Return its resident memory in megabytes."""
        lines = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) * 1024 / 1e6

    def close(self) -> None:
        """End it. May be called twice."""
        self._process.terminate()
        super().close()


class Authority:
    """`authsec-server serve` on a new database, as in production, without limits on how often one may ask.

    Args:
        python: The interpreter of its environment.
        folder: For its data; made here, and left there.
        database: The URL of an empty PostgreSQL database; else it is SQLite.
        processes: How many serve, each on a port of its own.
        fill: How many entries and agents it has before it serves.
    """

    def __init__(
        self,
        python: str,
        environment: Mapping[str, str],
        folder: Path,
        *,
        database: str | None = None,
        processes: int = 1,
        fill: Filling | None = None,
    ) -> None:
        folder.mkdir(mode=0o700, parents=True)
        ports = [_free_port() for _ in range(processes)]
        self._url = f"http://127.0.0.1:{ports[0]}"
        settings = {
            **environment,
            "AUTHSEC_SERVER_PUBLIC_URL": self._url,
            "AUTHSEC_SERVER_CLIENT_RATE": "0",
            "AUTHSEC_SERVER_REFUSAL_RATE": "0",
            **({"AUTHSEC_SERVER_DATABASE_URL": database} if database else {}),
        }
        where = ["--data", str(folder), "--json"]
        self._token = str(_run([python, "-m", "authsec_server", "init", *where], settings)["admin_token"])
        self.agents: list[Agent] = []
        if fill is not None:
            told = _run([python, str(_FILL), str(folder), str(fill.entries), str(fill.agents)], settings)
            self.agents = [Agent(*agent) for agent in told["agents"]]
        serve = [python, "-m", "authsec_server", "serve", *where]
        self._serving = [Served([*serve, "--port", str(port)], settings, port=port) for port in ports]

    @property
    def ports(self) -> list[int]:
        """Where it listens."""
        return [server.port for server in self._serving]

    def rss(self) -> float:
        """Return the resident memory of its largest process in megabytes."""
        return max(server.rss() for server in self._serving)

    def onboard(self, number: int) -> None:
        """Register so many agents, and delegate two permissions to each."""
        self.admin("PUT", "/roles/reader", {"permissions": ["read:metrics", "read:records"]})
        kind = "autonomous-workload"
        for _ in range(number):
            onboarded = {"name": f"agent-{secrets.token_hex(4)}", "agent_type": kind, "platform": "docker"}
            agent = self.admin("POST", "/clients", {**onboarded, "selectors": {}})
            delegated = {"role": "reader", "target_type": kind, "client_id": agent["client_id"]}
            self.admin("POST", "/trust-delegations", {**delegated, "max_duration": 3600, "unit": "seconds"})
            self.agents.append(Agent(agent["client_id"], agent["agent_key"]))

    def admin(self, method: str, path: str, body: object = None) -> Any:
        """Return what the admin API answers."""
        return self._asked(method, f"/api/v1{path}", self._token, body)

    def jwks(self) -> Any:
        """Return the public keys."""
        return self._sent(urllib.request.Request(f"{self._url}/authsec/.well-known/jwks.json"))

    def entries(self) -> int:
        """Return how many entries the audit has."""
        return int(self.admin("GET", "/audit?limit=1")["items"][0]["seq"])

    def token_requests(self) -> list[str]:
        """Return one request for a token of each agent."""
        path = f"/authsec/uflow/sdk/delegation-token?client_id={{}}&scope={quote('read:metrics')}"
        return [_get(self._url, path.format(agent.client_id), agent.key) for agent in self.agents]

    def secret_requests(self, number: int, value: str) -> list[str]:
        """Write so many secrets, and return a request for each, with a token of its own that can read nothing else."""
        agent = {"name": "reader", "allowed_namespaces": ["*"], "allowed_scopes": ["secrets:*:*"]}
        key = self._vault("POST", "/agents", self._token, agent)["api_key"]
        requests = []
        for place in range(number):
            path = f"production/service-{place}/api-key"
            self._vault("PUT", f"/secrets/{path}", key, {"value": value})
            token = self._vault("POST", "/tokens", key, {"scopes": [f"secrets:read:{path}"], "ttl": "1h"})["token"]
            requests.append(_get(self._url, f"/v1/secrets/{path}", token))
        return requests

    def audit_request(self, query: str) -> str:
        """Return an operator's request for a page of the audit."""
        return _get(self._url, f"/api/v1/audit?{query}", self._token)

    def close(self) -> None:
        """End it. May be called twice."""
        for server in self._serving:
            server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _vault(self, method: str, path: str, bearer: str, body: object) -> Any:
        return self._asked(method, f"/v1{path}", bearer, body)

    def _asked(self, method: str, path: str, bearer: str, body: object) -> Any:
        return self._sent(
            urllib.request.Request(
                f"{self._url}{path}",
                method=method,
                data=None if body is None else json.dumps(body).encode(),
                headers={"Authorization": f"Bearer {bearer}", "Content-Type": "application/json"},
            )
        )

    def _sent(self, request: urllib.request.Request) -> Any:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=_PATIENCE) as reply:
            return json.load(reply)


class Load(Process):
    """The process that makes the requests."""

    def __init__(self, python: str, environment: Mapping[str, str]) -> None:
        super().__init__([python, "-m", "benchmarks.load"], environment)
        self.hear()

    def make(
        self, ports: Sequence[int], requests: Sequence[str], *, count: int, connections: int = CONNECTIONS
    ) -> dict[str, Any]:
        """Make `count` requests, and return how that went.

        Raises:
            BrokenProcessError: One of them was not answered 200.
        """
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(list(requests), file)
            file.flush()
            told = self.ask(ports=list(ports), requests=file.name, connections=connections, count=count)
        if set(told["statuses"]) != {"200"}:
            raise BrokenProcessError(f"not all answers were 200: {told['statuses']}")
        return told


def _get(url: str, path: str, token: str) -> str:
    host = url.removeprefix("http://")
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\nAuthorization: Bearer {token}\r\n\r\n"


def _run(command: list[str], environment: Mapping[str, str]) -> Any:
    done = subprocess.run(command, cwd=ROOT, env=dict(environment), capture_output=True, text=True)
    if done.returncode != 0:
        raise BrokenProcessError((done.stderr.strip().splitlines() or done.stdout.splitlines() or ["it failed"])[-1])
    return json.loads(done.stdout)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
