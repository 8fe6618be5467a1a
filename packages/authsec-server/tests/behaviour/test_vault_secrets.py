"""Secrets over HTTP, on every kind of authority: written, read, listed, rotated, imported, deleted; and on record."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from behaviour.support import PATIENCE, Call, OpenSite, Site, at_once
from behaviour.vault import Asking, agent, vault_entries
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_core._clock import SYSTEM_CLOCK
from authsec_core.testing import FakeClock
from authsec_server.authority import Authority
from authsec_server.db import tables
from authsec_server.db.engine import Database
from authsec_server.vault.envelope import SealedValue
from authsec_server.vault.values import LARGEST_VALUE, MOST_VERSIONS

PATH = "production/openai/api-key"
LISTED = {"namespace", "key", "version", "secret_type", "access_tier", "metadata", "created_at", "updated_at"}


@pytest.fixture
def place() -> str:
    """A namespace of this test alone."""
    return f"t-{secrets.token_hex(4)}"


@pytest.fixture
def owner(site: Site, place: str) -> Asking:
    """An agent that may do everything there."""
    return agent(site, vault_namespaces=[place])


# What is answered


def test_a_secret_comes_back_as_it_was_written(owner: Asking, place: str) -> None:
    """With its value, its kind, its metadata and its version; nobody may keep the reply."""
    said = {"secret_type": "api_key", "metadata": {"owner": "research"}}
    written = owner.put(f"{place}/openai/api-key", "sk-1", **said)
    assert set(written) == {*LISTED, "path", "id"}
    reply = owner.reply("GET", f"/{place}/openai/api-key")
    body = reply.json()
    assert set(body) == {*LISTED, "path", "value"}
    assert (body["value"], body["version"], body["access_tier"]) == ("sk-1", 1, "standard")
    assert (body["namespace"], body["key"]) == (f"{place}/openai", "api-key")
    assert {name: body[name] for name in said} == said
    assert {name: written[name] for name in LISTED} == {name: body[name] for name in LISTED}
    assert reply.headers["cache-control"] == "no-store"


def test_what_is_left_out_stays_as_it_is(owner: Asking, place: str) -> None:
    """A new version keeps kind, tier and metadata unless it says otherwise; of a new secret they are the usual ones."""
    first = owner.put(f"{place}/a/k", "1")
    assert (first["secret_type"], first["access_tier"], first["metadata"]) == ("custom", "standard", {})
    owner.put(f"{place}/a/k", "2", secret_type="certificate", metadata={"a": "b"})
    third = owner.put(f"{place}/a/k", "3")
    assert (third["version"], third["secret_type"], third["metadata"]) == (3, "certificate", {"a": "b"})
    assert owner.put(f"{place}/a/k", "4", metadata={})["metadata"] == {}
    assert third["id"] == first["id"]


def test_each_version_can_be_read(owner: Asking, place: str) -> None:
    """The latest by default, an older one by its number; one that is not there is not found."""
    for number in (1, 2, 3):
        owner.put(f"{place}/a/k", f"value {number}")
    assert owner.value(f"{place}/a/k") == "value 3"
    assert [owner.value(f"{place}/a/k", version=number) for number in (1, 2, 3)] == ["value 1", "value 2", "value 3"]
    for number in (4, 999_999_999):
        assert owner.code("GET", f"/{place}/a/k?version={number}", status=404) == "SECRET_NOT_FOUND"
    for odd in ("0", "-1", "1.0", "x", "", "1&version=1", "9999999999"):
        assert owner.code("GET", f"/{place}/a/k?version={odd}", status=400) == "VALIDATION_ERROR"


@pytest.mark.parametrize("value", ["x", "ключ 🔑", "a\nb\r\n\tc", '"\\', "\x00\x7f", "x" * LARGEST_VALUE])
def test_any_text_is_a_value(owner: Asking, place: str, value: str) -> None:
    """Of 1 byte to 64 KiB, whatever is in it."""
    owner.put(f"{place}/a/k", value)
    assert owner.value(f"{place}/a/k") == value


@pytest.mark.req("RW5")
@pytest.mark.parametrize(
    "body",
    [
        b'{"value": ""}',
        b'{"value": "canary-%s"}' % (b"x" * LARGEST_VALUE),
        b'{"value": "canary-\\ud800"}',
        b'{"value": "%s"}' % ("ключ-canary" * 5000).encode(),
        b'{"value": ["canary-1"]}',
        b'{"value": "canary-1", "sk-Canary-canary-2canary": 1}',
        b'{"value": "canary-1", "metadata": {"a": ["canary-2"]}}',
        b'{"value": "canary-1", "metadata": {"a": "canary\\n2"}}',
        b'{"value": "canary-1", "metadata": {"": "canary-2"}}',
        json.dumps({"value": "canary-1", "metadata": {f"{n:02}": "canary" * 42 for n in range(17)}}).encode(),
        b'{"value": "canary-1", "secret_type": "canary-2"}',
        b'{"value": "canary-1", "access_tier": "canary-2"}',
        b'{"value": "canary-1"',
        b"canary-1",
    ],
)
def test_what_cannot_be_kept_is_refused_without_a_word_of_it(owner: Asking, place: str, body: bytes) -> None:
    """The error says what has to be mended, and quotes neither values nor names that may be some."""
    headers = {"Content-Type": "application/json"}
    reply = owner.reply("PUT", f"/{place}/a/k", content=body, headers=headers)
    assert reply.status_code == 400, reply.text
    assert reply.json()["error"]["code"] == "VALIDATION_ERROR"
    assert "canary" not in reply.text
    assert owner.code("GET", f"/{place}/a/k", status=404) == "SECRET_NOT_FOUND"


def test_only_so_many_versions_are_kept(owner: Asking, place: str) -> None:
    """The oldest go."""
    for number in range(1, MOST_VERSIONS + 3):
        owner.put(f"{place}/a/k", f"value {number}")
    assert owner.code("GET", f"/{place}/a/k?version=2", status=404) == "SECRET_NOT_FOUND"
    assert owner.value(f"{place}/a/k", version=3) == "value 3"
    assert owner.value(f"{place}/a/k") == f"value {MOST_VERSIONS + 2}"


def test_what_was_deleted_is_gone_and_its_numbers_are_not_used_again(owner: Asking, place: str) -> None:
    """All versions go; what is written there afterwards is new, and has a number that nothing had before."""
    owner.put(f"{place}/a/k", "1", metadata={"a": "b"})
    owner.put(f"{place}/a/k", "2")
    assert owner("DELETE", f"/{place}/a/k", status=204) is None
    for path in (f"/{place}/a/k", f"/{place}/a/k?version=1"):
        assert owner.code("GET", path, status=404) == "SECRET_NOT_FOUND"
    assert owner.code("DELETE", f"/{place}/a/k", status=404) == "SECRET_NOT_FOUND"
    assert owner.code("POST", f"/{place}/a/k/rotate", status=404) == "SECRET_NOT_FOUND"
    assert owner("GET", f"/{place}")["items"] == []
    again = owner.put(f"{place}/a/k", "3")
    assert (again["version"], again["metadata"]) == (3, {})
    assert owner.code("GET", f"/{place}/a/k?version=2", status=404) == "SECRET_NOT_FOUND"


@pytest.mark.inside
def test_what_was_deleted_leaves_the_files(site: Site, owner: Asking, place: str) -> None:
    """With SQLite's next purge nothing of it is left on the disk, sealed as it was: also not in its log."""
    url = site.authority.settings.database_url.get_secret_value()
    if not url.startswith("sqlite"):
        pytest.skip("PostgreSQL keeps it until VACUUM")
    file = Path(url.removeprefix("sqlite:///"))
    files = [file, file.with_name(f"{file.name}-wal")]
    owner.put(f"{place}/a/k", "x" * 9000)
    (row,) = site.authority.run(lambda inner: _versions_of(inner, f"{place}/a/k"))
    owner("DELETE", f"/{place}/a/k", status=204)
    assert any(row.sealed[-99:] in each.read_bytes() for each in files)
    site.authority.run(lambda inner: inner._purge())
    assert not any(row.sealed[-99:] in each.read_bytes() for each in files)


async def _versions_of(inner: Authority, path: str) -> Sequence[Any]:
    async with inner.database.read() as connection:
        query = sa.select(tables.secret_versions).where(tables.secret_versions.c.path == path)
        return (await connection.execute(query)).all()


def test_a_secret_can_be_given_a_random_value(owner: Asking, place: str) -> None:
    """Rotating makes up 256 bits, or takes what is given, and returns what the secret is from now on."""
    owner.put(f"{place}/a/k", "1", metadata={"a": "b"})
    made = owner("POST", f"/{place}/a/k/rotate")
    assert set(made) == {*LISTED, "path", "id", "value"}
    assert (made["version"], made["metadata"], len(made["value"])) == (2, {"a": "b"}, 43)
    assert owner.value(f"{place}/a/k") == made["value"]
    other = owner("POST", f"/{place}/a/k/rotate", json={})["value"]
    assert other != made["value"]
    assert owner("POST", f"/{place}/a/k/rotate", json={"value": "given"})["value"] == "given"
    assert owner.value(f"{place}/a/k") == "given"
    assert owner.code("POST", f"/{place}/a/none/rotate", status=404) == "SECRET_NOT_FOUND"


# Lists


def test_a_list_has_what_lies_below_and_no_value(owner: Asking, place: str) -> None:
    """By an address of one segment, by the query, or by an address that is no secret; ordered by path."""
    for path in (f"{place}/b/k", f"{place}/a/k2", f"{place}/a/k1", f"{place}/a/deep/k"):
        owner.put(path, "canary-value")
    everything = ["a/deep/k", "a/k1", "a/k2", "b/k"]
    for address in (f"/{place}", f"?namespace={place}", ""):
        listed = owner("GET", address)
        assert [f"{item['namespace']}/{item['key']}" for item in listed["items"]] == [
            f"{place}/{p}" for p in everything
        ]
        assert all(set(item) == LISTED for item in listed["items"])
        assert "canary" not in json.dumps(listed)
        assert listed["next"] is None
    for address in (f"/{place}/a", f"/{place}%2Fa", f"?namespace={place}/a", f"?namespace={place}%2Fa"):
        listed = owner("GET", address)
        assert (listed["namespace"], len(listed["items"])) == (f"{place}/a", 3)
    assert owner("GET", f"/{place}%2Fnone")["items"] == []
    assert owner.code("GET", f"/{place}/none", status=404) == "SECRET_NOT_FOUND"
    assert owner.code("GET", f"/{place}?version=1", status=400) == "VALIDATION_ERROR"


def test_where_a_secret_and_a_namespace_have_one_name_the_secret_is_meant(owner: Asking, place: str) -> None:
    """An address of several segments is the secret's if there is one; encoded as one segment it is the namespace's."""
    owner.put(f"{place}/a", "the secret")
    owner.put(f"{place}/a/k", "below it")
    assert owner.value(f"{place}/a") == "the secret"
    assert [item["key"] for item in owner("GET", f"/{place}%2Fa")["items"]] == ["k"]


def test_a_list_shows_what_the_credential_covers(owner: Asking, site: Site, place: str) -> None:
    """Of the caller's own scopes and access, both; a namespace that they reach nothing of is refused."""
    for path in ("a/k", "a/b/k", "c/k"):
        owner.put(f"{place}/{path}", "1")
    reader = owner.token(f"secrets:read:{place}/a/*")
    exact = owner.token(f"secrets:read:{place}/c/k")
    assert [item["namespace"] for item in reader("GET", f"/{place}")["items"]] == [f"{place}/a/b", f"{place}/a"]
    assert [item["key"] for item in exact("GET", f"/{place}")["items"]] == ["k"]
    assert len(exact("GET", "")["items"]) == 1
    assert reader.code("GET", f"/{place}/c", status=403) == "SCOPE_DENIED"
    assert reader.code("GET", f"/{place}%2Fc", status=403) == "SCOPE_DENIED"
    assert owner.token(f"secrets:write:{place}/*").code("GET", f"/{place}", status=403) == "SCOPE_DENIED"
    assert agent(site, "secrets:read:elsewhere/*").code("GET", f"/{place}", status=403) == "SCOPE_DENIED"


def test_a_long_list_goes_on(site: Site, place: str) -> None:
    """After 250 secrets `next` says where; each of them is on one page."""
    owner = agent(site, vault_namespaces=[place])
    fill(owner, f"{place}/n", 300)
    first = owner("GET", f"/{place}")
    assert (len(first["items"]), first["next"]) == (250, f"{place}/n/K249")
    last = owner("GET", f"/{place}", params={"after": first["next"]})
    assert (len(last["items"]), last["next"]) == (50, None)
    assert last["items"][0]["key"] == "K250"
    assert owner("GET", "", params={"namespace": place, "after": first["next"]})["items"] == last["items"]


def test_a_page_has_what_may_be_seen_and_names_nothing_else(owner: Asking, place: str) -> None:
    """However much lies before it that is not for the asker: nothing of that takes a page, or ends one."""
    fill(owner, f"{place}/n", 300)
    owner.put(f"{place}/z/k", "1")
    for scopes in ([f"secrets:read:{place}/z/*"], [f"secrets:read:{place}/n/K000", f"secrets:read:{place}/z/k"]):
        page = owner.token(*scopes)("GET", f"/{place}")
        assert [item["key"] for item in page["items"]] == ["K000"] * (len(scopes) - 1) + ["k"]
        assert page["next"] is None


def test_a_page_is_no_larger_than_any_reply(owner: Asking, place: str) -> None:
    """However much is said of each secret: 100 KiB or so at a time, and each secret is on one page."""
    metadata = {f"{number:02}": "\\" * 254 for number in range(16)}  # 4 KiB, which JSON writes as 8
    for number in range(20):
        owner.put(f"{place}/n/K{number:02}", "1", metadata=metadata)
    seen, after = [], ""
    while after is not None:
        reply = owner.reply("GET", f"/{place}", params={"after": after})
        assert len(reply.content) < 110_000
        page = reply.json()
        assert page["items"]
        seen += [item["key"] for item in page["items"]]
        after = page["next"]
    assert seen == [f"K{number:02}" for number in range(20)]


def fill(asker: Asking, namespace: str, count: int) -> None:
    """Write so many secrets, K000 and on."""
    names = [f"K{number:03}" for number in range(count)]
    for first in range(0, count, 100):
        text = "".join(f"{name}=x\n" for name in names[first : first + 100])
        asker("POST", "/import", json={"namespace": namespace, "content": text})


# Addresses


@pytest.mark.req("RW2")
def test_slashes_may_be_encoded_in_a_namespace(owner: Asking, place: str) -> None:
    """However the slashes are written, it is one secret; to read, to write, to rotate and to delete."""
    first = owner.put(f"{place}/open.ai/api_key", "1")
    for number, path in enumerate(
        (f"{place}%2Fopen.ai/api_key", f"{place}%2fopen.ai/api_key", f"{place}/open%2Eai/%61pi_key"), 2
    ):
        assert owner.put(path, str(number))["id"] == first["id"]
        assert owner.value(path) == str(number)
        assert owner("POST", f"/{path}/rotate", json={"value": str(number)})["path"] == f"{place}/open.ai/api_key"
    assert len(owner("GET", f"/{place}")["items"]) == 1
    owner("DELETE", f"/{place}%2Fopen.ai/api_key", status=204)
    assert owner("GET", f"/{place}")["items"] == []


SPELLINGS = [
    "{}/a/../a/k",
    "{}/a/./k",
    "{}/a/%2e%2e/a/k",
    "{}/a/%2E/k",
    "{}/a/.%2e/k",
    "{}%2F..%2F{}/a/k",
    "../secrets/{}/a/k",
    "{}//a/k",
    "{}/a//k",
    "{}/a%2F%2Fk",
    "/{}/a/k",
    "%2F{}/a/k",
    "{}/a/k/",
    "{}/a/k%2F",
    "{}%252Fa/k",
    "{}/a/%256b",
    "{}/a/k%00",
    "{}/a/%00k",
    "{}/a/k%0A",
    "{}/a/k%0d%0a",
    "{}/a/k%20",
    "%20{}/a/k",
    "{}/a/k+",
    "{}/a/k%09",
    "{}/a/k;x=1",
    "{}/a/k:latest",
    "{}/a/k@1",
    "{}/a/*",
    "{}/*",
    "{}%5Ca/k",
    "{}/a/%EF%BD%8B",  # fullwidth k
    "{}/%D0%B0/k",  # Cyrillic a
    "{}/a%E2%88%95k/k",  # a division slash
    "{}/a/k%CC%81",  # a combining accent
    "{}/a/k%E2%80%8B",  # a zero width space
    "{}/a/%C0%AF/k",  # an overlong slash
    "{}/a/%FF",
    "{}/a/%",
    "{}/a/%6",
    "{}/a/%zz",
    "{}/a/rotate",
    "{}/import/k",
    "{}/" + "a/" * 20 + "k",
    "{}/a/" + "k" * 129,
    "{}/" + "/".join(["a" * 100] * 6),
]


@pytest.mark.req("RW2")
def test_no_odd_spelling_reaches_a_secret(owner: Asking, place: str) -> None:
    """Traversal, double encoding, look-alikes, NUL, empty segments: 400 for the one who may read it; no word."""
    owner.put(f"{place}/a/k", "canary-value")
    targets = [f"/v1/secrets/{spelling.format(place, place)}" for spelling in SPELLINGS]
    for method, body in (("GET", None), ("PUT", {"value": "x"}), ("DELETE", None)):
        for target, reply in zip(targets, owner.raw(method, *targets, body=body), strict=True):
            assert reply.status_code == 400, (method, target, reply.status_code)
            assert reply.json()["error"]["code"] == "VALIDATION_ERROR"
            assert "canary" not in reply.text
    assert owner.value(f"{place}/a/k") == "canary-value"
    assert [item["key"] for item in owner("GET", f"/{place}")["items"]] == ["k"]


@pytest.mark.req("RW2")
@pytest.mark.parametrize(
    ("scope", "covered"),
    [
        ("{}/*", {"a/k", "a/b/k", "A/k", "a-x/k", "a.x/k"}),
        ("{}/a/*", {"a/k", "a/b/k"}),
        ("{}/a/k", {"a/k"}),
        ("{}/a/b/*", {"a/b/k"}),
        ("{}/A/*", {"A/k"}),
        ("{}/a-x/*", {"a-x/k"}),
        ("{}/a/k/*", set()),
    ],
)
def test_scopes_go_by_segments_and_by_case(owner: Asking, place: str, scope: str, covered: set[str]) -> None:
    """What a token's pattern covers can be read with it, and nothing that only begins alike, or is spelt alike."""
    paths = ["a/k", "a/b/k", "A/k", "a-x/k", "a.x/k"]
    for path in paths:
        owner.put(f"{place}/{path}", f"value of {path}")
    reader = owner.token(f"secrets:read:{scope.format(place)}")
    for path in paths:
        if path in covered:
            assert reader.value(f"{place}/{path}") == f"value of {path}"
        else:
            assert reader.code("GET", f"/{place}/{path}", status=403) == "SCOPE_DENIED"
    listed = [f"{item['namespace']}/{item['key']}" for item in reader("GET", f"/{place}")["items"]]
    assert listed == sorted(f"{place}/{path}" for path in covered)


def test_each_action_takes_its_scope(owner: Asking, place: str) -> None:
    """Who may read may not write, and so on; what is refused is not done."""
    owner.put(f"{place}/a/k", "1")
    path = f"/{place}/a/k"
    calls: list[tuple[str, str, str, Any]] = [
        ("read", "GET", path, None),
        ("write", "PUT", path, {"value": "2"}),
        ("write", "POST", f"{path}/rotate", {"value": "3"}),
        ("write", "POST", "/import", {"namespace": f"{place}/a", "content": "k=4"}),
        ("delete", "DELETE", path, None),
    ]
    for action in ("read", "write", "delete"):
        asker = owner.token(f"secrets:{action}:{place}/*")
        for needed, method, address, body in calls:
            if needed != action:
                assert asker.code(method, address, status=403, json=body) == "SCOPE_DENIED"
    assert owner.value(f"{place}/a/k") == "1"
    for needed, method, address, body in calls:
        status = 204 if method == "DELETE" else 200
        owner.token(f"secrets:{needed}:{place}/*")(method, address, status=status, json=body)


# Imports

ENV = """# what the old service had
export OPENAI_API_KEY="sk-1"   # ours
TAVILY=tvly#2
EMPTY=
PEM='-----BEGIN-----
MIIB
-----END-----'
TAVILY=tvly-3
"""


def test_an_env_text_becomes_secrets(owner: Asking, place: str) -> None:
    """Each name with a value is a secret of the namespace, with what is said for all of them."""
    body = {"namespace": f"{place}/n", "content": ENV, "secret_type": "api_key", "metadata": {"from": ".env"}}
    told = owner("POST", "/import", json=body)
    keys = ["OPENAI_API_KEY", "PEM", "TAVILY"]
    assert told == {"namespace": f"{place}/n", "imported": keys, "imported_count": 3, "skipped": 2, "keys": keys}
    assert [owner.value(f"{place}/n/{key}") for key in keys] == [
        "sk-1",
        "-----BEGIN-----\nMIIB\n-----END-----",
        "tvly-3",
    ]
    (one, *_) = owner("GET", f"/{place}")["items"]
    assert (one["secret_type"], one["metadata"], one["version"]) == ("api_key", {"from": ".env"}, 1)
    owner("POST", "/import", json={**body, "content": "PEM=2"})
    assert owner("GET", f"/{place}/n/PEM")["version"] == 2


@pytest.mark.req("RW5")
@pytest.mark.parametrize(
    ("content", "lines"),
    [
        ("A=1\ncanary-line\nB='canary\n", ["line 2: ", "line 3: "]),
        ("A=1\ncanary/key=2", ["line 2: "]),
        ("A=1\nimport=2\n..=3", ["line 2: ", "line 3: "]),
        (f"A=1\n{'k' * 129}=canary", ["line 2: "]),
        (f"A=1\nB=canary{'x' * LARGEST_VALUE}", ["line 2: "]),
        ("A=1\nB=${canary}", ["line 2: "]),
        ("canary\n" * 30, ["line 1: ", "line 20: ", "there may be more"]),
        ("# nothing", []),
        ("A=", []),
        ("".join(f"K{number}=1\n" for number in range(129)), ["1 to 128 names"]),
    ],
)
def test_nothing_is_half_imported(owner: Asking, place: str, content: str, lines: list[str]) -> None:
    """If one line cannot be read or kept, none is; the lines are named, and nothing of them is quoted."""
    reply = owner.reply("POST", "/import", json={"namespace": f"{place}/n", "content": content})
    assert reply.status_code == 400, reply.text
    message = reply.json()["error"]["message"]
    assert all(line in message for line in lines), message
    assert "canary" not in message
    assert owner("GET", f"/{place}")["items"] == []


def test_an_import_that_is_not_covered_writes_nothing(owner: Asking, place: str) -> None:
    """One name that the credential may not write is enough."""
    writer = owner.token(f"secrets:write:{place}/n/A")
    assert writer.code("POST", "/import", status=403, json={"namespace": f"{place}/n", "content": "A=1\nB=2"})
    assert owner("GET", f"/{place}")["items"] == []
    for namespace in ("", "..", "a//b", f"{place}/rotate"):
        assert owner.code("POST", "/import", status=400, json={"namespace": namespace, "content": "A=1"})


@pytest.mark.inside
def test_an_import_keeps_the_others_waiting_no_longer_than_a_write(site: Site, owner: Asking, place: str) -> None:
    """Everyone waits for each of its statements: they are as many for 60 names as for 2, of new ones and of others."""
    made: list[int] = []
    for count in (2, 60):
        text = "".join(f"K{number:02}=x\n" for number in range(count))
        body = {"namespace": f"{place}/n{count}", "content": text}
        owner("POST", "/import", json={**body, "content": text + "B=1"})
        with counted_writes(site) as statements:
            owner("POST", "/import", json={**body, "content": text + "C=1"})
        made.append(len(statements))
    assert made[0] == made[1]
    assert owner("GET", f"/{place}/n60/K59")["version"] == 2
    assert owner("GET", f"/{place}/n60/C")["version"] == 1


@contextmanager
def counted_writes(site: Site) -> Iterator[list[str]]:
    """Count what is sent to the database in changes."""
    found: list[str] = []

    def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        found.append(statement)

    async def writer(inner: Authority) -> Any:
        return inner.database._writer.sync_engine

    engine = site.authority.run(writer)
    sa.event.listen(engine, "before_cursor_execute", count)
    try:
        yield found
    finally:
        sa.event.remove(engine, "before_cursor_execute", count)


def test_an_import_costs_an_agent_what_so_many_writes_would(open_site: OpenSite) -> None:
    """Ten seconds' worth may come at once: who has imported twenty names has to wait for the ten of them."""
    clock = FakeClock()
    with open_site(clock=clock, client_rate=1.0) as site:
        owner = agent(site)
        text = "".join(f"K{number}=x\n" for number in range(20))
        owner("POST", "/import", json={"namespace": "n", "content": text})
        assert owner.code("GET", "/n/K1", status=429) == "RATE_LIMITED"
        clock.advance(11)
        assert owner.value("n/K1") == "x"


# Tiers


def test_what_is_above_standard_takes_a_token_that_was_approved(owner: Asking, place: str) -> None:
    """Once it is sensitive, neither the agent's key nor a token that was issued before does anything with it."""
    path = f"/{place}/a/k"
    token = owner.token(f"secrets:*:{place}/*")
    owner.put(f"{place}/a/k", "1")
    assert owner.put(f"{place}/a/k", "2", access_tier="sensitive")["access_tier"] == "sensitive"
    for asker in (owner, token):
        for method, address, body in (
            ("GET", path, None),
            ("GET", f"{path}?version=1", None),
            ("PUT", path, {"value": "3", "access_tier": "standard"}),
            ("POST", f"{path}/rotate", None),
            ("POST", "/import", {"namespace": f"{place}/a", "content": "new=1\nk=3"}),
            ("DELETE", path, None),
        ):
            assert asker.code(method, address, status=403, json=body) == "APPROVAL_REQUIRED", (method, address)
    assert [item["key"] for item in owner("GET", f"/{place}")["items"]] == ["k"]


# On record


@pytest.mark.req("RU1")
def test_each_access_is_an_entry(owner: Asking, site: Site, place: str) -> None:
    """Who, which path and version, by which token and scope, why and whether: the agent's own words stand apart."""
    owner.put(f"{place}/a/k", "canary-value")
    reader = owner.token(f"secrets:read:{place}/*")
    token_id = reader.bearer.partition(".")[0]
    claims = {"X-Agent-Name": "researcher", "X-Access-Reason": "a report", "X-Conversation-ID": "c-7"}
    reader("GET", f"/{place}/a/k", headers={**claims, "X-Request-ID": place})
    reader("PUT", f"/{place}/a/k", status=403, json={"value": "canary-other"}, headers=claims)
    reader("GET", f"/{place}/a/none", status=404)
    read, refused, missing = vault_entries(site, jti=token_id)
    assert (read["action"], read["decision"]) == ("vault.secret.read", "allow")
    assert read["actor"]["kind"] == "agent"
    assert read["actor"]["id"] == read["client_id"]
    assert (read["asked"], read["scope"]) == (f"secrets:read:{place}/a/k", f"secrets:read:{place}/*")
    assert read["claimed"] == {"agent_name": "researcher", "reason": "a report", "conversation_id": "c-7"}
    assert (read["request_id"], read["address"]) == (place, "127.0.0.1")
    assert (read["details"]["path"], read["details"]["version"]) == (f"{place}/a/k", 1)
    assert owner.bearer.startswith(read["details"]["key_id"])
    assert (refused["action"], refused["decision"], refused["reason"]) == ("vault.secret.write", "deny", "scope_denied")
    assert refused["claimed"] == read["claimed"]
    assert (missing["decision"], missing["reason"]) == ("deny", "secret_not_found")
    assert "canary" not in json.dumps(site.entries())


@pytest.mark.req("RU1")
def test_every_kind_of_change_is_an_entry(owner: Asking, site: Site, place: str) -> None:
    """Written, rotated, imported, listed and deleted: each once, with path and version."""
    path = f"{place}/a/k"
    owner.put(path, "1")
    owner("POST", f"/{path}/rotate")
    owner("POST", "/import", json={"namespace": f"{place}/a", "content": "k=3\nnew=1"})
    owner("GET", f"/{place}")
    owner("DELETE", f"/{path}", status=204)
    owner.reply("POST", f"/{path}/rotate")
    told = [(entry["action"], entry["decision"], entry["details"]) for entry in vault_entries(site)]
    key_id = owner.bearer.partition(".")[0]
    mine = [(action, said, details) for action, said, details in told if details.pop("key_id") == key_id]
    assert mine == [
        ("vault.secret.write", "allow", {"path": path, "version": 1}),
        ("vault.secret.rotate", "allow", {"path": path, "version": 2}),
        ("vault.secret.import", "allow", {"path": f"{place}/a", "versions": {"k": 3, "new": 1}}),
        ("vault.secret.list", "allow", {"path": place}),
        ("vault.secret.delete", "allow", {"path": path, "version": 3}),
        ("vault.secret.rotate", "deny", {"path": path}),
    ]


@pytest.mark.req("RU1")
def test_strangers_are_nobody_in_the_audit_and_learn_nothing(owner: Asking, site: Site, place: str) -> None:
    """A wrong proof gets 401 whether the path is there, is none, or the body is bad; its words are not kept."""
    owner.put(f"{place}/a/k", "canary-value")
    other = agent(site)
    stranger = Asking(site, f"{owner.bearer.partition('.')[0]}.{other.bearer.partition('.')[2]}")
    before = len(site.entries())
    claims = {"X-Agent-Name": "canary-name"}
    answers = {
        stranger.reply(method, path, headers=claims, json=body).text
        for method, path, body in (
            ("GET", f"/{place}/a/k", None),
            ("GET", f"/{place}/none/k", None),
            ("GET", f"/{place}//k", None),
            ("GET", f"/{place}/a/k?version=x", None),
            ("PUT", f"/{place}/a/k", {"value": ""}),
            ("PUT", f"/{place}/a/k", {"value": "x"}),
            ("POST", "/import", {"namespace": "n", "content": "canary"}),
        )
    }
    assert len(answers) == 1
    assert json.loads(answers.pop())["error"]["code"] == "UNAUTHORIZED"
    made = site.entries()[before:]
    assert [(entry["decision"], entry["actor"]["kind"], entry["reason"]) for entry in made] == [
        ("deny", "anonymous", "proof_wrong")
    ] * 7
    assert "canary" not in json.dumps(made)
    assert {entry["action"] for entry in made} == {"vault.denied"}


def test_who_is_no_agent_of_the_vault_gets_nothing(owner: Asking, site: Site, place: str) -> None:
    """No proof, an operator's token, a delegation token: 401; an agent without access: 403."""
    owner.put(f"{place}/a/k", "canary-value")
    nobody = site.onboard()
    for bearer in ("x", site.authority.admin_token, site.token(nobody)):
        reply = Asking(site, bearer).reply("GET", f"/{place}/a/k")
        assert (reply.status_code, reply.headers["www-authenticate"]) == (401, "Bearer")
        assert reply.json()["error"]["code"] == "UNAUTHORIZED"
    assert Asking(site, nobody.agent_key).code("GET", f"/{place}/a/k", status=403) == "SCOPE_DENIED"
    outside = agent(site, vault_namespaces=[f"{place}/b"])
    assert outside.code("GET", f"/{place}/a/k", status=403) == "SCOPE_DENIED"


def test_only_what_is_disclosed_or_done_is_a_use(owner: Asking, place: str) -> None:
    """Refusals, what is not found and what is malformed leave a counted token as it was."""
    owner.put(f"{place}/a/k", "1")
    token = owner.token(f"secrets:read:{place}/*", max_uses=2)
    for _ in range(3):
        token("GET", f"/{place}/a/none", status=404)
        token("PUT", f"/{place}/a/k", status=403, json={"value": "2"})
        token("GET", f"/{place}//k", status=400)
    assert token.value(f"{place}/a/k") == "1"
    assert len(token("GET", f"/{place}/a")["items"]) == 1
    for address in (f"/{place}/a/k", f"/{place}", f"/{place}/a/none"):
        assert token.code("GET", address, status=410) == "TOKEN_EXHAUSTED"


# Many at once


@pytest.mark.req("RW4")
def test_while_a_secret_is_rotated_readers_see_old_or_new(owner: Asking, site: Site, place: str) -> None:
    """Never nothing, never half, and never an older one than was seen before."""
    path = f"{place}/a/k"
    known = {1: owner.put(path, "value-0") and "value-0"}
    reader = owner.token(f"secrets:read:{place}/*")

    def read(worker: int) -> list[tuple[int, str]]:
        with_own = Asking(site, reader.bearer if worker % 2 else owner.bearer)
        bodies = [with_own("GET", f"/{path}") for _ in range(40)]
        return [(body["version"], body["value"]) for body in bodies]

    with ThreadPoolExecutor(6) as threads:
        readers = [threads.submit(read, worker) for worker in range(6)]
        while not all(one.done() for one in readers):
            made = owner("POST", f"/{path}/rotate")
            known[made["version"]] = made["value"]
        seen = [one.result() for one in readers]
    assert sum(map(len, seen)) == 240
    for each in seen:
        assert all(known[version] == value for version, value in each)
        versions = [version for version, _ in each]
        assert versions == sorted(versions)
    assert len(known) > 2


@pytest.mark.req("RW4")
def test_writers_at_once_get_a_version_each(owner: Asking, place: str) -> None:
    """64 who write the same new secret: 64 versions, each with the value that it was answered for."""
    url = f"{owner.site.authority.base_url}/v1/secrets/{place}/a/k"
    calls = [Call("PUT", url, bearer=owner.bearer, body={"value": f"value {number}"}) for number in range(64)]
    replies = at_once(calls)
    assert Counter(reply.status_code for reply in replies) == {200: 64}
    versions = {reply.json()["version"]: f"value {number}" for number, reply in enumerate(replies)}
    assert sorted(versions) == list(range(1, 65))
    assert len({reply.json()["id"] for reply in replies}) == 1
    assert {version: owner.value(f"{place}/a/k", version=version) for version in versions} == versions


@pytest.mark.req("RU1")
@pytest.mark.parametrize("table", ["audit", "head"])
def test_without_the_entry_there_is_no_secret(open_site: OpenSite, table: str) -> None:
    """Where the audit cannot be written: 503 and no value, nothing written, no use counted; then it goes on."""
    with open_site(clock=FakeClock()) as site:
        owner = agent(site)
        owner.put(PATH, "canary-value")
        counted = owner.token("secrets:read:production/*", max_uses=1)
        before = len(site.entries())
        site.authority.run(lambda inner: _rename(inner, table, f"{table}_away"))
        try:
            for asker in (owner, counted):
                for method, path, body in (
                    ("GET", f"/{PATH}", None),
                    ("GET", "", None),
                    ("PUT", f"/{PATH}", {"value": "2"}),
                    ("POST", f"/{PATH}/rotate", None),
                    ("DELETE", f"/{PATH}", None),
                ):
                    reply = asker.reply(method, path, json=body)
                    assert reply.status_code == 503, (method, reply.text)
                    assert "canary" not in reply.text
                    assert reply.headers["retry-after"] == "1"
        finally:
            site.authority.run(lambda inner: _rename(inner, f"{table}_away", table))
        assert len(site.entries()) == before
        assert counted.value(PATH) == "canary-value"
        assert owner("GET", f"/{PATH}")["version"] == 1


async def _rename(inner: Authority, old: str, new: str) -> None:
    async def work(connection: AsyncConnection) -> None:
        await connection.execute(sa.text(f"ALTER TABLE {old} RENAME TO {new}"))

    await inner.database.write(work)


@pytest.mark.req("RU1")
@pytest.mark.inside
def test_the_entry_is_there_before_the_secret_is_opened(site: Site, owner: Asking, place: str) -> None:
    """When a value is about to be opened, everyone else can read in the audit that it will be."""
    owner.put(f"{place}/a/k", "1")
    url = site.authority.settings.database_url.get_secret_value()
    seen: list[int] = []

    async def watch(inner: Authority) -> None:
        envelope = inner.secrets._envelope
        before = envelope.open

        def opened(path: str, version: int, kept: SealedValue) -> str:
            with ThreadPoolExecutor(1) as thread:  # the authority's own loop waits meanwhile
                seen.append(thread.submit(asyncio.run, _reads_of(url, path)).result(PATIENCE))
            return before(path, version, kept)

        vars(envelope)["open"] = opened

    site.authority.run(watch)
    try:
        for number in (1, 2):
            owner.value(f"{place}/a/k")
            assert seen[-1] == number
    finally:
        site.authority.run(_watch_no_more)


async def _watch_no_more(inner: Authority) -> None:
    del vars(inner.secrets._envelope)["open"]


async def _reads_of(url: str, path: str) -> int:
    database = Database(url, clock=SYSTEM_CLOCK, timeout=60.0)
    try:
        async with database.read() as connection:
            query = sa.select(tables.audit.c.text).where(tables.audit.c.action == "vault.secret.read")
            texts = (await connection.execute(query)).scalars().all()
    finally:
        await database.close()
    return sum(json.loads(text).get("details", {}).get("path") == path for text in texts)
