"""The vault's two tools: what a model is told, and what it never gets."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from core_support import Driver
from vault_support import PATH, VALUE

from authsec_core import ConfigurationError, MockVault, SecretUse
from authsec_core.testing import FakeClock, LoopbackServer, Raw, Reply, Request
from authsec_core.vault_tool import (
    describe_secret_fetch,
    describe_vault_secret,
    secret_fetch,
    secret_fetch_async,
    vault_secret_text,
    vault_secret_text_async,
)


class Api:
    """A protected API on this machine, and a vault with its secret.

    Attributes:
        answer: What it answers.
    """

    def __init__(self, driver: Driver, server: LoopbackServer, mock: MockVault) -> None:
        self.driver, self.server, self.mock = driver, server, mock
        self.vault = driver.vault(secrets=mock)

    def use(self, **more: Any) -> SecretUse:
        """Return the use of its secret."""
        return SecretUse.of(more.pop("path", PATH), self.server.base_url, **more)

    def fetch(self, endpoint: Any, reason: Any = "", use: SecretUse | None = None, **more: Any) -> dict[str, Any]:
        """Call the tool as a framework would, and return what its text says."""
        ask: Any = secret_fetch if self.driver.kind == "sync" else secret_fetch_async
        text: str = self.driver.run(ask(self.vault, use or self.use(), endpoint, reason, **more))
        said: dict[str, Any] = json.loads(text)
        return said

    def read(self, path: Any, **more: Any) -> str:
        """Call the other tool."""
        ask: Any = vault_secret_text if self.driver.kind == "sync" else vault_secret_text_async
        text: str = self.driver.run(ask(self.vault, path, **{"token": None, **more}))
        return text


Answer = list[Any]


@pytest.fixture
def answers() -> Answer:
    """What the API answers next; JSON where it is empty."""
    return []


@pytest.fixture
def api(driver: Driver, answers: Answer, clock: FakeClock) -> Iterator[Api]:
    """The API."""

    def answer(request: Request) -> Reply | Raw:
        return answers.pop(0)(request) if answers else Reply.of_json({"found": 1})

    with LoopbackServer(answer) as server:
        yield Api(driver, server, MockVault({PATH: VALUE}, clock=clock))


class TestFetch:
    """`secret_fetch`."""

    def test_the_data_comes_back(self, api: Api) -> None:
        """With the secret on the request, and the words of operator and model in the audit."""
        said = api.fetch("search", "to answer a question", api.use(agent_name="researcher"), conversation_id="c-1")
        assert (said["status"], said["data"]) == ("success", {"found": 1})
        [request] = api.server.requests
        assert (request.path, request.headers["authorization"]) == ("/search", f"Bearer {VALUE}")
        [access] = api.mock.accesses
        assert access.claimed == {
            "agent_name": "researcher",
            "reason": "to answer a question",
            "conversation_id": "c-1",
        }

    @pytest.mark.req("RD1")
    @pytest.mark.parametrize(
        "endpoint", ["https://evil.test/x", "//evil.test", "../x", "a/%2e%2e/b", "a\\b", "a\r\nb", "other", None, 7]
    )
    def test_an_endpoint_outside_the_policy_reads_nothing(self, api: Api, endpoint: Any) -> None:
        """Refused before the secret is read: nothing leaves."""
        said = api.fetch(endpoint, use=api.use(allowed_endpoints=["search", "a"]))
        assert said["code"] == "endpoint_refused"
        assert not api.server.requests
        assert not api.mock.accesses

    @pytest.mark.req("RD4")
    @pytest.mark.parametrize(
        "spelled",
        [
            lambda value: json.dumps({"echo": value}),
            lambda value: json.dumps({"echo": "".join(f"\\u{ord(character):04x}" for character in value)}).replace(
                "\\\\u", "\\u"
            ),
            lambda value: f"you sent Bearer {value}!",
            lambda value: json.dumps({"echo": value}).replace("/", "\\/"),
            lambda value: f"https://api.test/?key={quote(value, safe='')}",
            lambda value: json.dumps({value: [value]}),
            lambda value: f"https://api.test/?key={quote(value, safe='').lower()}",
            lambda value: f"https://api.test/?key={quote(value)}",
            lambda value: f"you sent {value.upper()}",
            lambda value: f"<b>{html.escape(value)}</b>",
            lambda value: value.encode().hex(),
            lambda value: value.encode().hex().upper(),
            *[
                lambda value, encode=encode, before=before: encode((before + value + "!").encode()).decode()
                for encode in (base64.b64encode, base64.urlsafe_b64encode)
                for before in ("", "u:", "user:", "\u00fc\u00df?>:")
            ],
        ],
    )
    def test_the_secret_does_not_come_back(self, api: Api, answers: Answer, spelled: Any) -> None:
        """However the API spells it."""
        value = 'sk/7f3a+9c1e"5b2d'
        api.mock.register(PATH, value)
        answers.append(lambda _: Reply(body=spelled(value).encode()))
        said = api.fetch("search")
        assert said["status"] == "success"
        assert value not in json.dumps(said)
        assert "7f3a" not in json.dumps(said).lower()
        assert "[secret removed]" in json.dumps(said)

    @pytest.mark.req("RD4")
    @pytest.mark.parametrize(
        ("answer", "code", "retryable"),
        [
            (Reply(status=401, body=VALUE.encode()), "downstream_denied", False),
            (Reply(status=503, body=VALUE.encode()), "downstream_unavailable", True),
            (Reply(status=302, headers={"Location": f"/?{VALUE}"}), "downstream_error", False),
            (Reply(body=b"x" * 70_000), "downstream_error", False),
            (Raw(), "downstream_unavailable", True),
        ],
    )
    def test_what_goes_wrong_at_the_api_is_told_apart(
        self, api: Api, answers: Answer, answer: Any, code: str, retryable: bool
    ) -> None:
        """Denied, unavailable and unusable are not the same, and hold nothing that the API said."""
        answers.append(lambda _: answer)
        said = api.fetch("search")
        assert (said["status"], said["code"], said["retryable"]) == ("error", code, retryable)
        assert VALUE not in json.dumps(said)

    def test_what_goes_wrong_at_the_vault_is_told_apart(self, api: Api, driver: Driver) -> None:
        """Not covered, not there, and not good any more; the API is not asked."""
        token = driver.run(api.vault.request_token("secrets:read:production/*"))
        refused = [
            ("vault_scope_denied", api.use(path="staging/x/y", token=token)),
            ("secret_not_found", api.use(path="production/nothing", token=token.value)),
            ("vault_unauthorized", api.use(token="vlt_1.unknown")),
        ]
        assert [api.fetch("search", use=use)["code"] for _, use in refused] == [code for code, _ in refused]
        assert not api.server.requests

    def test_a_secret_that_is_no_header_is_misconfigured(self, api: Api) -> None:
        """And the API is not asked."""
        api.mock.register(PATH, "a\r\nX-Evil: 1")
        assert api.fetch("search")["code"] == "configuration"
        assert not api.server.requests

    @pytest.mark.req("RD5")
    def test_the_models_reason_is_one_line(self, api: Api) -> None:
        """Whatever it wrote: bounded, and without line ends and escapes; what is no text is left out."""
        for reason in ("a\r\nX-Evil: 1\x1b[2J b", "x" * 10_000, None, {"a": 1}):
            assert api.fetch("search", reason)["status"] == "success"
        reasons = [access.claimed.get("reason") for access in api.mock.accesses]
        assert reasons == ["a X-Evil: 1 [2J b", "x" * 500, None, None]
        assert all("x-evil" not in request.headers for request in api.server.requests)

    def test_another_header(self, api: Api) -> None:
        """As `vault.auth` has it."""
        assert api.fetch("search", use=api.use(header="X-API-Key"))["status"] == "success"
        assert api.server.requests[0].headers["x-api-key"] == VALUE

    def test_an_answer_is_bounded(self, api: Api, answers: Answer) -> None:
        """By what the operator says."""
        answers.append(lambda _: Reply.of_json("x" * 2000))
        said = api.fetch("search", use=api.use(max_response_bytes=1024))
        assert said["code"] == "downstream_error"

    def test_what_nobody_expected_is_no_traceback(
        self, api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The operator has it in the log; the model does not."""

        def broken(*_: object, **__: object) -> None:
            raise RuntimeError("broken inside")

        monkeypatch.setattr(type(api.vault), "fetch", broken)
        said = api.fetch("search")
        assert said["code"] == "internal_error"
        assert "broken inside" not in json.dumps(said)
        assert "broken inside" in caplog.text


@pytest.mark.parametrize("base_url", ["http://api.test", "api.test", "https://u:p@api.test", "https://api.test/?a"])
def test_an_address_that_no_secret_goes_to_is_refused(base_url: str) -> None:
    """At the start."""
    with pytest.raises(ConfigurationError, match="base_url="):
        SecretUse.of(PATH, base_url)


@pytest.mark.parametrize(
    "more", [{"path": "x"}, {"agent_name": "a\nb"}, {"header": "a b"}, {"allowed_endpoints": [".."]}]
)
def test_a_use_that_makes_no_sense_is_refused(more: dict[str, Any]) -> None:
    """At the start, and not when a model calls."""
    with pytest.raises(ValueError, match="."):  # noqa: RUF043 -- each has words of its own
        SecretUse.of(more.pop("path", PATH), "https://api.test", **more)


class TestRead:
    """`vault_secret_text`."""

    def test_the_secret_is_plain_text(self, api: Api, driver: Driver) -> None:
        """And the words are in the audit."""
        token = driver.run(api.vault.request_token("secrets:read:production/*"))
        assert api.read(PATH, token=token.value, agent_name="writer", reason="a\nb") == VALUE
        access = api.mock.accesses[-1]
        assert (access.path, access.decision, access.token_id) == (PATH, "allow", token.token_id)
        assert access.claimed == {"agent_name": "writer", "reason": "a b"}

    @pytest.mark.req("RD4")
    @pytest.mark.parametrize(
        ("path", "code"),
        [
            ("staging/x/y", "vault_scope_denied"),
            ("production/nothing", "secret_not_found"),
            ("../etc/passwd", "vault_bad_request"),
            (None, "vault_bad_request"),
        ],
    )
    def test_an_error_is_json(self, api: Api, driver: Driver, path: Any, code: str) -> None:
        """Which never looks like a secret."""
        token = driver.run(api.vault.request_token("secrets:read:production/*"))
        said = json.loads(api.read(path, token=token))
        assert (said["status"], said["code"], said["retryable"]) == ("error", code, False)


def test_descriptions_fit() -> None:
    """OpenAI refuses tools that are described in more than 1024 characters."""
    use = SecretUse.of(PATH, "https://api.test", allowed_endpoints=[f"endpoint-{number}" for number in range(500)])
    assert len(describe_secret_fetch(use)) <= 1024
    assert "endpoint-0" in describe_secret_fetch(use)
    assert len(describe_vault_secret()) <= 1024
    assert PATH not in describe_secret_fetch(use)
