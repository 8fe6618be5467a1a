"""Base URLs, origins and loopback: where a credential may go at all."""

from __future__ import annotations

import ipaddress
import traceback
from collections.abc import Callable
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from authsec_core._origin import Origin, check_base_url, check_origin, is_loopback, origin_of

HTTPS = ("https://api.example.com", Origin("https", "api.example.com", 443))


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        HTTPS,
        ("https://api.example.com:443/v2?x#y", HTTPS[1]),
        ("HTTPS://API.Example.COM/", HTTPS[1]),
        ("https://user:pass@api.example.com", HTTPS[1]),
        ("https://api.example.com:8443", Origin("https", "api.example.com", 8443)),
        ("https://api.example.com:0", Origin("https", "api.example.com", 0)),
        ("http://api.example.com", Origin("http", "api.example.com", 80)),
        ("http://api.example.com:443", Origin("http", "api.example.com", 443)),
        ("https://api.example.com.", Origin("https", "api.example.com.", 443)),
        ("http://[::1]:8080/", Origin("http", "::1", 8080)),
    ],
)
def test_an_origin_is_scheme_host_and_port(url: str, origin: Origin) -> None:
    """Case and a default port make no difference; every other part of the three does."""
    assert origin_of(url) == origin


@pytest.mark.parametrize(
    "url", ["", "/a", "//a", "api.example.com", "https:a", "https://", "https://:8", "ftp://a", "ws://a", "data:,a"]
)
def test_what_is_not_absolute_http_has_no_origin(url: str) -> None:
    """A URL without scheme and host, or of another scheme, cannot be held against anything."""
    with pytest.raises(ValueError, match="not an absolute"):
        origin_of(url)


@pytest.mark.parametrize("url", ["https://a:port", "https://a:99999", "https://a:-1", "https://[::1", "https://a]b"])
def test_a_broken_authority_part_has_no_origin(url: str) -> None:
    """A port that is no port, or a broken bracket, is a ValueError like everything else."""
    with pytest.raises(ValueError, match=r"."):
        origin_of(url)


@pytest.mark.parametrize(
    ("origin", "text"),
    [
        (HTTPS[1], "https://api.example.com"),
        (Origin("https", "a", 80), "https://a:80"),
        (Origin("http", "::1", 80), "http://[::1]"),
        (Origin("http", "::1", 8080), "http://[::1]:8080"),
    ],
)
def test_an_origin_prints_as_a_url_of_itself(origin: Origin, text: str) -> None:
    """The text of an origin leaves out a default port and reads as the same origin."""
    assert str(origin) == text
    assert origin_of(text) == origin


@pytest.mark.req("RS3")
@pytest.mark.parametrize(
    ("host", "is_it"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("localhost.", False),
        ("localhost.example.com", False),
        ("127.0.0.1.example.com", False),
        ("127.1", False),
        ("2130706433", False),
        ("0x7f000001", False),
        ("0177.0.0.1", False),
        ("0.0.0.0", False),  # noqa: S104 -- an address to refuse, not one to listen on
        ("::", False),
        ("10.0.0.1", False),
        ("::2", False),
        ("١٢٧.0.0.1", False),
        ("", False),
    ],
)
def test_loopback_is_told_by_name_and_address_alone(host: str, is_it: bool) -> None:
    """Only `localhost` and the loopback addresses in their usual spelling are this machine; no resolver is asked."""
    assert is_loopback(host) is is_it


@pytest.mark.parametrize(
    ("url", "checked"),
    [
        ("https://api.example.com", None),
        ("https://api.example.com/", "https://api.example.com"),
        ("https://api.example.com/v2/", "https://api.example.com/v2"),
        ("https://api.example.com:8443/v2", None),
        ("https://auth_service:8443", None),
        ("https://xn--bcher-kva.example", None),
        ("https://192.0.2.1", None),
        ("https://[2001:db8::1]:8443/v2", None),
        ("https://" + "a" * 63 + ".example", None),
        ("http://localhost:8000", None),
        ("http://LOCALHOST", None),
        ("http://127.0.0.1:8000/x", None),
        ("http://[::1]:8000", None),
    ],
)
def test_a_fit_base_url_is_kept_without_its_trailing_slash(url: str, checked: str | None) -> None:
    """An https URL anywhere and an http one on loopback are fine, with a port and a base path."""
    assert check_base_url(url) == (checked or url)


UNFIT = [
    "",
    " https://a",
    "https://a ",
    "https://a b",
    "https://a\n",
    "https://a\tb",
    "https://a\x00",
    "https://a\x7f",
    "https://\u0430pi.example.com",
    "https://api\u3002example.com",
    "https://a\u2044b",
    "https://a/\u00e9",
    "https://a\\b",
    "https:\\\\a",
    "a",
    "//a",
    "/a",
    "https:a",
    "https:/a",
    "https:///a",
    "https://:443",
    "ftp://a",
    "javascript:alert(1)",
    "https://user@a",
    "https://user:pass@a",
    "https://@a",
    "https://a@b@c",
    "https://a?",
    "https://a?x=1",
    "https://a/v2?",
    "https://a#",
    "https://a#x",
    "https://a/..",
    "https://a/../b",
    "https://a/./b",
    "https://a:port",
    "https://a:99999",
    "https://a:-1",
    "https://[::1",
    "https://[::1%25eth0]",
    "https://[::1%eth0]",
    "https://[v1.a]",
    "https://[a]",
    "https://[::1]x",
    "https://a..b",
    "https://.a",
    "https://" + "a" * 64,
    "https://" + ".".join(["a" * 63] * 4),
    "https://a%2eb",
    "https://*.example.com",
    "https://a,b",
    "https://1.2.3.999",
    "https://127.1",
    "https://2130706433",
    "https://0x7f000001",
    "https://0177.0.0.1",
    "https://1.2.3.4.5",
]


@pytest.mark.parametrize("url", UNFIT)
def test_an_unfit_base_url_is_refused(url: str) -> None:
    """Whatever two parsers, or a reader and a resolver, could take for different hosts is refused at start."""
    for allow_http in (False, True):
        with pytest.raises(ValueError, match=r"^it"):
            check_base_url(url, allow_http=allow_http)


@pytest.mark.req("RS3")
@pytest.mark.parametrize(
    "url", ["http://api.example.com", "HTTP://a", "http://10.0.0.1", "http://localhost.example.com", "http://[::2]"]
)
def test_http_beyond_loopback_needs_to_be_allowed(url: str) -> None:
    """Plain http is refused beyond this machine unless the operator says that it may be."""
    with pytest.raises(ValueError, match="use https"):
        check_base_url(url)
    assert check_base_url(url, allow_http=True) == url


def test_the_error_quotes_nothing() -> None:
    """The URL may hold a password, so that the message does not repeat it."""
    with pytest.raises(ValueError, match="user name or password") as caught:
        check_base_url("https://agent:canary-password@a")
    assert "canary" not in str(caught.value)


pieces = st.lists(
    st.sampled_from([*":/?#[]@!$&'()*+,;=%\\.-_ \t\n", "//", "https:", "http:", "api", "EXAMPLE", ".com", "127.0.0.1"])
    | st.sampled_from(
        ["::1", "%2f", "%40", "%00", "0x7f", "999", "xn--", "\u3002", "\uff0f", "localhost", "evil.test"]
    ),
    max_size=8,
).map("".join)
beginnings = st.sampled_from(["https://", "http://", "https://api.test", "https://api.test/v2", ""])


@given(st.tuples(beginnings, pieces).map("".join))
@example("https://1.2.3.999")
@example("https://a?")
def test_every_parser_reads_an_accepted_base_url_alike(url: str) -> None:
    """What is accepted names one host to us, to urllib and to httpx, and what is appended to it is a path there."""
    try:
        base = check_base_url(url, allow_http=True)
    except ValueError:
        return
    origin = origin_of(base)
    for appended in ("/authsec/uflow/sdk/delegation-token", "/reports/latest"):
        sent, split = httpx.URL(base + appended), urlsplit(base + appended)
        assert (sent.scheme, sent.raw_host.decode(), split.hostname) == (origin.scheme, origin.host, origin.host)
        default = {"http": 80, "https": 443}[origin.scheme]
        assert (default if sent.port is None else sent.port) == origin.port
        assert not sent.userinfo
        assert not sent.query
        assert sent.path.endswith(appended)


@given(st.integers(0, 2**32 - 1))
def test_loopback_agrees_with_the_registry(address: int) -> None:
    """127.0.0.0/8 is loopback (RFC 6890) and no other IPv4 address is."""
    ip = ipaddress.IPv4Address(address)
    assert is_loopback(str(ip)) is (ip in ipaddress.IPv4Network("127.0.0.0/8"))


hosts = st.from_regex(r"[a-zA-Z0-9_-]{1,8}(\.[a-zA-Z][a-zA-Z0-9]{0,5}){1,2}", fullmatch=True)


@pytest.mark.req("RS9")
@given(
    st.sampled_from(["http", "https", "HTTPS"]), hosts, st.none() | st.integers(0, 65535), st.sampled_from(["", "/"])
)
@example("http", "[::1]", 8000, "")
@example("HTTPS", "[2001:DB8::1]", None, "/")
def test_an_origin_alone_is_taken_in_its_usual_spellings(scheme: str, host: str, port: int | None, end: str) -> None:
    """Case, a port that is the scheme's own and one trailing slash make no difference."""
    url = f"{scheme}://{host}" + ("" if port is None else f":{port}") + end
    assert check_origin(url) == origin_of(url)
    assert check_origin(str(origin_of(url))) == check_origin(origin_of(url).with_port) == origin_of(url)


@pytest.mark.req("RS9")
@given(hosts, st.text(st.sampled_from("@:/?#\\ .0a\t"), min_size=1, max_size=6))
@example("api.test", "@evil.test")
def test_an_origin_alone_is_what_it_looks_like(host: str, more: str) -> None:
    """Whatever is added is either part of the host and the port, to the letter, or refused."""
    try:
        origin = check_origin(f"https://{host}{more}")
    except ValueError:
        return
    assert f"https://{host}{more}".lower().removesuffix("/") in {str(origin), f"{origin}:443"}


@pytest.mark.req("RS8")
@pytest.mark.parametrize("check", [check_base_url, check_origin])
def test_the_error_does_not_quote_what_stands_in_the_place_of_the_port(check: Callable[[str], object]) -> None:
    """`https://user:password` has lost its host; Python's own error quotes the password as a port."""
    with pytest.raises(ValueError, match="not an absolute URL") as caught:
        check("https://me:canary-7")
    assert "canary-7" not in "".join(traceback.format_exception(caught.value)).replace('"https://me:canary-7"', "")
