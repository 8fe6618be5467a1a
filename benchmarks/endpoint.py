"""A token endpoint and a protected API on loopback, for all clients that are measured. It has a process of its own.

It speaks just enough HTTP/1.1, counts the requests for tokens, and answers each of them after a fixed delay. It says
which process it is, so that nobody measures a server that an earlier run left behind. It checks nothing that it is
sent, and what it calls a token is signed by nobody.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import TypeAlias
from urllib.parse import SplitResult, parse_qs, urlsplit

__all__ = ["API_DELAY", "API_PATH", "SLOW_API_PATH"]

API_PATH, SLOW_API_PATH = "secure-vault/metrics", "secure-vault/slow-metrics"
API_DELAY = 0.005  # seconds, of the second one
_DATA = {"active_agents": 42, "tokens_issued_today": 1318, "requests_denied_today": 7, "vault_status": "sealed"}
_LIFETIME = 36_000  # seconds; longer than the margin of any client
_BACKLOG = 4096  # connections: a client without a pool opens one for each of its 1000 callers


_Query: TypeAlias = Mapping[str, list[str]]


def _part(value: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def _delegation(query: _Query, now: int) -> dict[str, object]:
    scopes = query.get("scope", ["read:metrics"])[0].split()
    claims: dict[str, object] = {"iss": "http://127.0.0.1", "iat": now, "exp": now + _LIFETIME, "permissions": scopes}
    token = ".".join((_part({"alg": "RS256", "typ": "JWT", "kid": "1"}), _part(claims), _part({})))
    return {"token": token, "ttl_seconds": _LIFETIME, "permissions": scopes, "expires_at": _rfc3339(now + _LIFETIME)}


def _oauth(query: _Query, now: int) -> dict[str, object]:
    return {"access_token": "opaque", "token_type": "Bearer", "expires_in": _LIFETIME}


def _managed_identity(query: _Query, now: int) -> dict[str, object]:
    resource_ = query.get("resource", [""])[0]
    return {"access_token": "opaque", "token_type": "Bearer", "expires_on": str(now + _LIFETIME), "resource": resource_}


def _container(query: _Query, now: int) -> dict[str, object]:
    secret = {"AccessKeyId": "id", "SecretAccessKey": "secret", "Token": "opaque"}
    return {**secret, "Expiration": _rfc3339(now + _LIFETIME)}


def _rfc3339(at: float) -> str:
    return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


_TOKENS: dict[str, Callable[[_Query, int], dict[str, object]]] = {
    "/authsec/uflow/sdk/delegation-token": _delegation,
    "/oauth": _oauth,
    "/managed-identity": _managed_identity,
    "/container": _container,
}


class _Connection(asyncio.Protocol):
    """One client. Requests on a connection come one after the other, as those of all clients here do."""

    counted = 0  # requests for tokens, over all connections

    def __init__(self, nonce: str, delay: float) -> None:
        self._nonce, self._delay = nonce, delay
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end].decode("latin-1")
            length = next((int(line[15:]) for line in head.lower().splitlines() if line[:15] == "content-length:"), 0)
            if len(self._received) < end + 4 + length:
                return
            self._received = self._received[end + 4 + length :]
            self._answer(urlsplit(head.split(" ", 2)[1]))

    def _answer(self, url: SplitResult) -> None:
        path, query = url.path, parse_qs(url.query)
        if path == "/whoami":
            self._send(200, {"nonce": self._nonce, "pid": os.getpid(), "tokens": _Connection.counted})
        elif path == f"/{API_PATH}":
            self._send(200, _DATA)
        elif path == f"/{SLOW_API_PATH}":
            asyncio.get_running_loop().call_later(API_DELAY, self._send, 200, _DATA)
        elif path in _TOKENS:
            _Connection.counted += 1
            body = _TOKENS[path](query, int(time.time()))
            asyncio.get_running_loop().call_later(self._delay, self._send, 200, body)
        else:
            self._send(404, {})

    def _send(self, status: int, value: dict[str, object]) -> None:
        if self._transport.is_closing():
            return
        body = json.dumps(value).encode()
        head = f"HTTP/1.1 {status} OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)


async def _serve(nonce: str, delay: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(nonce, delay), "127.0.0.1", 0, backlog=_BACKLOG)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    # Whoever started this holds the other end of stdin, and its end is ours, however it comes.
    await loop.run_in_executor(None, sys.stdin.read)
    os._exit(0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--nonce", required=True)
    parser.add_argument("--delay", type=float, default=0.0)
    given = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(_serve(given.nonce, given.delay))
