"""Where a secret's value is not: in the database's files, logs, errors, descriptions, and the arguments of processes.

The server is a process of its own, and says all that it can be made to say. What has to be found is looked for in the
same way, so that nothing is missed only because the search finds nothing at all.
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import sqlalchemy as sa
from behaviour.support import BARE, PATIENCE, OpenSite
from behaviour.vault import agent
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_server.authority import Authority
from authsec_server.db.tables import secret_versions
from authsec_server.testing import DevAuthority, LocalPostgres
from authsec_server.vault.env_text import read_env_text
from authsec_server.vault.secret_shapes import EnvFile, NewSecret, NewValue, RotatedSecret
from authsec_server.vault.values import Secret, SecretInfo, Wanted

NAMESPACE = "production/namespace-that-is-found"
CANARY = f"canary-{secrets.token_hex(12)}"


@dataclass(frozen=True)
class Server:
    """A server in a process of its own.

    Attributes:
        folder: Where its database has its files.
    """

    authority: DevAuthority
    folder: Path
    postgres: LocalPostgres | None = None

    def flush(self) -> None:
        """Let everything that was committed be in the files of the tables, too."""
        if self.postgres is not None:
            asyncio.run(_checkpoint(self.postgres.url))

    @property
    def pids(self) -> list[int]:
        """Whose arguments and environments are looked at."""
        others = [] if self.postgres is None or self.postgres.pid is None else [self.postgres.pid]
        return [self.authority.pid, *others]


async def _checkpoint(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


@contextmanager
def served(database: str) -> Iterator[Server]:
    """Lend a server that logs at DEBUG, on a database of this kind."""
    environ = {
        "AUTHSEC_SERVER_LOG_LEVEL": "DEBUG",
        "AUTHSEC_SERVER_LOG_FORMAT": "json",
        "AUTHSEC_SERVER_DATABASE_TIMEOUT": "30",
        "AUTHSEC_SERVER_REQUEST_TIMEOUT": "60",
    }
    if database == "sqlite":
        with DevAuthority(environ=environ) as authority:
            yield Server(authority, authority.data_dir)
        return
    with (
        LocalPostgres(fsync=False) as postgres,
        DevAuthority(database_url=postgres.create_database(), environ=environ) as authority,
    ):
        assert postgres._cluster is not None
        yield Server(authority, postgres._cluster._data, postgres)


def spelled(text: str) -> list[bytes]:
    """Return the ways in which a text may be written down."""
    raw = text.encode()
    in_base64 = [base64.b64encode(b"x" * shift + raw)[4:-4] for shift in range(3)]
    return [raw, raw.hex().encode(), raw.hex().upper().encode(), raw[::-1], text.encode("utf-16-le"), *in_base64]


def found_in(content: bytes, text: str) -> bool:
    """Return whether the text is there, in any spelling."""
    return any(spelling in content for spelling in spelled(text))


def contents(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Yield every file below a folder; a server at work may remove one that was just there."""
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):
            if file.is_file():
                yield file, file.read_bytes()


def use(server: Server) -> list[bytes]:
    """Do whatever can be done with secrets, well and badly, and return every reply that must not have the value."""
    replies: list[httpx.Response] = []
    headers = {"Authorization": f"Bearer {server.authority.agent_key}"}
    with httpx.Client(
        base_url=f"{server.authority.base_url}/v1", headers=headers, verify=BARE, trust_env=False, timeout=PATIENCE
    ) as http:

        def ask(method: str, path: str, status: int, **more: Any) -> httpx.Response:
            reply = http.request(method, path, **more)
            assert reply.status_code == status, (method, path, reply.text)
            return reply

        one = f"/secrets/{NAMESPACE}/one"
        replies.append(ask("PUT", one, 200, json={"value": CANARY}))
        assert ask("GET", one, 200).json()["value"] == CANARY
        assert ask("POST", f"{one}/rotate", 200, json={"value": f"{CANARY}-2"}).json()["value"] == f"{CANARY}-2"
        text = f"TWO={CANARY}-3\nTHREE='{CANARY}-4'\n"
        replies.append(ask("POST", "/secrets/import", 200, json={"namespace": NAMESPACE, "content": text}))
        assert ask("GET", f"{one}?version=1", 200).json()["value"] == CANARY
        replies += [
            ask("GET", f"/secrets/{NAMESPACE}", 200),
            ask("GET", "/secrets", 200),
            ask("POST", "/secrets/import", 400, json={"namespace": NAMESPACE, "content": f"A='{CANARY}\n{CANARY}"}),
            ask("PUT", f"/secrets/{NAMESPACE}", 200, json={"value": CANARY}),
            ask("PUT", one, 400, json={"value": CANARY, "secret_type": CANARY}),
            ask("PUT", one, 400, json={"value": CANARY, CANARY: CANARY}),
            ask("PUT", one, 400, json={"value": [CANARY]}),
            ask("PUT", one, 400, content=f'{{"value": "{CANARY}"'),
            ask("PUT", one, 413, json={"value": CANARY * 10_000}),
            ask("PUT", f"/secrets/production/../{CANARY}//", 400, json={"value": CANARY}),
            ask("GET", f"{one}?version={CANARY}", 400),
            ask("PATCH", one, 405, json={"value": CANARY}),
            ask("GET", f"/secrets/{NAMESPACE}/none", 404),
            ask("PUT", one, 401, json={"value": CANARY}, headers={"Authorization": f"Bearer {CANARY}"}),
            ask("PUT", one, 401, json={"value": CANARY}, headers={"Authorization": "Bearer x"}),
            ask("DELETE", f"/secrets/{NAMESPACE}/THREE", 204),
            http.get(f"{server.authority.base_url}/openapi.json"),
            server.authority.client.get("/audit", params={"format": "jsonl"}),
            server.authority.client.get("/metrics"),
        ]
    return [str(reply.headers).encode() + reply.content for reply in replies]


@pytest.mark.req("RW1")
@pytest.mark.req("RW5")
@pytest.mark.req("RS8")
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_canary_is_nowhere_to_be_found(database: str) -> None:
    """Not in tables, WAL or journal, the logs at DEBUG, replies that are not about it, the OpenAPI, or arguments."""
    with served(database) as server:
        replies = use(server)
        server.flush()
        files = dict(contents(server.folder))
        log = server.authority.log.encode()
        processes = [Path(f"/proc/{pid}/cmdline") for pid in server.pids] if sys.platform == "linux" else []
        shown = [path.read_bytes() for path in processes]
    assert any(found_in(content, NAMESPACE) for content in files.values()), "the search finds what is stored in plain"
    assert b'"PUT' in log or b"/v1/secrets/{path:path}" in log, "the log has the requests"
    assert any(found_in(reply, NAMESPACE) for reply in replies)
    assert [str(file) for file, content in files.items() if found_in(content, CANARY)] == []
    assert not found_in(log, CANARY)
    assert [number for number, reply in enumerate(replies) if found_in(reply, CANARY)] == []
    assert not any(found_in(arguments, CANARY) for arguments in shown)
    assert len(files) > 1


@pytest.mark.req("RW1")
def test_what_was_moved_in_the_database_is_not_given_out(open_site: OpenSite) -> None:
    """Rows that were swapped, rolled back, cut or edited: 500, no value of any secret, and the request is on record."""
    with open_site() as site:
        owner = agent(site)
        for path, value in (("a/one", "canary-1"), ("a/one", "canary-2"), ("a/two", "canary-3")):
            owner.put(path, value)

        async def read(inner: Authority) -> dict[tuple[str, int], Any]:
            async with inner.database.read() as connection:
                return {(row.path, row.version): row for row in await connection.execute(sa.select(secret_versions))}

        stored = site.authority.run(read)

        def write(path: str, version: int, **values: bytes) -> None:
            async def work(connection: AsyncConnection) -> None:
                named = (secret_versions.c.path == path) & (secret_versions.c.version == version)
                await connection.execute(sa.update(secret_versions).where(named).values(**values))

            site.authority.run(lambda inner: inner.database.write(work))

        first, second, other = stored["a/one", 1], stored["a/one", 2], stored["a/two", 1]
        for values in (
            {"wrapped_key": first.wrapped_key, "sealed": first.sealed},
            {"wrapped_key": other.wrapped_key, "sealed": other.sealed},
            {"sealed": first.sealed},
            {"wrapped_key": other.wrapped_key},
            {"sealed": second.sealed[:-1]},
            {"sealed": bytes([*second.sealed[:-1], second.sealed[-1] ^ 1])},
            {"sealed": b"", "wrapped_key": b""},
        ):
            write("a/one", 2, **values)
            reply = owner.reply("GET", "/a/one")
            assert (reply.status_code, reply.json()["error"]["code"]) == (500, "INTERNAL"), values
            assert "canary" not in reply.text
            assert owner.value("a/two") == "canary-3", "others go on"
            write("a/one", 2, wrapped_key=second.wrapped_key, sealed=second.sealed)
        assert owner.value("a/one") == "canary-2"
        assert len(site.entries(action="vault.secret.read")) == 7 * 2 + 1


@pytest.mark.req("RW5")
def test_what_holds_a_value_does_not_show_it() -> None:
    """Values on their way are in no repr."""
    info = SecretInfo(
        path="a/b",
        secret_id="1",
        version=1,
        secret_type="custom",
        access_tier="standard",
        metadata={},
        created_at=0.0,
        updated_at=0.0,
    )
    rotated = RotatedSecret(
        namespace="a",
        key="b",
        path="a/b",
        id="1",
        version=1,
        secret_type="custom",
        access_tier="standard",
        metadata={},
        created_at=0.0,
        updated_at=0.0,
        value=CANARY,
    )
    for held in (
        Secret(info, CANARY),
        Wanted(value=CANARY),
        read_env_text(f"A={CANARY}"),
        NewSecret(value=CANARY),
        NewValue(value=CANARY),
        EnvFile(namespace="a", content=CANARY),
        rotated,
    ):
        assert CANARY not in f"{held!r} {held}"
    assert json.loads(rotated.model_dump_json())["value"] == CANARY
