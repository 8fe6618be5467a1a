"""`authsec doctor` against a real loopback authority and API, each of them broken in one way at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_support import KEY, Printed, SetUp, running

from authsec_core import AuthSecConfig, MockAuthority
from authsec_core._clock import SYSTEM_CLOCK
from authsec_core.testing import FakeClock, LoopbackServer, Raw, Reply, loopback_certificate

EVERY_CHECK = [
    "settings",
    "mode",
    "unknown_variables",
    "authority",
    "tls",
    "clock",
    "proof",
    "scopes",
    "keys",
    "token",
    "api",
    "api_tls",
    "vault",
    "vault_tls",
    "vault_credential",
]
OF_THE_VAULT = EVERY_CHECK[-3:]


@pytest.fixture
def setup(clock: FakeClock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[SetUp]:
    """Everything works, over plain http."""
    with running(clock, monkeypatch, capsys) as setup:
        yield setup


@pytest.fixture
def tls_setup(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[SetUp]:
    """Everything works, over https; by our clock the certificate, which lives for a day, is good for a month."""
    clock = FakeClock(wall=SYSTEM_CLOCK.wall() - 30 * 86400)
    with running(clock, monkeypatch, capsys, loopback_certificate(tmp_path)) as setup:
        yield setup


class TestWell:
    """When nothing is wrong."""

    def test_every_check_is_made(self, tls_setup: SetUp) -> None:
        """All checks, in one order, all good, and exit code 0."""
        printed = tls_setup.doctor()
        assert printed.statuses == dict.fromkeys(EVERY_CHECK, "ok") | dict.fromkeys(OF_THE_VAULT, "skip")
        assert list(printed.statuses) == EVERY_CHECK
        assert (printed.code, printed.json["mode"], printed.json["ok"]) == (0, "live", True)
        assert printed.finding("tls")["message"].startswith("TLSv1.3, the certificate is good for ")
        assert printed.finding("scopes")["message"] == "granted: read:metrics read:records"
        assert printed.finding("token")["message"].endswith("not revoked")

    def test_plain_http_on_this_machine_is_no_matter(self, setup: SetUp) -> None:
        """TLS checks are skipped on loopback."""
        assert setup.doctor().statuses["tls"] == "skip"

    @pytest.mark.req("RS9")
    def test_the_proof_goes_with_the_exchange_alone(self, setup: SetUp) -> None:
        """One minimal exchange carries the key; neither the key set nor the API is shown a credential."""
        setup.doctor("--scope", "read:metrics")
        (request,) = setup.authority.requests
        assert (request.query["scope"], request.query["ttl"]) == ("read:metrics", "60")
        assert request.headers["user-agent"].startswith("authsec-core/")
        assert "authsec-cli/" in request.headers["user-agent"]
        (knock,) = setup.api.requests
        assert "authorization" not in knock.headers
        assert setup.authority.count("jwks") == 1

    def test_each_setting_says_where_it_came_from(self, setup: SetUp, tmp_path: Path) -> None:
        """Environment, named file, argument and default are told apart; every setting is listed."""
        path = tmp_path / "agent.env"
        path.write_text('AUTHSEC_TIMEOUT=7\nAUTHSEC_RETRIES=1\nAUTHSEC_ENDPOINT_SCOPES=\'{"a": "read:metrics"}\'\n')
        setup.set(AUTHSEC_RETRIES="2", AUTHSEC_ALLOWED_ENDPOINTS="a,b")
        rows = {
            row["variable"]: (row["value"], row["set_by"])
            for row in setup.doctor("--env-file", str(path)).json["settings"]
        }
        assert len(rows) == len(AuthSecConfig.model_fields)
        assert rows["AUTHSEC_TIMEOUT"] == ("7.0", "env file")
        assert rows["AUTHSEC_RETRIES"] == ("2", "environment")
        assert rows["AUTHSEC_ENV_FILE"] == (str(path), "argument")
        assert rows["AUTHSEC_ALLOW_HTTP"] == ("false", "default")
        assert rows["AUTHSEC_AUDIENCE"] == (None, "default")
        assert rows["AUTHSEC_ALLOWED_ENDPOINTS"] == ("a b", "environment")
        assert rows["AUTHSEC_ENDPOINT_SCOPES"] == ('{"a": "read:metrics"}', "env file")

    @pytest.mark.req("RS8")
    def test_a_secret_is_shown_as_set(self, setup: SetUp) -> None:
        """The key is told of, and not told."""
        rows = {row["variable"]: row["value"] for row in setup.doctor().json["settings"]}
        assert rows["AUTHSEC_AGENT_KEY"] == "set"


class TestSettings:
    """Settings that are wrong, or that are none."""

    def test_wrong_settings_end_the_check(self, setup: SetUp) -> None:
        """The message names the variable and the mend; what is set is listed without its value; nothing is asked."""
        setup.set(AUTHSEC_AGENT_CLIENT_ID=None)
        printed = setup.doctor()
        assert "AUTHSEC_AGENT_CLIENT_ID must be set" in printed.finding("settings")["message"]
        assert (printed.code, printed.json["mode"], list(printed.statuses)) == (1, None, ["settings"])
        assert {row["value"] for row in printed.json["settings"]} == {"set"}
        assert not setup.authority.requests

    def test_a_missing_env_file_is_a_finding(self, setup: SetUp, tmp_path: Path) -> None:
        """A file that is named must be there."""
        found = setup.doctor("--env-file", str(tmp_path / "none")).finding("settings")
        assert (found["status"], "AUTHSEC_ENV_FILE" in found["message"]) == ("fail", True)

    def test_a_bad_ca_file_is_a_finding(self, setup: SetUp, tmp_path: Path) -> None:
        """It is read before anything is asked."""
        (tmp_path / "ca.pem").write_text("no certificate")
        setup.set(AUTHSEC_CA_FILE=tmp_path / "ca.pem")
        assert "AUTHSEC_CA_FILE" in setup.doctor().finding("settings")["message"]

    def test_a_proxy_that_cannot_be_used_is_a_finding(self, setup: SetUp) -> None:
        """Its address, which may hold a password, is not repeated."""
        setup.set(AUTHSEC_TRUST_ENV="1", HTTP_PROXY="socks9://user:hunter2-hunter2@proxy.invalid")
        setup.secrets.append("hunter2-hunter2")
        printed = setup.doctor()
        assert [found["status"] for found in printed.json["findings"]].count("fail") == 1
        assert "AUTHSEC_TRUST_ENV" in printed.finding("settings")["message"]

    def test_unknown_variables_are_listed(self, setup: SetUp, tmp_path: Path) -> None:
        """Those of the environment and of the file; those of other packages are theirs."""
        path = tmp_path / "agent.env"
        path.write_text("AUTHSEC_COLOUR=red\n")
        setup.set(AUTHSEC_FLAVOUR="mint", AUTHSEC_SERVER_PORT="1", AUTHSEC_CONSOLE_X="1")
        found = setup.doctor("--env-file", str(path)).finding("unknown_variables")
        assert (found["status"], found["message"]) == (
            "warn",
            "not settings, and ignored: AUTHSEC_COLOUR, AUTHSEC_FLAVOUR",
        )


class TestReach:
    """The way to the authority."""

    def unreached(self, printed: Printed) -> str:
        """Return why, once it is sure that nothing else was tried."""
        skipped = {check for check, status in printed.statuses.items() if status == "skip"}
        assert {"clock", "proof", "scopes", "keys", "token"} <= skipped
        assert printed.statuses["authority"] == "fail"
        return printed.finding("authority")["message"]

    def test_nobody_listens(self, setup: SetUp) -> None:
        """The refusal of a connection is told apart, and the API is looked at all the same."""
        setup.authority.close()
        printed = setup.doctor()
        assert self.unreached(printed).endswith("connection refused")
        assert printed.statuses["api"] == "ok"

    def test_a_name_that_does_not_exist(self, setup: SetUp) -> None:
        """So is a name that nobody knows; http beyond this machine is a warning of its own."""
        setup.set(AUTHSEC_BASE_URL="http://authority.invalid", AUTHSEC_ALLOW_HTTP="1")
        printed = setup.doctor()
        assert self.unreached(printed).endswith("its name cannot be resolved")
        assert "AUTHSEC_ALLOW_HTTP" in printed.finding("tls")["mend"]
        assert printed.statuses["tls"] == "warn"

    def test_no_answer_in_time(self, setup: SetUp) -> None:
        """An authority that accepts connections and says nothing is not reached, either."""
        setup.set(AUTHSEC_TIMEOUT="0.2")
        for where in ("jwks", "delegation"):
            setup.authority.recover(where)
            setup.authority.fail(where=where, delay=threading.Event())
        printed = setup.doctor()
        assert printed.finding("authority")["message"].endswith("it did not answer in time")
        assert (printed.statuses["proof"], printed.statuses["keys"]) == ("fail", "fail")

    def test_something_else_answers(self, setup: SetUp) -> None:
        """A server that does not speak HTTP is told apart."""
        with LoopbackServer(lambda _: Raw(data=b"220 mail.test ESMTP\r\n")) as mail:
            setup.set(AUTHSEC_BASE_URL=mail.base_url)
            printed = setup.doctor()
        assert "does not speak HTTP" in printed.finding("authority")["message"]

    def test_one_answer_will_do(self, setup: SetUp) -> None:
        """A key set that hangs does not make the authority unreachable."""
        setup.set(AUTHSEC_TIMEOUT="0.5")
        setup.authority.fail(where="jwks", delay=threading.Event())
        printed = setup.doctor()
        assert (printed.statuses["authority"], printed.statuses["proof"]) == ("ok", "ok")
        assert printed.finding("keys")["message"] == "the key set cannot be fetched (timeout)"


class TestTls:
    """What protects the connections."""

    @pytest.mark.req("RS3", "RS9")
    def test_an_unknown_authority(self, tls_setup: SetUp, tmp_path: Path) -> None:
        """A certificate that nobody vouches for is refused, and the proof is not sent."""
        (tmp_path / "other").mkdir()
        tls_setup.set(AUTHSEC_CA_FILE=loopback_certificate(tmp_path / "other").ca_file)
        printed = tls_setup.doctor()
        for check in ("tls", "api_tls"):
            assert printed.statuses[check] == "fail"
            assert "AUTHSEC_CA_FILE" in printed.finding(check)["mend"]
        assert (printed.statuses["authority"], printed.finding("authority")["mend"]) == ("fail", "see tls")
        assert (printed.statuses["api"], printed.finding("api")["mend"]) == ("fail", "see api_tls")
        assert not tls_setup.authority.requests
        assert printed.statuses["proof"] == "skip"

    @pytest.mark.parametrize(
        ("days", "host", "message", "mend"),
        [
            (-3, "127.0.0.1", "certificate has expired", "renewed"),
            (3, "127.0.0.1", "certificate is not yet valid", "clock"),
            (0, "127.0.0.9", "IP address mismatch", "AUTHSEC_BASE_URL"),
        ],
    )
    def test_a_certificate_that_is_not_good(
        self,
        clock: FakeClock,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        tmp_path: Path,
        days: int,
        host: str,
        message: str,
        mend: str,
    ) -> None:
        """Each reason has its own mend."""
        then = FakeClock(wall=SYSTEM_CLOCK.wall() + days * 86400)
        with monkeypatch.context() as patched:
            patched.setattr("authsec_core.testing._certificate.SYSTEM_CLOCK", then)
            certificate = loopback_certificate(tmp_path, host=host)
        with running(clock, monkeypatch, capsys, certificate) as setup:
            found = setup.doctor().finding("tls")
        assert found["status"] == "fail"
        assert message in found["message"]
        assert mend in found["mend"]

    def test_a_server_without_tls(self, setup: SetUp) -> None:
        """An https address of a plain server is no certificate's fault."""
        with LoopbackServer(lambda _: Raw(data=b"HTTP/1.1 400 Bad Request\r\n\r\n")) as plain:
            setup.set(AUTHSEC_BASE_URL=plain.base_url.replace("http:", "https:"))
            found = setup.doctor().finding("tls")
        assert (found["status"], "port" in found["mend"]) == ("fail", True)

    def test_a_certificate_that_soon_ends(self, tls_setup: SetUp) -> None:
        """Two weeks before its end it is a warning, which does not change the exit code."""
        soon = FakeClock(wall=SYSTEM_CLOCK.wall())
        printed = tls_setup.doctor(clock=soon)
        assert printed.statuses["tls"] == "warn"
        assert "0 more days" in printed.finding("tls")["message"]


class TestClock:
    """Our clock and theirs."""

    @pytest.mark.parametrize(
        ("ahead", "status", "word"),
        [
            (4, "ok", ""),
            (-4, "ok", ""),
            (120, "warn", "ahead of"),
            (-120, "warn", "behind"),
            (4000, "fail", "ahead of"),
        ],
    )
    def test_by_the_token(self, setup: SetUp, clock: FakeClock, ahead: float, status: str, word: str) -> None:
        """A token's `iat` tells the difference, which is no matter below what verifiers tolerate."""
        printed = setup.doctor(clock=FakeClock(wall=clock.wall() + ahead))
        assert printed.statuses["clock"] == status
        assert word in printed.finding("clock")["message"]
        assert printed.statuses["token"] == ("fail" if status == "fail" else "ok")
        assert status != "fail" or "clock" in printed.finding("token")["mend"]

    def test_by_the_date_header(self, setup: SetUp) -> None:
        """Without a token the `Date` of the refusal tells it."""
        setup.spoil(status=403, headers={"Date": "Thu, 01 Jan 2099 00:00:00 GMT"})
        assert setup.doctor().statuses["clock"] == "fail"

    def test_a_peer_that_tells_no_time(self, setup: SetUp) -> None:
        """Then nothing is said."""
        setup.spoil(status=403)
        assert setup.doctor().statuses["clock"] == "skip"


class TestProof:
    """Whether the authority takes the agent for who it says it is."""

    def test_a_key_that_is_not_good(self, setup: SetUp) -> None:
        """The mend names the setting that holds the proof."""
        setup.set(AUTHSEC_AGENT_KEY="another-key.0123456789abcdefghij")
        setup.secrets.append("another-key.0123456789abcdefghij")
        printed = setup.doctor()
        assert printed.finding("proof")["message"] == "the authority refused the proof (agent key, 401)"
        assert "AUTHSEC_AGENT_KEY" in printed.finding("proof")["mend"]
        assert (printed.statuses["scopes"], printed.statuses["token"]) == ("skip", "skip")

    def test_no_proof(self, setup: SetUp) -> None:
        """Where the authority wants one, the mend names both settings."""
        setup.set(AUTHSEC_AGENT_KEY=None)
        assert "AUTHSEC_WORKLOAD_TOKEN_FILE" in setup.doctor().finding("proof")["mend"]

    def test_no_proof_is_wanted(self, setup: SetUp) -> None:
        """The client id alone may be enough, and is said to be."""
        setup.set(AUTHSEC_AGENT_KEY=None)
        setup.authority.register("read:metrics", client_id=setup.agent.client_id)
        assert "client id alone" in setup.doctor().finding("proof")["message"]

    def test_a_workload_token(self, setup: SetUp, tmp_path: Path) -> None:
        """The file's token is sent, never shown, and named where it is refused."""
        path = tmp_path / "token"
        path.write_text(KEY)
        setup.set(AUTHSEC_AGENT_KEY=None, AUTHSEC_WORKLOAD_TOKEN_FILE=path)
        assert setup.doctor().finding("proof")["message"] == "accepted: the workload token"
        path.write_text("another-workload-token")
        assert "AUTHSEC_WORKLOAD_TOKEN_FILE" in setup.doctor().finding("proof")["mend"]

    def test_a_workload_token_that_is_not_there(self, setup: SetUp, tmp_path: Path) -> None:
        """No request is made without it."""
        setup.set(AUTHSEC_AGENT_KEY=None, AUTHSEC_WORKLOAD_TOKEN_FILE=tmp_path / "none")
        printed = setup.doctor()
        assert "mount" in printed.finding("proof")["mend"]
        assert not setup.authority.requests

    @pytest.mark.parametrize(
        ("how", "words"),
        [
            ({"status": 404}, "no such agent"),
            ({"status": 400}, "does not accept the request"),
            ({"status": 429, "retry_after": 9}, "answered 429"),
            ({"status": 503}, "answered 503"),
            ({"status": 302, "headers": {"Location": "https://elsewhere.invalid"}}, "redirects are not followed"),
            ({"garbage": b"<html>Sign in</html>"}, "not JSON"),
            ({"garbage": b"[1, 2]"}, "not a JSON object"),
            ({"garbage": b"[" * 60000}, "not JSON"),
            ({"garbage": b" " * 70000}, "larger than 64 KiB"),
            ({"alter": lambda reply: {**reply, "token": "x"}}, "not a signed JWT"),
            ({"alter": lambda reply: {**reply, "token": MockAuthority().mint().value}}, "MOCK"),
            ({"cut": True}, "broke the connection off"),
            ({"cut": "body"}, "broke the connection off"),
            ({"raw": b"\x00\xff\x1b[2J" * 99}, "broke the connection off"),
        ],
    )
    def test_what_is_no_token(self, setup: SetUp, how: dict[str, Any], words: str) -> None:
        """Every other answer fails with what it was, and is asked for once."""
        setup.spoil(**how)
        printed = setup.doctor()
        assert printed.statuses["proof"] == "fail"
        assert words in printed.finding("proof")["message"]
        assert (printed.statuses["token"], printed.statuses["authority"]) == ("skip", "ok")
        assert len(setup.authority.requests) == 1


class TestScopes:
    """What was granted."""

    def test_what_is_named_must_be_granted(self, setup: SetUp) -> None:
        """A grant of a part fails and names the rest; the proof was good all the same."""
        printed = setup.doctor("--scope", "read:metrics write:metrics")
        assert (printed.statuses["proof"], printed.statuses["scopes"]) == ("ok", "fail")
        assert printed.finding("scopes")["message"] == "not granted: write:metrics"
        assert setup.doctor("--scope", "write:x").finding("scopes")["message"].endswith("grants write:x")
        assert setup.doctor("--scope", "read:metrics").finding("scopes")["message"] == "granted: read:metrics"

    def test_nothing_is_delegated(self, setup: SetUp) -> None:
        """An agent without any delegation is told so."""
        setup.authority.register("", client_id=setup.agent.client_id, agent_key=KEY)
        assert setup.doctor().finding("scopes")["message"] == "no delegation of this agent grants anything"

    def test_a_delegation_that_grants_nothing(self, setup: SetUp) -> None:
        """So is one whose token is empty."""
        setup.replace_token(setup.authority.mint(setup.agent, permissions=[], scope=""))
        assert setup.doctor().finding("scopes")["message"] == "the delegation grants nothing"

    def test_a_delegation_that_ended(self, setup: SetUp) -> None:
        """The end is no fault of the proof."""
        setup.authority.revoke_agent(setup.agent.client_id)
        printed = setup.doctor()
        assert (printed.statuses["proof"], printed.statuses["scopes"]) == ("ok", "fail")
        assert "expired or was revoked" in printed.finding("scopes")["message"]

    def test_more_than_was_asked(self, setup: SetUp) -> None:
        """An authority that does not narrow is a warning."""
        setup.replace_token(setup.authority.mint(setup.agent))
        found = setup.doctor("--scope", "read:metrics").finding("scopes")
        assert (found["status"], found["message"]) == ("warn", "granted beyond what was asked: read:records")

    def test_the_operators_map_needs_more(self, setup: SetUp) -> None:
        """A map that names what is not delegated is a warning: those endpoints cannot be fetched."""
        setup.set(AUTHSEC_ENDPOINT_SCOPES='{"metrics": "read:metrics", "admin": "write:all"}')
        found = setup.doctor().finding("scopes")
        assert (found["status"], found["message"][-9:]) == ("warn", "write:all")

    def test_many_scopes_are_one_bounded_line(self, setup: SetUp) -> None:
        """A grant of thousands is cut."""
        setup.authority.register([f"read:{n}" for n in range(300)], client_id=setup.agent.client_id, agent_key=KEY)
        message = setup.doctor().finding("scopes")["message"]
        assert message.endswith("(300 in all)")
        assert len(message) < 700


class TestKeys:
    """What verifiers need."""

    @pytest.mark.parametrize(
        ("how", "status", "words"),
        [
            ({"status": 503}, "fail", "(status 503)"),
            ({"status": 404}, "warn", "there is no key set at"),
            ({"cut": True}, "fail", "(cut)"),
            ({"cut": "body"}, "fail", "(cut)"),
            ({"garbage": b"<html>"}, "fail", "refused"),
            ({"garbage": b"[]"}, "fail", "it is not a JWK set"),
            ({"garbage": b'{"keys": []}'}, "fail", "has no key for RS256"),
            ({"garbage": b'{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}'}, "fail", "symmetric or private"),
            ({"garbage": b" " * 70000}, "fail", "(too_large)"),
        ],
    )
    def test_a_key_set_that_cannot_be_used(self, setup: SetUp, how: dict[str, Any], status: str, words: str) -> None:
        """Each way to fail has its words, and the token is then not verified."""
        setup.authority.fail(where="jwks", **how)
        printed = setup.doctor()
        assert (printed.statuses["keys"], printed.statuses["token"]) == (status, "skip")
        assert words in printed.finding("keys")["message"]

    def test_a_key_that_is_not_published(self, setup: SetUp) -> None:
        """A token whose key is missing is good for nobody."""
        old = setup.authority.signing_key
        setup.authority.rotate_key(withdraw_old=True)
        setup.replace_token(setup.authority.mint(setup.agent, key=old))
        printed = setup.doctor()
        assert "not in the key set" in printed.finding("keys")["message"]
        assert (printed.statuses["keys"], printed.statuses["token"]) == ("fail", "fail")

    @pytest.mark.parametrize(
        ("change", "mend"),
        [
            (lambda setup: setup.authority.fail(where="statuslist", status=503), "status list"),
            (
                lambda setup: setup.replace_token(setup.authority.mint(setup.agent, header={"typ": "at+jwt"})),
                "operator",
            ),
            (lambda setup: setup.replace_token(setup.authority.mint(setup.agent, omit=["jti"])), "operator"),
            (lambda setup: setup.replace_token(setup.authority.mint(setup.agent, omit=["aud"])), "AUTHSEC_AUDIENCE"),
            (lambda setup: setup.replace_token(setup.authority.mint(setup.agent, aud=[""])), "AUTHSEC_AUDIENCE"),
            (lambda setup: setup.replace_token(setup.authority.mint(setup.agent, omit=["kid"])), "operator"),
        ],
    )
    def test_a_token_that_verifiers_refuse(self, setup: SetUp, change: Callable[[SetUp], None], mend: str) -> None:
        """What the exchange accepts and no API will is found here."""
        change(setup)
        printed = setup.doctor()
        assert (printed.statuses["proof"], printed.statuses["token"]) == ("ok", "fail")
        assert mend in printed.finding("token")["mend"]

    def test_an_issuer_of_another_name(self, setup: SetUp) -> None:
        """Where no issuer is configured, another one is a warning: the public address may differ."""
        setup.replace_token(setup.authority.mint(setup.agent, iss="https://public.example.com/authsec"))
        found = setup.doctor().finding("token")
        assert (found["status"], "AUTHSEC_ISSUER" in found["mend"]) == ("warn", True)

    def test_an_issuer_that_is_unsafe(self, setup: SetUp) -> None:
        """One that verifiers cannot use is found."""
        setup.set(AUTHSEC_ISSUER="http://authority.example.com")
        setup.replace_token(setup.authority.mint(setup.agent, iss="http://authority.example.com"))
        assert setup.doctor().finding("token")["mend"] == "check AUTHSEC_ISSUER"

    def test_a_token_that_cannot_be_revoked(self, setup: SetUp) -> None:
        """A token without status is good, and said to be so."""
        setup.replace_token(setup.authority.mint(setup.agent, omit=["status"]))
        found = setup.doctor().finding("token")
        assert (found["status"], "cannot be revoked" in found["message"]) == ("ok", True)


class TestApi:
    """The protected API."""

    @pytest.mark.parametrize(
        ("status", "expected"), [(200, "ok"), (401, "ok"), (302, "ok"), (404, "ok"), (502, "warn")]
    )
    def test_any_answer_but_its_failure_is_good(self, setup: SetUp, status: int, expected: str) -> None:
        """What it answers without a credential is its own affair."""
        setup.answer = Reply(status=status, body=b"\x1b[2J" * 30000)
        assert setup.doctor().statuses["api"] == expected

    def test_nobody_listens(self, setup: SetUp) -> None:
        """An API that is down fails the check."""
        setup.api.close()
        found = setup.doctor().finding("api")
        assert (found["status"], found["message"].endswith("connection refused")) == ("fail", True)

    def test_none_is_set(self, setup: SetUp) -> None:
        """Whoever only gets tokens needs none."""
        setup.set(AUTHSEC_API_BASE_URL=None)
        printed = setup.doctor()
        assert (printed.code, printed.statuses["api"]) == (0, "skip")


class TestMock:
    """MOCK mode."""

    @pytest.fixture
    def offline(self, setup: SetUp) -> SetUp:
        """No setting at all."""
        names = ("AUTHSEC_BASE_URL", "AUTHSEC_AGENT_CLIENT_ID", "AUTHSEC_AGENT_KEY", "AUTHSEC_API_BASE_URL")
        setup.set(**dict.fromkeys(names))
        return setup

    def test_it_says_so(self, offline: SetUp) -> None:
        """By default it is a warning; where it was asked for, it is fine. No authority is asked."""
        printed = offline.doctor()
        assert (printed.code, printed.json["mode"], printed.statuses["mode"]) == (0, "mock", "warn")
        offline.set(AUTHSEC_MODE="mock")
        printed = offline.doctor()
        assert printed.statuses["mode"] == "ok"
        assert {printed.statuses[check] for check in ("authority", "tls", "clock", "proof", "keys", "api")} == {"skip"}
        assert (printed.statuses["scopes"], printed.statuses["token"]) == ("ok", "ok")

    def test_denials_can_be_tried(self, offline: SetUp) -> None:
        """What MOCK mode does not grant fails the check."""
        offline.set(AUTHSEC_MOCK_PERMISSIONS="read:metrics")
        assert offline.doctor("--scope", "read:metrics").code == 0
        printed = offline.doctor("--scope", "read:records")
        assert (printed.statuses["scopes"], printed.statuses["token"]) == ("fail", "skip")

    def test_an_api_on_this_machine_is_looked_at(self, offline: SetUp) -> None:
        """MOCK tokens may go there, so that it counts."""
        offline.set(AUTHSEC_MODE="mock", AUTHSEC_API_BASE_URL=offline.api.base_url)
        assert offline.doctor().statuses["api"] == "ok"


@pytest.mark.req("RS8")
class TestHostilePeers:
    """An authority that repeats credentials where they will be printed."""

    def test_a_key_among_the_scopes(self, setup: SetUp) -> None:
        """The key is taken out, wherever it was put."""
        setup.authority.register(["read:metrics", KEY], client_id=setup.agent.client_id, agent_key=KEY)
        assert "[removed]" in setup.doctor().finding("scopes")["message"]

    def test_a_workload_token_among_the_scopes(self, setup: SetUp, tmp_path: Path) -> None:
        """So is a workload token."""
        (tmp_path / "token").write_text(KEY)
        setup.set(AUTHSEC_AGENT_KEY=None, AUTHSEC_WORKLOAD_TOKEN_FILE=tmp_path / "token")
        setup.authority.register(["read:metrics", KEY], client_id=setup.agent.client_id, agent_key=KEY)
        assert "[removed]" in setup.doctor().finding("scopes")["message"]

    def test_the_token_among_the_scopes(self, setup: SetUp) -> None:
        """So is the token that was just issued, which a reply's body may repeat as a permission."""
        token = setup.authority.mint(setup.agent, omit=["permissions", "scope"])
        setup.secrets.append(token)
        setup.spoil(alter=lambda reply: {**reply, "token": token, "permissions": [token.split(".")[2]]})
        assert setup.doctor().finding("scopes")["message"] == "granted: [removed]"
        setup.spoil(alter=lambda reply: {**reply, "token": token, "permissions": [token]})
        assert setup.doctor().finding("scopes")["message"] == "granted: ... (1 in all)"
        assert "[removed]" in setup.run("token", "--json").json["granted"]
