"""The command line's pure half: from observations to findings, and from values to what may be printed."""

from __future__ import annotations

import socket
import ssl
from itertools import pairwise

import httpx
import pytest

from authsec_core import AuthSecConfig, ConfigurationError, _layers
from authsec_core.cli._checks import check_authority, check_clock, check_tls, offset
from authsec_core.cli._observed import Contact, Tls, certificate_problem, http_date, reason
from authsec_core.cli._outcome import Finding, error_outcome, outcome, plain
from authsec_core.cli._settings import settings_in_force, unknown_variables
from authsec_core.token import Secret

DAY = 86400.0


def contact(url: str = "https://authority.test/keys", **seen: object) -> Contact:
    """Return a request that was sent at 1000 and answered a second later."""
    return Contact(url=url, sent_at=1000.0, answered_at=1001.0, **seen)  # type: ignore[arg-type] # of any kind


@pytest.mark.parametrize("status", ["warn", "fail"])
def test_what_is_not_well_says_what_to_do(status: str) -> None:
    """A warning or a failure without its mend cannot be made."""
    with pytest.raises(ValueError, match="what to do next"):
        Finding(check="x", status=status, message="bad")  # type: ignore[arg-type] # one of two literals


class TestClock:
    """What one request tells of two clocks."""

    @pytest.mark.parametrize(
        ("moment", "ahead"),
        [(999, 0), (998.5, -0.5), (1000, 0), (1001, 0), (1002, 1), (1100, 99), (900, -99)],
    )
    def test_an_offset_is_what_is_certain(self, moment: float, ahead: float) -> None:
        """The time on the way and the seconds that an HTTP date leaves out are nobody's fault."""
        assert offset(moment, 1000.0, 1001.0) == ahead

    @pytest.mark.parametrize(
        ("ahead", "status"), [(5, "ok"), (5.5, "warn"), (300, "warn"), (301, "fail"), (-5, "ok"), (-301, "fail")]
    )
    def test_the_limits(self, ahead: float, status: str) -> None:
        """What verifiers tolerate by default is fine; what none can be told to tolerate fails."""
        moment = 1001.0 + ahead if ahead > 0 else 999.0 + ahead
        assert check_clock(contact(date=moment), None).status == status

    def test_a_token_that_was_kept_tells_nothing(self) -> None:
        """An `iat` long before the reply's `Date` is the age of a token, not of a clock."""
        assert check_clock(contact(date=1000.0), 400.0).status == "ok"
        assert check_clock(contact(date=1000.0), 1400.0).status == "fail"
        assert check_clock(contact(), 400.0).status == "fail"


class TestTls:
    """What a connection says."""

    @pytest.mark.parametrize(("left", "status"), [(14 * DAY, "ok"), (14 * DAY - 1, "warn"), (0, "warn")])
    def test_two_weeks_before_the_end(self, left: float, status: str) -> None:
        """The limit is whole days."""
        seen = contact(tls=Tls(protocol="TLSv1.3", ends_at=5000 + left))
        assert check_tls("tls", "AUTHSEC_BASE_URL", [seen], now=5000).status == status

    def test_a_certificate_that_names_no_end(self) -> None:
        """Nothing is made up."""
        seen = contact(tls=Tls(protocol="TLSv1.2", ends_at=None))
        assert check_tls("tls", "X", [seen], now=0).message == "TLSv1.2, the certificate is good"

    def test_no_connection(self) -> None:
        """Without one there is nothing to say."""
        assert check_tls("tls", "X", [contact(trouble="connect")], now=0).status == "skip"


def chained(*errors: BaseException) -> BaseException:
    """Return the first error, caused by the second, and so on."""
    for error, cause in pairwise(errors):
        error.__cause__ = cause
    return errors[0]


class TestReason:
    """Words for exceptions."""

    @pytest.mark.parametrize(
        ("error", "words"),
        [
            (chained(httpx.ConnectError("x"), socket.gaierror(-2, "Name")), "its name cannot be resolved"),
            (chained(httpx.ConnectError("x"), ConnectionRefusedError(111, "Connection refused")), "connection refused"),
            (chained(httpx.ConnectTimeout("x")), "it did not answer in time"),
            (chained(httpx.ConnectError("x"), TimeoutError()), "it did not answer in time"),
            (chained(httpx.ProxyError("user:password")), "the proxy did not let us through"),
            (chained(httpx.ConnectError("x"), ssl.SSLError()), "the handshake failed"),
            (chained(httpx.ConnectError("x"), ssl.SSLCertVerificationError()), "the certificate is not good"),
            (httpx.ConnectError("words of the peer"), "no connection came about"),
            (None, "no connection came about"),
        ],
    )
    def test_each_kind(self, error: BaseException | None, words: str) -> None:
        """The words are the system's or ours, never the peer's."""
        assert reason(error) == words

    def test_a_circle_of_causes_ends(self) -> None:
        """Exceptions can be their own causes."""
        error = ValueError()
        error.__context__ = other = KeyError()
        other.__context__ = error
        assert reason(error) == "no connection came about"
        assert certificate_problem(error) is None

    def test_it_is_told_of_the_authority(self) -> None:
        """The finding has the address and the reason."""
        cause = chained(httpx.ConnectError("x"), socket.gaierror(-2, "Name"))
        found = check_authority([contact(trouble="connect", cause=cause)])
        assert found.message == "https://authority.test cannot be reached: its name cannot be resolved"


@pytest.mark.parametrize("text", ["", "soon", "Thu, 99 Jan 1970 00:00:10 GMT", "Thu, 01 Jan 999999999 00:00:10 GMT"])
def test_what_is_no_date_is_none(text: str) -> None:
    """A header that is no date tells no time."""
    assert http_date(text) is None


class TestSettings:
    """Settings as they are shown."""

    def test_unknown_variables(self) -> None:
        """Only names that begin like ours and are not; in any case, as Windows has them."""
        names = ["AUTHSEC_TIMEOUT", "DOWNSTREAM_URL", "PATH", "authsec_colour", "AUTHSEC_SERVER_X", "AUTHSEC_CONSOLE_X"]
        names += ["AUTHSEC_POLICY_SERVICE_HOST", "AUTHSEC_POLICY_PORT_80_TCP"]  # Kubernetes sets these
        assert unknown_variables(names, AuthSecConfig.model_fields) == ("AUTHSEC_COLOUR",)

    def test_every_field_has_its_row(self) -> None:
        """In the order of the documentation, by the variable's documented name."""
        rows = settings_in_force(AuthSecConfig(mode="mock", mock_permissions=["b", "a"]))
        assert [row.variable for row in rows] == [_layers.variable(field) for field in AuthSecConfig.model_fields]
        assert {row.value for row in rows if row.set_by == "argument"} == {"mock", "a b"}


class TestOutcome:
    """What leaves the program."""

    @pytest.mark.req("RS8")
    @pytest.mark.parametrize(
        "hidden", ["key-id.0123456789abcdef\"'\\", "aaaaaaaaaa.bbbbbbbbbbbbbbbbbbbb.cccccccccccccccccc"]
    )
    def test_secrets_are_taken_out(self, hidden: str) -> None:
        """Whole or in parts, at any depth, among names and values."""
        part = hidden.split(".")[1]
        document = {"a": [f"x{hidden}y", {hidden: 1}], "b": part}
        made = outcome("token", document, failed=False, secrets=[Secret(hidden)])
        assert made.document == {"a": ["x[removed]y", {"[removed]": 1}], "b": "[removed]"}

    def test_a_short_secret_is_no_word(self) -> None:
        """A secret of a few characters would tear up the text, and cannot be one."""
        assert outcome("token", {"a": "or"}, failed=False, secrets=[Secret("or")]).document == {"a": "or"}

    def test_what_is_too_deep_is_an_error(self) -> None:
        """A document that no printer can follow is not printed in half."""
        deep: list[object] = []
        for _ in range(100_000):
            deep = [deep]
        made = outcome("fetch", {"data": deep}, failed=False, secrets=[])
        assert (made.kind, made.exit_code, made.document["code"]) == ("error", 1, "too_deep")

    def test_a_number_that_json_has_no_form_for_is_an_error(self) -> None:
        """A claim of 1e999 would be printed as `Infinity`, which is no JSON."""
        made = outcome("token", {"claims": {"n": float("inf")}}, failed=False, secrets=[])
        assert (made.kind, made.exit_code, made.document["code"]) == ("error", 1, "too_deep")

    def test_an_error_keeps_its_code(self) -> None:
        """Programs find the stable code, and whether to try again."""
        made = error_outcome(ConfigurationError("mend it"), "live", secrets=[])
        assert made.document == {
            "status": "error",
            "mode": "live",
            "code": "configuration",
            "message": "mend it",
            "retryable": False,
        }

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("\x1b[31mred", r"\x1b[31mred"),
            ("\u009b2J", r"\x9b2J"),
            ("a\u202eb", r"a\u202eb"),
            ("\ud800", r"\ud800"),
            ("a\nb", r"a\nb"),
            ("Grüße 漢字", "Grüße 漢字"),
        ],
    )
    def test_text_cannot_take_hold_of_a_terminal(self, text: str, shown: str) -> None:
        """Escapes, direction marks and what has no form are spelled out."""
        assert plain(text) == shown

    def test_lines_can_be_kept(self) -> None:
        """Data of several lines stays so; a carriage return could hide the beginning of one."""
        assert plain("a\nb\rc", lines=True) == "a\nb\\rc"
