"""The vault's client, for threads and for coroutines: what is sent, what comes back, and which error a refusal is."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from core_support import Driver
from vault_support import KEY, PATH, VALUE, Network, error

from authsec_core import (
    ApprovalRequiredError,
    ConfigurationError,
    SecretNotFoundError,
    VaultConflictError,
    VaultError,
    VaultInsecureTransportError,
    VaultRateLimitedError,
    VaultReplyError,
    VaultRequestError,
    VaultScopeDeniedError,
    VaultToken,
    VaultTokenExhaustedError,
    VaultUnauthorizedError,
    VaultUnavailableError,
)
from authsec_core.testing import FakeClock

SCOPE = "secrets:read:production/*"


@pytest.fixture
def network(clock: FakeClock) -> Network:
    """A vault in the network's place."""
    return Network(clock)


@pytest.fixture
def vault(driver: Driver, network: Network) -> Any:
    """A client of it."""
    return network.vault(driver)


def token_of(driver: Driver, vault: Any, **more: Any) -> VaultToken:
    """Return a token for all of production."""
    token: VaultToken = driver.run(vault.request_token(SCOPE, **more))
    return token


class TestReading:
    """`get_secret`."""

    def test_a_secret_comes_back_whole(self, driver: Driver, vault: Any, network: Network) -> None:
        """Its text, and what the vault says of it."""
        secret = driver.run(vault.get_secret(PATH))
        assert (secret.value, secret.path, secret.version) == (VALUE, PATH, 1)
        assert (secret.namespace, secret.key) == ("production/openai", "api-key")
        assert (secret.secret_type, secret.access_tier, secret.metadata) == ("custom", "standard", {})
        assert secret.created_at == network.clock.wall()

    def test_the_key_is_the_bearer(self, driver: Driver, vault: Any, network: Network) -> None:
        """Without a token the agent's own key is shown, at the secret's address."""
        driver.run(vault.get_secret(PATH, version=1))
        [request] = network.requests
        assert (request.method, str(request.url)) == ("GET", f"https://vault.test/v1/secrets/{PATH}?version=1")
        assert request.headers["Authorization"] == f"Bearer {KEY}"

    @pytest.mark.req("RS9")
    def test_with_a_token_the_key_is_not_sent(self, driver: Driver, vault: Any, network: Network) -> None:
        """Neither as the bearer nor anywhere else in the request; a token counts as text and as a value."""
        token = token_of(driver, vault)
        network.requests.clear()
        for shown in (token, token.value):
            driver.run(vault.get_secret(PATH, token=shown))
        for request in network.requests:
            assert request.headers["Authorization"] == f"Bearer {token.value}"
            assert KEY not in f"{request.url} {request.headers.raw!r} {request.content!r}"

    def test_the_agents_words_travel_as_headers(self, driver: Driver, vault: Any, network: Network) -> None:
        """In any language; a blank one does not travel at all."""
        words = {"agent_name": "researcher", "reason": "Größe prüfen", "conversation_id": ""}
        driver.run(vault.get_secret(PATH, metadata=words))
        headers = network.requests[0].headers
        assert headers["X-Agent-Name"] == "researcher"
        assert dict(headers.raw)[b"X-Access-Reason"] == "Größe prüfen".encode()
        assert "X-Conversation-ID" not in headers

    @pytest.mark.req("RD5")
    @pytest.mark.parametrize(
        "words",
        [
            {"reason": "a\r\nX-Evil: 1"},
            {"reason": "\x1b[31mred"},
            {"reason": "x" * 501},
            {"agent_name": "a\u2028b"},
            {"purpose": "x"},
        ],
    )
    def test_what_is_no_line_of_text_is_refused(
        self, driver: Driver, vault: Any, network: Network, words: dict[str, str]
    ) -> None:
        """A claim with line ends, escapes or too many characters is the programmer's error, and nothing is sent."""
        with pytest.raises(ValueError, match="metadata="):
            driver.run(vault.get_secret(PATH, metadata=words))
        assert not network.requests

    @pytest.mark.parametrize(
        "path", ["", "key", "/a/b", "a//b", "a/../b", "a/%2e/b", "a/b?x=1", "a/import", "a/\u0430"]
    )
    def test_what_is_no_path_is_not_sent(self, driver: Driver, vault: Any, network: Network, path: str) -> None:
        """Traversal, escapes and look-alikes are refused before anything is sent."""
        with pytest.raises(ValueError, match=r"path|segment|reserved"):
            driver.run(vault.get_secret(path))
        assert not network.requests

    @pytest.mark.req("RS10")
    @pytest.mark.parametrize(
        ("changes", "why"),
        [
            ({"key": "other"}, "another secret"),
            ({"namespace": "staging/openai"}, "another secret"),
            ({"key": ".."}, "no path"),
            ({"version": 2}, "another version"),
            ({"version": "1"}, "version is not a number"),
            ({"version": True}, "version is not a number"),
            ({"value": None}, "no value"),
            ({"value": 7}, "no value"),
            ({"metadata": {"a": 1}}, "metadata"),
            ({"secret_type": 1}, "secret_type"),
            ({"created_at": "yesterday"}, "RFC 3339"),
        ],
    )
    def test_a_reply_to_another_question_is_refused(
        self, driver: Driver, vault: Any, network: Network, changes: dict[str, Any], why: str
    ) -> None:
        """What comes back is the secret and the version that were asked for, with members of the right types."""
        good = {"namespace": "production/openai", "key": "api-key", "version": 1, "value": VALUE}
        network.will(200, {**good, **changes})
        with pytest.raises(VaultReplyError, match=why):
            driver.run(vault.get_secret(PATH, version=1))

    @pytest.mark.parametrize("body", [b"", b"[]", b"nothing", b'{"value": NaN}', b"[" * 100_000])
    def test_what_is_no_object_is_refused(self, driver: Driver, vault: Any, network: Network, body: bytes) -> None:
        """A body that is no JSON object is an error, not a secret."""
        network.will(200, body)
        with pytest.raises(VaultReplyError, match=r"not JSON|not a JSON object"):
            driver.run(vault.get_secret(PATH))

    def test_times_may_be_text(self, driver: Driver, vault: Any, network: Network) -> None:
        """Vaults write them as seconds or as RFC 3339; here they are epoch seconds."""
        network.will(
            200,
            {
                "namespace": "production/openai",
                "key": "api-key",
                "version": 3,
                "value": "x",
                "updated_at": "1970-01-01T00:00:10Z",
            },
        )
        secret = driver.run(vault.get_secret(PATH))
        assert (secret.updated_at, secret.created_at) == (10.0, None)


class TestWriting:
    """What changes the vault."""

    def test_a_secret_is_kept(self, driver: Driver, vault: Any, network: Network) -> None:
        """A write says what was kept and never the value; the next read has it."""
        info = driver.run(
            vault.set_secret("a/b", "new-value", secret_type="api_key", access_tier="standard", metadata={"owner": "x"})
        )
        assert (info.path, info.version, info.secret_type, info.metadata) == ("a/b", 1, "api_key", {"owner": "x"})
        assert json.loads(network.requests[0].content) == {
            "value": "new-value",
            "secret_type": "api_key",
            "access_tier": "standard",
            "metadata": {"owner": "x"},
        }
        assert driver.run(vault.get_secret("a/b")).value == "new-value"

    @pytest.mark.parametrize("value", ["", "x" * 65_537, "\ud800"])
    def test_what_is_no_value_is_not_sent(self, driver: Driver, vault: Any, network: Network, value: str) -> None:
        """1 byte to 64 KiB of UTF-8."""
        with pytest.raises(ValueError, match="1 to 65536 bytes"):
            driver.run(vault.set_secret("a/b", value))
        assert not network.requests

    def test_a_rotation_has_the_new_value(self, driver: Driver, vault: Any) -> None:
        """The one that was given, or one that the vault made up."""
        given = driver.run(vault.rotate_secret(PATH, "second"))
        assert (given.value, given.version) == ("second", 2)
        made = driver.run(vault.rotate_secret(PATH))
        assert made.version == 3
        assert made.value not in {VALUE, "second"}

    def test_what_was_deleted_is_gone(self, driver: Driver, vault: Any) -> None:
        """And its number is not used again."""
        driver.run(vault.delete_secret(PATH))
        with pytest.raises(SecretNotFoundError):
            driver.run(vault.get_secret(PATH))
        assert driver.run(vault.set_secret(PATH, "again")).version == 2

    def test_a_list_has_no_values(self, driver: Driver, vault: Any, network: Network) -> None:
        """Of a namespace, or of all that the credential covers."""
        network.mock.register("staging/x", "other")
        assert [info.path for info in driver.run(vault.list_secrets("production"))] == [PATH]
        assert [info.path for info in driver.run(vault.list_secrets())] == [PATH, "staging/x"]
        assert VALUE not in repr(driver.run(vault.list_secrets()))

    def test_a_list_is_read_to_its_end(self, driver: Driver, vault: Any, network: Network) -> None:
        """Page after page, until the vault says that this was all."""
        items = [{"namespace": "a", "key": key, "version": 1} for key in "bcd"]
        network.will(200, {"items": items[:1], "next": "a/b"})
        network.will(200, {"items": items[1:2], "next": "a/c"})
        network.will(200, {"items": items[2:], "next": None})
        assert [info.key for info in driver.run(vault.list_secrets("a"))] == ["b", "c", "d"]
        assert [request.url.params.get("after") for request in network.requests] == [None, "a/b", "a/c"]
        assert {request.url.params["namespace"] for request in network.requests} == {"a"}

    @pytest.mark.parametrize("following", ["a/b", "a/a", 7])
    def test_a_list_that_does_not_go_on_is_refused(
        self, driver: Driver, vault: Any, network: Network, following: object
    ) -> None:
        """Each page lies behind the one before, so that a vault cannot keep us for ever."""
        network.will(200, {"items": [], "next": "a/b"})
        network.will(200, {"items": [], "next": following})
        with pytest.raises(VaultReplyError, match="next page"):
            driver.run(vault.list_secrets("a"))

    def test_a_list_has_one_deadline(self, driver: Driver, vault: Any, network: Network, clock: FakeClock) -> None:
        """Also one of many pages."""

        def slow(request: httpx.Request) -> httpx.Response:
            clock.advance(6)
            return httpx.Response(200, json={"items": [], "next": f"a/{len(network.requests)}"})

        network.answers += [slow] * 5
        with pytest.raises(VaultUnavailableError, match="in time"):
            driver.run(vault.list_secrets("a"))
        assert len(network.requests) == 2

    def test_a_list_of_another_namespace_is_refused(self, driver: Driver, vault: Any, network: Network) -> None:
        """A vault that lists what lies elsewhere did not answer the question."""
        network.will(200, {"items": [{"namespace": "staging", "key": "x", "version": 1}]})
        with pytest.raises(VaultReplyError, match="elsewhere"):
            driver.run(vault.list_secrets("production"))

    def test_an_import_says_what_it_kept(self, driver: Driver, vault: Any) -> None:
        """Keys in the order of the text."""
        done = driver.run(vault.import_env("production/env", "A=1\n# more\nexport B='two'\n"))
        assert (done.namespace, done.keys, done.skipped) == ("production/env", ("A", "B"), 0)
        assert driver.run(vault.get_secret("production/env/B")).value == "two"

    def test_an_import_that_cannot_be_read_names_the_lines(self, driver: Driver, vault: Any) -> None:
        """Their numbers and not their text; nothing is kept."""
        with pytest.raises(VaultRequestError, match="Lines that cannot be read: 2, 3") as caught:
            driver.run(vault.import_env("e", "A=1\nsecret words\nmore\n"))
        assert caught.value.lines == (2, 3)
        assert "secret words" not in str(caught.value)
        assert driver.run(vault.list_secrets("e")) == ()


class TestTokens:
    """`request_token` and `revoke_token`."""

    def test_a_token_says_what_it_is(self, driver: Driver, vault: Any, network: Network) -> None:
        """Scopes, public name, and its end by this machine's clock."""
        token = token_of(driver, vault, ttl_seconds=1800, description="a run")
        assert token.scopes == {SCOPE}
        assert (token.issued_at, token.expires_at) == (network.clock.wall(), network.clock.wall() + 1800)
        assert token.token_id
        assert json.loads(network.requests[0].content) == {"scopes": [SCOPE], "ttl": 1800, "description": "a run"}

    @pytest.mark.req("RS6")
    def test_a_wrong_clock_here_does_no_harm(self, driver: Driver, vault: Any, network: Network) -> None:
        """A life is measured by the vault's clock, and counted from the moment of asking."""
        network.will(
            200,
            {"token": "vlt_1.x", "token_id": "1", "scopes": [SCOPE], "expires_at": "2000-01-01T01:00:00Z"},
            Date="Sat, 01 Jan 2000 00:00:00 GMT",
        )
        token = token_of(driver, vault)
        assert token.expires_at == network.clock.wall() + 3600

    def test_everything_that_was_asked_for_is_sent(self, driver: Driver, vault: Any, network: Network) -> None:
        """Several scopes, uses and addresses."""
        scopes = ["secrets:write:a/*", "secrets:read:a/*"]
        driver.run(vault.request_token(scopes, max_uses=3, allowed_ips=["10.0.0.0/8", "::1"]))
        assert json.loads(network.requests[0].content) == {
            "scopes": sorted(scopes),
            "ttl": 3600,
            "max_uses": 3,
            "ip_allowlist": ["10.0.0.0/8", "::1/128"],
        }

    @pytest.mark.parametrize(
        "given",
        [
            {"scope": "secrets:read:x"},
            {"scope": ""},
            {"scope": SCOPE, "ttl_seconds": 0.5},
            {"scope": SCOPE, "ttl_seconds": float("nan")},
            {"scope": SCOPE, "max_uses": 0},
            {"scope": SCOPE, "allowed_ips": ["localhost"]},
        ],
    )
    def test_what_makes_no_sense_is_not_sent(
        self, driver: Driver, vault: Any, network: Network, given: dict[str, Any]
    ) -> None:
        """It is the programmer's error."""
        with pytest.raises(ValueError, match=r"ttl|uses|path has a namespace|IPv4|vault scope"):
            driver.run(vault.request_token(**given))
        assert not network.requests

    @pytest.mark.req("RS10")
    @pytest.mark.parametrize(
        "scopes",
        [["secrets:*:production/*"], ["secrets:read:production/a/*"], ["secrets:read:staging/*"], [], "x", [1]],
    )
    def test_a_token_for_something_else_is_refused(
        self, driver: Driver, vault: Any, network: Network, scopes: Any
    ) -> None:
        """Wider, narrower or other scopes than those that were asked for: it is thrown away."""
        network.will(
            200, {"token": "vlt_1.x", "token_id": "1", "scopes": scopes, "expires_at": network.clock.wall() + 60}
        )
        with pytest.raises(VaultReplyError, match="scopes"):
            token_of(driver, vault)

    @pytest.mark.parametrize("changes", [{"token": "a b"}, {"token": None}, {"expires_at": 1}, {"token_id": None}])
    def test_a_token_that_cannot_be_used_is_refused(
        self, driver: Driver, vault: Any, network: Network, changes: dict[str, Any]
    ) -> None:
        """No text, no end that lies ahead, or no name."""
        good = {"token": "vlt_1.x", "token_id": "1", "scopes": [SCOPE], "expires_at": network.clock.wall() + 60}
        network.will(200, good | changes)
        with pytest.raises(VaultReplyError):
            token_of(driver, vault)

    def test_a_token_may_have_to_be_approved(self, driver: Driver, vault: Any, network: Network) -> None:
        """The error says what is waited for; once it is approved, the token is had with that."""
        network.mock.register("production/payments/key", "sk-payments", access_tier="sensitive")
        with pytest.raises(ApprovalRequiredError) as caught:
            token_of(driver, vault)
        approval_id = caught.value.approval_id
        with pytest.raises(ApprovalRequiredError, match=str(approval_id)):
            token_of(driver, vault, approval_id=approval_id)
        network.mock.approve(str(approval_id))
        token = token_of(driver, vault, approval_id=approval_id)
        assert driver.run(vault.get_secret("production/payments/key", token=token)).value == "sk-payments"

    def test_what_is_approved_may_have_to_wait(self, driver: Driver, vault: Any, network: Network) -> None:
        """The error says until when; with an approval nothing else is sent."""
        network.will(200, {"requires_approval": True, "approval_id": "a-1", "good_from": "2027-01-15T08:00:00Z"})
        with pytest.raises(ApprovalRequiredError, match="once its time has come") as caught:
            token_of(driver, vault, approval_id="a-1", max_uses=1)
        assert caught.value.good_from == 1_800_000_000.0
        assert json.loads(network.requests[0].content) == {"approval_id": "a-1"}

    def test_a_token_takes_itself_back(self, driver: Driver, vault: Any, network: Network) -> None:
        """Where there is no key to do it with."""
        token = token_of(driver, vault)
        driver.run(network.vault(driver, agent_key=None).revoke_token(token))
        with pytest.raises(VaultUnauthorizedError):
            driver.run(vault.get_secret(PATH, token=token))

    def test_a_revoked_token_reaches_nothing(self, driver: Driver, vault: Any) -> None:
        """By the token or by its public name."""
        for by_name in (False, True):
            token = token_of(driver, vault)
            driver.run(vault.revoke_token(token.token_id if by_name else token))
            with pytest.raises(VaultUnauthorizedError):
                driver.run(vault.get_secret(PATH, token=token))

    def test_the_text_of_a_token_is_no_name(self, driver: Driver, vault: Any, network: Network) -> None:
        """It would stand in an address, and so in logs."""
        with pytest.raises(ValueError, match="token_id"):
            driver.run(vault.revoke_token("vlt_0123456789abcdef.secret"))
        assert not network.requests


REFUSALS: list[tuple[int, str, type[VaultError]]] = [
    (401, "UNAUTHORIZED", VaultUnauthorizedError),
    (403, "SCOPE_DENIED", VaultScopeDeniedError),
    (403, "APPROVAL_REQUIRED", ApprovalRequiredError),
    (404, "SECRET_NOT_FOUND", SecretNotFoundError),
    (410, "TOKEN_EXHAUSTED", VaultTokenExhaustedError),
    (400, "VALIDATION_ERROR", VaultRequestError),
    (413, "VALIDATION_ERROR", VaultRequestError),
    (409, "CONFLICT", VaultConflictError),
    (429, "RATE_LIMITED", VaultRateLimitedError),
    (500, "INTERNAL", VaultUnavailableError),
    (503, "INTERNAL", VaultUnavailableError),
    (302, "", VaultReplyError),
    (418, "", VaultReplyError),
]


class TestErrors:
    """Which error is which, and what is tried again."""

    @pytest.mark.req("RS1")
    @pytest.mark.parametrize(("status", "code", "kind"), REFUSALS)
    def test_each_refusal_is_an_error_of_its_own(
        self, driver: Driver, vault: Any, network: Network, status: int, code: str, kind: type[VaultError]
    ) -> None:
        """By status, and by the vault's code where two share one; its words are not repeated. The next call works."""
        token = token_of(driver, vault)
        network.will(status, error(code, f"you sent {KEY}"))
        with pytest.raises(kind) as caught:
            driver.run(vault.get_secret(PATH, token=token))
        assert type(caught.value) is kind
        assert "you sent" not in str(caught.value)
        assert driver.run(vault.get_secret(PATH, token=token)).value == VALUE

    @pytest.mark.parametrize("body", [b"", b"<html>", b'{"error": "x"}', b'{"error": {"code": 7}}', b"[]"])
    def test_a_refusal_counts_whatever_its_body_is(
        self, driver: Driver, vault: Any, network: Network, body: bytes
    ) -> None:
        """A proxy's page does not hide a 403."""
        network.will(403, body)
        with pytest.raises(VaultScopeDeniedError):
            driver.run(vault.get_secret(PATH))

    @pytest.mark.req("RS1")
    @pytest.mark.parametrize(
        ("exc", "kind"),
        [
            (httpx.ConnectError, VaultUnavailableError),
            (httpx.ConnectTimeout, VaultUnavailableError),
            (httpx.ReadTimeout, VaultUnavailableError),
            (httpx.ReadError, VaultUnavailableError),
            (httpx.RemoteProtocolError, VaultUnavailableError),
        ],
    )
    def test_no_answer_is_an_error(
        self, driver: Driver, vault: Any, network: Network, exc: type[httpx.TransportError], kind: type[VaultError]
    ) -> None:
        """LIVE never becomes MOCK, however the network fails; the next call works."""
        network.fail(exc, times=4)
        with pytest.raises(kind) as caught:
            driver.run(vault.get_secret(PATH))
        assert caught.value.retryable
        network.answers.clear()
        assert driver.run(vault.get_secret(PATH)).value == VALUE

    def test_wait_as_the_vault_says(self, driver: Driver, network: Network) -> None:
        """`retry_after` has the seconds."""
        vault = network.vault(driver)
        for kind, status in ((VaultRateLimitedError, 429), (VaultUnavailableError, 503)):
            network.will(status, **{"Retry-After": "30"})
            with pytest.raises(kind) as caught:
                driver.run(vault.get_secret(PATH))
            assert vars(caught.value)["retry_after"] == 30.0

    @pytest.mark.req("RS7")
    @pytest.mark.parametrize("status", [408, 429, 500, 503])
    def test_a_read_with_a_token_is_asked_once(self, driver: Driver, vault: Any, network: Network, status: int) -> None:
        """It may be good for one use, and that use may have been counted."""
        token = token_of(driver, vault)
        network.requests.clear()
        network.will(status)
        with pytest.raises(VaultError):
            driver.run(vault.get_secret(PATH, token=token))
        assert len(network.requests) == 1
        assert not network.clock.slept

    @pytest.mark.req("RS7")
    def test_a_read_that_was_cut_off_is_asked_once(self, driver: Driver, vault: Any, network: Network) -> None:
        """With a token and with the key: the vault has answered, and the use is counted."""
        for how in ({"token": token_of(driver, vault)}, {}):
            network.requests.clear()
            network.fail(httpx.ReadError)
            with pytest.raises(VaultUnavailableError):
                driver.run(vault.get_secret(PATH, **how))
            assert len(network.requests) == 1

    @pytest.mark.req("RS7")
    def test_what_did_not_arrive_is_sent_again(self, driver: Driver, vault: Any, network: Network) -> None:
        """Whatever it was: no connection came about, so nothing was sent. Twice, with growing pauses."""
        asked: list[tuple[str, tuple[str, ...], dict[str, str]]] = [
            ("get_secret", (PATH,), {"token": "vlt_1.unknown"}),
            ("set_secret", ("a/b", "x"), {}),
            ("rotate_secret", (PATH,), {}),
            ("request_token", (SCOPE,), {}),
        ]
        for name, args, more in asked:
            network.requests.clear()
            network.fail(httpx.ConnectError, times=9)
            with pytest.raises(VaultUnavailableError):
                driver.run(getattr(vault, name)(*args, **more))
            assert len(network.requests) == 3
            network.answers.clear()
        assert network.clock.slept[:2] == (0.1875, 0.375)

    @pytest.mark.req("RS7")
    def test_a_read_with_the_key_is_asked_again(self, driver: Driver, vault: Any, network: Network) -> None:
        """It counts nothing: 408, 429 and 5xx are tried again, after as long as the vault says."""
        network.will(429, **{"Retry-After": "2"})
        network.will(503)
        assert driver.run(vault.get_secret(PATH)).value == VALUE
        assert network.clock.slept == (2.0, 0.375)

    @pytest.mark.req("RS7")
    @pytest.mark.parametrize("name", ["set_secret", "rotate_secret", "import_env", "request_token", "delete_secret"])
    def test_what_changes_something_is_asked_once(
        self, driver: Driver, vault: Any, network: Network, name: str
    ) -> None:
        """A 503 does not say whether it was done."""
        given = {"set_secret": ("a/b", "x"), "import_env": ("e", "A=1"), "request_token": (SCOPE,)}.get(name, (PATH,))
        network.will(503)
        with pytest.raises(VaultUnavailableError):
            driver.run(getattr(vault, name)(*given))
        assert len(network.requests) == 1

    def test_without_a_key_nothing_is_sent(self, driver: Driver, network: Network) -> None:
        """What needs the key says so; what is asked with a token needs none."""
        keyed = network.vault(driver)
        token = token_of(driver, keyed)
        network.requests.clear()
        vault = network.vault(driver, agent_key=None)
        with pytest.raises(ConfigurationError, match="AUTHSEC_AGENT_KEY"):
            driver.run(vault.get_secret(PATH))
        assert not network.requests
        assert driver.run(vault.get_secret(PATH, token=token)).value == VALUE

    @pytest.mark.parametrize("token", ["", "a b", "a\r\nb", "é", "x" * 5000])
    def test_what_is_no_token_is_not_sent(self, driver: Driver, vault: Any, network: Network, token: str) -> None:
        """It would not fit into a header, and it is not replaced by the key."""
        with pytest.raises(ValueError, match="vault token"):
            driver.run(vault.get_secret(PATH, token=token))
        assert not network.requests

    def test_tls_is_an_error_of_its_own(self, driver: Driver, vault: Any, network: Network) -> None:
        """It is not tried again."""
        import ssl

        def refuse(request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("made up", request=request) from ssl.SSLError(1, "made up")

        network.answers.append(refuse)
        with pytest.raises(VaultInsecureTransportError, match="AUTHSEC_CA_FILE"):
            driver.run(vault.get_secret(PATH))
        assert len(network.requests) == 1
