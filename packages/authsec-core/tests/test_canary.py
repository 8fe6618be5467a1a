"""RS8: whatever is logged, printed, raised, reported or pickled, no token and no key is in it.

Each way to fail that can be provoked over real HTTP is gone through with three canaries: an agent key, a workload token
and the delegation tokens themselves.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import dataclasses
import json
import logging
import pickle
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_support import fetch, tool
from canary_support import Log, pickled, reported
from core_support import AnyClient, Driver

import authsec_core
from authsec_core import (
    AsyncAuthSecClient,
    AuthorityUnreachableError,
    AuthSecClient,
    AuthSecConfig,
    AuthSecError,
    ConfigurationError,
    DownstreamError,
    FetchResult,
    InsecureTransportError,
    MockAuthority,
    TokenCache,
    TokenUnavailableError,
    TokenVerifier,
)
from authsec_core._proof import AgentKey, Proof, WorkloadTokenFile
from authsec_core.source import Identity, TokenRequest
from authsec_core.testing import LocalAgent, LocalAuthority, LoopbackServer, Raw, Reply, Request, assert_no_secret
from authsec_core.token import Secret

KEY = "agent-7f3a.q2w3e4r5t6y7u8i9o0p1a2s3d4f5g6h7"
# Its header begins otherwise than those of delegation tokens, so that their beginnings can be told apart.
WORKLOAD_TOKEN = ".".join(
    base64.urlsafe_b64encode(part).rstrip(b"=").decode()
    for part in (
        b'{"kid":"cluster-1","alg":"RS256"}',
        b'{"sub":"system:serviceaccount:default:agent","iss":"https://kubernetes.default.svc"}',
        bytes(range(100, 228)),
    )
)
pytestmark = pytest.mark.req("RS8")


@pytest.fixture
def log() -> Iterator[Log]:
    """Everything at DEBUG: ours, httpx's, httpcore's and asyncio's."""
    handler, root = Log(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(1)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


@dataclass
class Place:
    """A running authority and API, an agent with a key or a workload token, and its canaries."""

    authority: LocalAuthority
    api: LoopbackServer
    config: AuthSecConfig
    secrets: list[str]
    answer: Callable[[Request], Reply | Raw] = field(default=lambda _: Reply.of_json("data"))

    @property
    def at_stake(self) -> list[str]:
        """The proof and the latest tokens, among them all that can be in one error; to look for all takes too long."""
        return [self.secrets[0], *self.secrets[1:][-6:]]

    def made(self, **claims: Any) -> str:
        """Return one more token of the agent, to be put where it does not belong."""
        agent = LocalAgent(client_id=str(self.config.client_id), permissions=("read",))
        token = self.authority.mint(agent, **claims)
        self.secrets.append(token)
        return token


@pytest.fixture(params=["agent key", "workload token"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """The place, with either kind of proof; every token that is issued is a canary."""
    with LocalAuthority() as authority:
        by_key = request.param == "agent key"
        proof = KEY if by_key else WORKLOAD_TOKEN
        agent = authority.register(["read", "write"], agent_key=proof)
        (tmp_path / "token").write_text(proof)
        secrets = [proof]

        def handle(asked: Request) -> Reply | Raw:
            secrets.append(asked.headers["authorization"].removeprefix("Bearer "))
            return there.answer(asked)

        with LoopbackServer(handle) as api:
            config = AuthSecConfig(
                base_url=authority.base_url,
                client_id=agent.client_id,
                api_base_url=api.base_url,
                retries=0,
                failure_cooldown=0,
                **({"agent_key": KEY} if by_key else {"workload_token_file": tmp_path / "token"}),
            )
            there = Place(authority, api, config, secrets)
            yield there


def scan(place: Place, error: BaseException) -> None:
    """Fail where a report of the error would show a canary."""
    for where, material in reported(error):
        try:
            assert_no_secret(material, *place.at_stake)
        except AssertionError as found:
            pytest.fail(f"{where}: {found}")


def wrong_replies(place: Place) -> dict[str, dict[str, Any]]:
    """Return ways for the authority to answer wrongly, each with a canary in it."""
    token = place.made()
    head, claims, signature = token.split(".")
    proof = place.secrets[0]

    def with_token(text: str, **members: object) -> Callable[[dict[str, Any]], object]:
        return lambda good: {**good, "token": text, **members}

    return {
        "token, not JSON": {"garbage": token.encode()},
        "proof, not JSON": {"garbage": f"you sent {proof}".encode()},
        "half the JSON": {"garbage": f'{{"token": "{token}"'.encode()},
        "a list": {"garbage": json.dumps([token]).encode()},
        "base64 of a wrong length": {
            "alter": with_token(f"{head}.{claims}{'A' * ((1 - len(claims)) % 4)}.{signature}")
        },
        "not base64": {"alter": with_token(f"{head}.{claims}.{signature}!")},
        "claims that are no JSON": {"alter": with_token(f"{head}.{signature}.{claims}")},
        "two parts": {"alter": with_token(f"{head}.{claims}")},
        "a strange type": {"alter": with_token(token, token_type=token)},
        "strange permissions": {"alter": with_token(token, permissions=token)},
        "a strange time": {"alter": with_token(token, expires_at=token)},
        "a strange lifetime": {"alter": with_token(token, expires_in=token)},
        "another client": {"alter": with_token(token, client_id=token)},
        "an ended token": {"alter": with_token(place.made(exp=1, iat=2))},
        "a MOCK token": {"alter": with_token(place.made(mock=True))},
        "less than asked": {"alter": with_token(place.made(permissions=["x"], scope="x"), permissions=["x"])},
        "a cut body": {"cut": "body"},
        "nothing": {"cut": "start"},
        "too much": {"garbage": json.dumps({"token": token, "more": "x" * 70_000}).encode()},
        "packed": {"headers": {"Content-Encoding": "gzip"}},
        **{
            f"status {status}": {"status": status, "garbage": f"{proof} {token}".encode()}
            for status in (400, 401, 403, 410, 503)
        },
    }


def hostile_words(place: Place) -> dict[str, dict[str, Any]]:
    """Return answers that put a canary where httpcore logs it at DEBUG: in headers, and in what is no HTTP."""
    token = place.made()
    return {
        "a redirect to the token": {"status": 302, "headers": {"Location": f"http://127.0.0.1:9/?{token}"}},
        "the token in the place of HTTP": {"raw": f"{token}\r\n\r\n".encode()},
        "the token in a broken header": {"raw": f"HTTP/1.1 200 OK\r\nBad Header {token}: x\r\n\r\n".encode()},
        "the token in a status line": {"raw": f"HTTP/1.1 200 {token}\r\nContent-Length: x{token}\r\n\r\n".encode()},
        "the token in a retry": {"status": 429, "headers": {"Retry-After": token}},
    }


class TestExchange:
    """What can go wrong between the agent and the authority."""

    def test_no_wrong_reply_shows_a_secret(self, driver: Driver, place: Place, log: Log) -> None:
        """In no traceback, in no local of a frame below the caller's, in no log."""
        for what, fault in wrong_replies(place).items():
            place.authority.fail(**fault)
            with pytest.raises(TokenUnavailableError) as caught:
                pytest.fail(f"{what}: {driver.run(driver.client(place.config).delegation_token('read'))} was accepted")
            scan(place, caught.value)
            place.authority.recover()
        assert_no_secret(log.text(), *place.secrets)

    def test_no_hostile_word_shows_a_secret(self, driver: Driver, place: Place, log: Log) -> None:
        """An error does not quote the peer. httpcore's own DEBUG log does; that is its reader's business."""
        for fault in hostile_words(place).values():
            place.authority.fail(**fault)
            with pytest.raises(TokenUnavailableError) as caught:
                driver.run(driver.client(place.config).get_delegation_token("read"))
            scan(place, caught.value)
            place.authority.recover()
        assert_no_secret(log.text(without="httpcore"), *place.secrets)
        assert_no_secret(log.text(), place.secrets[0])

    def test_a_failed_renewal_shows_no_secret(self, driver: Driver, place: Place, log: Log) -> None:
        """Neither the shared error that waiters get, nor the warning that an old token goes on being used."""
        client = driver.client(place.config)
        place.secrets.append(driver.run(client.get_delegation_token("read")))
        place.authority.fail(status=503)
        for _ in range(2):
            with pytest.raises(AuthorityUnreachableError) as caught:
                driver.run(client.get_delegation_token("read", force_refresh=True))
            scan(place, caught.value)
        assert_no_secret(log.text(), *place.secrets)

    def test_no_connection_shows_no_secret(self, driver: Driver, place: Place, log: Log) -> None:
        """Refused, not TLS, too slow."""
        port = place.config.base_url and place.config.base_url.rpartition(":")[2]
        slow = threading.Event()
        place.authority.fail(delay=slow)
        targets: list[tuple[dict[str, Any], type[AuthSecError]]] = [
            ({"base_url": f"https://127.0.0.1:{port}"}, InsecureTransportError),
            ({"timeout": 0.05}, AuthorityUnreachableError),
        ]
        for changes, expected in targets:
            with pytest.raises(expected) as caught:
                driver.run(driver.client(changed(place.config, **changes)).get_delegation_token("read"))
            scan(place, caught.value)
        slow.set()
        place.authority.close()
        with pytest.raises(AuthorityUnreachableError) as refused:
            driver.run(driver.client(place.config).get_delegation_token("read"))
        scan(place, refused.value)
        assert_no_secret(log.text(), *place.secrets)

    def test_a_proof_that_cannot_be_used_is_not_shown(self, driver: Driver, place: Place, tmp_path: Path) -> None:
        """A file with two tokens, one too long or with other text in it."""
        token = place.made()
        for text in (f"{token}\n{token}", f"Bearer {token}", f"{token}\u00e9", token + "x" * 20_000):
            (tmp_path / "broken").write_text(text)
            config = changed(place.config, agent_key=None, workload_token_file=tmp_path / "broken")
            with pytest.raises(TokenUnavailableError, match="one token") as caught:
                driver.run(driver.client(config).get_delegation_token("read"))
            scan(place, caught.value)

    def test_an_error_of_another_library_shows_no_proof(self, driver: Driver, place: Place) -> None:
        """A transport of the program's own may raise anything; the frames above it hold the proof in no clear form."""

        def broken(request: httpx.Request) -> httpx.Response:
            raise RuntimeError("broken")

        client = driver.client(place.config, handler=broken)
        with pytest.raises(RuntimeError, match="broken") as caught:
            driver.run(client.get_delegation_token("read"))
        scan(place, caught.value)

    def test_a_cancelled_exchange_shows_no_secret(self, place: Place) -> None:
        """A report says what a task was doing when it was cancelled."""
        slow = threading.Event()
        place.authority.fail(delay=slow, times=1)

        async def cancel() -> BaseException:
            async with AsyncAuthSecClient(place.config) as client:
                task = asyncio.ensure_future(client.get_delegation_token("read"))
                await asyncio.to_thread(place.authority.wait_for_requests, 1)
                assert_no_secret([repr(task), str(task.get_stack())], *place.secrets)
                task.cancel()
                try:
                    await task
                except asyncio.CancelledError as error:
                    return error
                raise AssertionError("it was not cancelled")

        error = asyncio.run(cancel())
        slow.set()
        scan(place, error)


def changed(config: AuthSecConfig, **changes: Any) -> AuthSecConfig:
    """Return the settings with some of them changed."""
    given = {name: getattr(config, name) for name in config.model_fields_set}
    return AuthSecConfig(**{**given, **changes})


def echoes(token: str) -> dict[str, Reply | Raw]:
    """Return what an API can do with the token that it was sent, without saying it in a header."""
    shown = json.dumps({"you sent": f"Bearer {token}"})
    escaped = json.dumps("".join(f"\\u{ord(character):04x}" for character in token)).replace("\\\\", "\\")
    as_json = {"Content-Type": "application/json"}
    return {
        "a good echo": Reply(headers=as_json, body=shown.encode()),
        "a spelled echo": Reply(headers=as_json, body=escaped.encode()),
        "an echo that breaks off": Reply(headers=as_json, body=shown.encode(), cut_after=len(shown) - 3),
        "half a JSON": Reply(headers=as_json, body=shown[:-3].encode()),
        "UTF-16": Reply(headers=as_json, body=shown.encode("utf-16")),
        "Latin-1": Reply(body=f"\u00e9 {token}".encode("latin-1")),
        "too much": Reply(headers=as_json, body=json.dumps(token * 200).encode()),
        "binary": Reply(body=b"\0" + token.encode()),
        "text": Reply(body=token.encode()),
        "nesting": Reply(headers=as_json, body=b"[" * 5000 + json.dumps(token).encode() + b"]" * 5000),
        **{f"status {status}": Reply(status=status, body=shown.encode()) for status in (400, 401, 403, 404, 429, 500)},
        "invalid_token": Reply(
            status=401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'}, body=shown.encode()
        ),
    }


def hostile_echoes(token: str) -> dict[str, Reply | Raw]:
    """Return what it can do with it in headers, and instead of HTTP: httpcore logs that at DEBUG."""
    return {
        "a redirect": Reply(status=302, headers={"Location": f"http://127.0.0.1:9/?t={token}"}),
        "a header": Reply.of_json("data", headers={"X-Echo": token, "Set-Cookie": f"t={token}"}),
        "a challenge": Reply(status=401, headers={"WWW-Authenticate": f'Bearer realm="{token}"'}),
        "no HTTP": Raw(data=f"{token}\r\n\r\n".encode()),
        "a broken header": Raw(data=f"HTTP/1.1 200 OK\r\nBad Header {token}: x\r\n\r\n".encode()),
        "a broken chunk": Raw(data=f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{token}\r\n".encode()),
    }


class TestFetch:
    """What can go wrong between the agent and the API."""

    @staticmethod
    def provoke(driver: Driver, place: Place, answers: Callable[[str], dict[str, Reply | Raw]]) -> list[str]:
        """Let the API give each of the answers, to a program and to the tool; return what the model was shown."""
        shown = []
        for what in answers("x" * 40):
            place.answer = lambda request, what=what: answers(request.headers["authorization"][7:])[what]  # type: ignore[misc]  # a default binds it
            client = driver.client(changed(place.config, max_response_bytes=4096, timeout=5))
            try:
                result = fetch(driver, client, "x", "read")
            except DownstreamError as error:
                scan(place, error)
            else:
                assert_no_secret([what, result, result.data, result.to_json(), vars_of(result)], *place.at_stake)
            shown.append(tool(driver, client, "x", "read", per_call=True))
            driver.close_client(client)
        return shown

    def test_no_echo_of_the_api_shows_a_secret(self, driver: Driver, place: Place, log: Log) -> None:
        """Not to the program, not to the model, not in the log."""
        shown = self.provoke(driver, place, echoes)
        assert len(place.secrets) > 2 * len(shown)
        assert_no_secret(shown, *place.secrets)
        assert_no_secret(log.text(), *place.secrets)

    def test_no_hostile_echo_shows_a_secret(self, driver: Driver, place: Place, log: Log) -> None:
        """What the API says in headers, and instead of HTTP, is repeated by nobody but httpcore's DEBUG log."""
        shown = self.provoke(driver, place, hostile_echoes)
        assert_no_secret(shown, *place.secrets)
        assert_no_secret(log.text(without="httpcore"), *place.secrets)
        assert_no_secret(log.text(), place.secrets[0])

    def test_refusals_show_no_secret(self, driver: Driver, place: Place, log: Log) -> None:
        """Of the policy, of the authority, of a client that has been closed."""
        client = driver.client(changed(place.config, endpoint_scopes={"x": "read"}))
        place.secrets.append(driver.run(client.get_delegation_token("read")))
        for endpoint, scope in (("..", "read"), ("y", "read"), ("x", "admin"), ("x", "")):
            with pytest.raises(AuthSecError) as caught:
                fetch(driver, client, endpoint, scope)
            scan(place, caught.value)
        with pytest.raises(TokenUnavailableError) as refused:
            driver.run(client.get_delegation_token("admin"))
        scan(place, refused.value)
        driver.close_client(client)
        with pytest.raises(RuntimeError) as closed:
            fetch(driver, client, "x", "read")
        scan(place, closed.value)
        assert_no_secret(log.text(), *place.secrets)

    def test_the_unexpected_is_logged_without_a_secret(self, driver: Driver, place: Place, log: Log) -> None:
        """The tool logs the traceback of what it did not expect."""

        def broken(request: httpx.Request) -> httpx.Response:
            if request.url.path == "/x":
                raise RuntimeError("broken")
            return httpx.Response(200, json={"token": place.made()})

        client = driver.client(place.config, handler=broken)
        assert '"internal_error"' in tool(driver, client, "x", "read")
        assert "Traceback" in log.text()
        assert_no_secret(log.text(), *place.secrets)

    def test_an_auth_of_the_programs_own_client_shows_no_secret(self, driver: Driver, place: Place, log: Log) -> None:
        """Neither its repr, nor what is refused, nor what an API does to it."""
        auth = driver.client(place.config).auth("read")
        shown: list[object] = [auth, vars(auth), pickled(auth)]
        for url in (f"{place.api.base_url}/x", "https://elsewhere.invalid/x"):
            try:
                response = own_request(driver, url, auth)
            except AuthSecError as error:
                scan(place, error)
            else:
                shown += [response, response.request, response.request.headers, response.headers]
        assert_no_secret([repr(thing) for thing in shown], *place.secrets)
        assert_no_secret(log.text(), *place.secrets)


def own_request(driver: Driver, url: str, auth: httpx.Auth) -> httpx.Response:
    """GET with a client of the program's own."""
    if driver.kind == "sync":
        with httpx.Client(trust_env=False) as http:
            return http.get(url, auth=auth)

    async def awaited() -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False) as client:
            return await client.get(url, auth=auth)

    return driver.run(awaited())


def vars_of(thing: object) -> list[str]:
    """Return the repr of each attribute, slots included; but a `Secret`, and what a server received, are not opened."""
    if isinstance(thing, (Secret, Request)):
        return []
    names = [*getattr(thing, "__dict__", {})]
    for kind in type(thing).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        names += [slots] if isinstance(slots, str) else slots
    return [repr(getattr(thing, name)) for name in names if hasattr(thing, name)]


class TestObjects:
    """What is shown of the things themselves."""

    @staticmethod
    def things(driver: Driver, place: Place) -> list[object]:
        """Return one of everything that a program can hold, after it has been used."""
        cache = TokenCache()
        client: AnyClient = driver.client(place.config, token_cache=cache)
        token = driver.run(client.delegation_token("read"))
        place.secrets.append(token.value)
        mock = MockAuthority()
        place.secrets.append(mock.mint().value)
        proofs: list[Proof] = [AgentKey(Secret(KEY)), WorkloadTokenFile(Path("token"))]
        errors = [DownstreamError("x", status=500), ConfigurationError("x"), AuthSecError("x")]
        verifier = TokenVerifier(
            issuer=place.authority.issuer, audience="authsec-api", jwks_url=place.authority.jwks_url
        )
        return [
            client,
            client.config,
            client.policy,
            client.auth("read"),
            cache,
            token,
            token.secret,
            fetch(driver, client, "x", "read"),
            FetchResult.of_error(errors[0], "live"),
            mock,
            mock.mint(),
            mock.policy(),
            TokenRequest.of("read"),
            *(Identity(base_url="https://a", client_id="c", proof=proof) for proof in proofs),
            *proofs,
            *errors,
            verifier,
            verifier.verify(token.value),
            *place.authority.issued,
            *place.authority.requests,
            place.authority,
            place.api,
            *place.api.requests,
        ]

    def test_nothing_prints_a_secret(self, driver: Driver, place: Place) -> None:
        """Text, repr, attributes, `asdict`, JSON with a fallback; and one level of what it holds."""
        for thing in self.things(driver, place):
            shown: list[object] = [str(thing), repr(thing), f"{thing}", json.dumps(thing, default=repr), vars_of(thing)]
            if dataclasses.is_dataclass(thing) and not isinstance(thing, (type, Request)):
                with suppress(TypeError):  # the claims of a verified token cannot be copied
                    shown += [repr(dataclasses.asdict(thing)), repr(dataclasses.astuple(thing))]
            try:
                assert_no_secret(shown, *place.secrets)
            except AssertionError as found:
                pytest.fail(f"{type(thing).__name__}: {found}")

    @pytest.mark.parametrize("protocol", [0, 2, pickle.HIGHEST_PROTOCOL])
    def test_pickles_are_refused_or_clean(self, driver: Driver, place: Place, protocol: int) -> None:
        """A pickle ends in a queue, a cache or a file."""
        refused = set()
        for thing in self.things(driver, place):
            if isinstance(thing, Request):  # what a test's server received is for the test to look at
                continue
            try:
                text = pickle.dumps(thing, protocol)
            except (TypeError, AttributeError, pickle.PicklingError):
                refused.add(type(thing).__name__)
            else:
                assert_no_secret(text, *place.secrets)
        kinds = {"AuthSecClient"} if driver.kind == "sync" else {"AsyncAuthSecClient"}
        assert refused >= kinds | {
            "AuthSecConfig",
            "TokenCache",
            "DelegationToken",
            "Secret",
            "AgentKey",
            "DelegationAuth",
        }

    def test_copies_show_no_more_than_the_original(self, driver: Driver, place: Place) -> None:
        """Shallow and deep, where they are possible at all."""
        for thing in self.things(driver, place):
            for how in (copy.copy, copy.deepcopy):
                try:
                    twin = how(thing)
                except TypeError:
                    continue
                assert_no_secret([str(twin), repr(twin)], *place.secrets)

    def test_what_is_printed_while_it_is_made_shows_no_secret(self, place: Place) -> None:
        """A report of an error prints objects that are not finished."""
        for kind in (AuthSecClient, AsyncAuthSecClient, authsec_core.EndpointPolicy, FetchResult, TokenCache):
            unfinished = kind.__new__(kind)
            if kind in {AuthSecClient, AsyncAuthSecClient}:
                assert repr(unfinished) == f"{kind.__name__}()"


class TestTheScan:
    """The scan above finds what it is for."""

    def test_a_local_is_found(self, place: Place) -> None:
        """A frame that holds a canary in the clear is reported, wherever its file lies."""
        source = "def leak(key):\n    headers = {'Authorization': key}\n    raise ValueError('clean')\n"
        namespace: dict[str, Any] = {}
        exec(compile(source, "/elsewhere.py", "exec"), namespace)  # noqa: S102 -- a frame outside this file
        with pytest.raises(ValueError, match="clean") as caught:
            namespace["leak"](place.secrets[0])
        with pytest.raises(pytest.fail.Exception, match=r"elsewhere\.py:3 leak"):
            scan(place, caught.value)

    def test_a_hidden_cause_is_found(self, place: Place) -> None:
        """Also one that `from None` hides from tracebacks."""
        try:
            try:
                raise KeyError(place.secrets[0])
            except KeyError:
                raise ValueError("clean") from None
        except ValueError as error:
            hidden = error
        with pytest.raises(pytest.fail.Exception, match="KeyError"):
            scan(place, hidden)

    def test_the_log_is_complete(self, driver: Driver, place: Place, log: Log) -> None:
        """Lines of all three libraries are in it, so that a scan of it means something."""
        assert fetch(driver, driver.client(place.config), "x", "read").ok
        names = {name.split(".")[0] for name, _ in log.lines}
        assert {"authsec", "httpx", "httpcore"} <= names
        logging.getLogger("anything").debug("leak %s", place.secrets[0])
        with pytest.raises(AssertionError):
            assert_no_secret(log.text(), *place.secrets)
