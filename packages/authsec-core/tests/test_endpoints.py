"""An endpoint that a model chose becomes one URL below the operator's API, or it is refused and nothing happens."""

from __future__ import annotations

import posixpath
import unicodedata
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx
import pytest
from api_support import World, fetch, tool
from core_support import Driver
from hypothesis import example, given
from hypothesis import strategies as st

from authsec_core.endpoints import EndpointPolicy
from authsec_core.errors import AuthSecError, EndpointRefusedError, ScopeRefusedError

BASE = "https://api.test:8443/v2"

# Characters that are read as a slash, a backslash, a dot, a colon, or as nothing at all.
SLASHES = "\uff0f\u2044\u2215\u29f8\u2571\u27cb\u2afd\u2041\u1735\u31d3\U0001d23a\U0001f67c"
BACKSLASHES = "\uff3c\ufe68\u2216\u29f5\u29f9\u2572\u27cd\u31d4\U0001d20f\U0001d23b\U0001f67d"
DOTS = "\uff0e\ufe52\u2024\u2025\u2026\u00b7\u3002\uff61\u0701\u0702\u06d4\ua4f8\ua60e\U00010a50\U0001d16d"
OTHERS = "\uff1a\ufe55\u2236\ua789\u02d0\uff20\ufe6b\uff1f\ufe56\uff03\ufe5f\uff05\ufe6a\u2100\u2101\u2105\u2106"
INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff\u00ad\u180e\u2061\U000e0041\u061c"
BIDI = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f"
CONTROLS = "".join(map(chr, [*range(0x20), *range(0x7F, 0xA0)])) + "\u2028\u2029\ufff9\ue000\U000f0000\ufffe\U0010ffff"


def escaped(text: str) -> str:
    """Return the text with every byte percent-encoded."""
    return "".join(f"%{byte:02x}" for byte in text.encode("utf-8", "surrogatepass"))


def around(character: str) -> list[str]:
    """Return an endpoint for each place where a character could do harm."""
    raw = [f"a{character}b", f"{character}a", f"a{character}", f"a/{character}/b", f"..{character}a", character]
    return [*raw, *(endpoint.replace(character, escaped(character)) for endpoint in raw)]


HOSTILE = [
    # nothing, and what is not text
    *("", "/", "//", "///", "?", "/?", "?x=1", "#", None, 5, True, b"a", ["a"], {"a": 1}),
    # absolute URLs and other schemes
    *("https://evil.test", "https://evil.test/x", "http://evil.test", "HTTPS://evil.test", "https:evil", "https:/evil"),
    *("file:///etc/passwd", "ftp://evil.test", "gopher://x", "javascript:alert(1)", "data:,x", "blob:x", "ws://evil"),
    *("https%3a//evil.test", "https%3A%2F%2Fevil.test", "a+b-c.d:x", "mailto:x@evil.test", "/https://evil.test"),
    *(" https://evil.test", "\thttps://evil.test", "\x00https://evil.test", "view-source:https://evil.test"),
    # another host without a scheme
    *("//evil.test", "///evil.test", "////evil.test", "/\\evil.test", "\\\\evil.test", "\\/evil.test", "/\t/evil.test"),
    *("/%2fevil.test", "%2f%2fevil.test", "%2f/evil.test", "/%5cevil.test", "%5c%5cevil.test", "/\n/evil.test"),
    # userinfo
    *("user@evil.test", "user:pass@evil.test", "@evil.test", "a@b/c", "//user@evil.test", "a%40b@evil.test"),
    # climbing
    *("..", "../", "../a", "a/..", "a/../b", "a/../../b", "./a", ".", "a/.", "a/./b", "..\\a", "a\\..\\b", "a/..\\b"),
    *("%2e%2e/a", "%2e%2e%2fa", ".%2e/a", "%2e./a", "%2E%2E/a", "%2e/a", "a/%2e%2e/b", "a%2f..%2fb", "..%2fa", "a%2fb"),
    *("..%5ca", "%2e%2e%5ca", "a%5cb", "a\\b", "..;/a", "a/..;/b", "..;x=1/a", "a/..;/..;/b", ".;/a", "%2e%2e;/a"),
    *("..%3b/a", "%2e%2e%3b/a", "..%3bx/a", " ../a", ".. /a", "..\u00a0/a", "..%20/a", "%20../a", "a/.. /b", " ."),
    # encoded twice, or not properly
    *(
        "%252e%252e/a",
        "%252e%252e%252fa",
        "%25252e/a",
        "a%252fb",
        "%%32%65",
        "%2%65",
        "%u002e%u002e/a",
        "%c0%ae%c0%ae/a",
    ),
    *(
        "%c0%af",
        "%e0%80%af",
        "%f8%80%80%80%af",
        "%ff",
        "%fe%ff",
        "%80",
        "%",
        "a%",
        "a%2",
        "a%zz",
        "%2",
        "%\uff12\uff25",
    ),
    *("%ed%a0%80", "a%00", "%00", "a%0d%0aX: y", "a%0a", "a%09b", "a%7f", "%1b[2J"),
    # empty segments, fragments, surrounding space
    *(
        "a//b",
        ";",
        ";x/a",
        "a/;/b",
        "%3b/a",
        "a//",
        "a///b",
        "/a//b",
        "a#b",
        "a%23b",
        "a%3fb",
        " a",
        "a ",
        "a/ b",
        "a/b /c",
        "\u00a0a",
        "a\u3000",
    ),
    # queries that are not
    *("a?b#c", "a?b\nc", "a?%0a", "a?%00", "a?b%", "a?%zz", "a?%ff", "a?\u202e", "a?\x7f", "a?%e2%80%ae", "a?\ud800"),
    # surrogates, and too long
    *(
        "\ud800",
        "a\udfff",
        "\ud83d",
        "a/\udc80/b",
        "a" * 2049,
        "a/" * 2000,
        "%61" * 700,
        "?" * 2049,
        "\U0001f511" * 2049,
    ),
    "\ufeffa",
]
DISGUISES = {
    "slashes": SLASHES,
    "backslashes": BACKSLASHES,
    "dots": DOTS,
    "other separators": OTHERS,
    "invisible": INVISIBLE,
    "bidi": BIDI,
    "controls": CONTROLS,
}


POLICIES = (
    EndpointPolicy(BASE),
    EndpointPolicy(BASE, allowed=["a", "b", "evil.test"]),
    EndpointPolicy(BASE, scopes={"a": "read"}),
)


@pytest.mark.req("RD1")
@pytest.mark.parametrize("endpoint", HOSTILE, ids=ascii)
def test_a_hostile_endpoint_is_refused(endpoint: Any) -> None:
    """Whatever is not a plain relative path is refused, with and without an allow-list, and is not repeated."""
    for policy in POLICIES:
        with pytest.raises(EndpointRefusedError) as caught:
            policy.grant(endpoint, "read")
        assert "evil" not in str(caught.value).replace("'evil.test'", "")
        assert len(str(caught.value)) < 1000


@pytest.mark.req("RD1")
@pytest.mark.parametrize("kind", DISGUISES)
def test_a_character_in_disguise_is_refused(kind: str) -> None:
    """What is read as a separator, or as nothing at all, is refused raw and percent-encoded, wherever it stands."""
    for character in DISGUISES[kind]:
        for endpoint in around(character):
            for policy in POLICIES:
                with pytest.raises(EndpointRefusedError):
                    policy.grant(endpoint, "read")


@pytest.mark.req("RD1")
@pytest.mark.parametrize("guarded", [False, True])
def test_nothing_leaves_and_nothing_is_minted_for_a_hostile_endpoint(driver: Driver, guarded: bool) -> None:
    """A refusal comes before the token, for people and for the tool: neither the authority nor the API hears of it."""
    world = World()
    client = world.client(driver, allowed_endpoints=("a",) if guarded else None)
    disguised = (endpoint for kind in DISGUISES.values() for character in kind for endpoint in around(character)[:1])
    for endpoint in (*HOSTILE, *disguised):
        if isinstance(endpoint, str):
            with pytest.raises(EndpointRefusedError):
                fetch(driver, client, endpoint, "read")
        assert '"code": "endpoint_refused"' in tool(driver, client, endpoint, "read")
    assert world.silent
    assert fetch(driver, client, "a", "read").ok
    assert not world.silent


@pytest.mark.req("RD1")
def test_the_disguises_are_disguises() -> None:
    """Each character in the table is one beyond ASCII, or a control: nothing there is refused for another reason."""
    for characters in DISGUISES.values():
        assert len(set(characters)) == len(characters)
        assert not any(character.isascii() and character.isprintable() for character in characters)
    assert EndpointPolicy(BASE).grant("ab").url == f"{BASE}/ab"


@pytest.mark.parametrize(
    ("endpoint", "url", "path"),
    [
        ("a", "/a", "a"),
        ("/a", "/a", "a"),
        ("a/b/c", "/a/b/c", "a/b/c"),
        ("a/", "/a/", "a/"),
        ("/a/b/", "/a/b/", "a/b/"),
        ("secure-vault/metrics", "/secure-vault/metrics", "secure-vault/metrics"),
        ("a.b/c..d/...", "/a.b/c..d/...", "a.b/c..d/..."),
        (".well-known/x", "/.well-known/x", ".well-known/x"),
        ("a;b=1/c", "/a;b=1/c", "a;b=1/c"),
        ("a/b:c", "/a/b:c", "a/b:c"),
        ("v1/a:run", "/v1/a:run", "v1/a:run"),
        ("a/b@c", "/a/b@c", "a/b@c"),
        ("a%40b", "/a@b", "a@b"),
        ("a b/c", "/a%20b/c", "a b/c"),
        ("a%20b", "/a%20b", "a b"),
        ("a+b", "/a+b", "a+b"),
        ("%61", "/a", "a"),
        ("gar\u00e7on", "/gar%C3%A7on", "gar\u00e7on"),
        ("gar%c3%a7on", "/gar%C3%A7on", "gar\u00e7on"),
        ("\u65e5\u672c/\U0001f511", "/%E6%97%A5%E6%9C%AC/%F0%9F%94%91", "\u65e5\u672c/\U0001f511"),
        ("a<b>\"c'|{}^`", "/a%3Cb%3E%22c'%7C%7B%7D%5E%60", "a<b>\"c'|{}^`"),
        ("a[0]", "/a%5B0%5D", "a[0]"),
        ("a?", "/a?", "a"),
        ("a?x=1&y=2", "/a?x=1&y=2", "a"),
        ("a?x=../../b", "/a?x=../../b", "a"),
        ("a?next=https://evil.test", "/a?next=https://evil.test", "a"),
        ("a?x=%2F%20%C3%A9", "/a?x=%2F%20%C3%A9", "a"),
        ("a?x=\u00e9 b", "/a?x=%C3%A9%20b", "a"),
        ("a?x=?", "/a?x=?", "a"),
        ("a?x=%252e", "/a?x=%252e", "a"),
        ("a?x=[1]", "/a?x=%5B1%5D", "a"),
        ("a" * 2048, "/" + "a" * 2048, "a" * 2048),
    ],
)
def test_a_plain_path_is_joined_to_the_base(endpoint: str, url: str, path: str) -> None:
    """The base path and the query are kept, text is sent as UTF-8, and the policy is asked about the decoded path."""
    grant = EndpointPolicy(BASE).grant(endpoint)
    assert (grant.url, grant.path, grant.scopes) == (BASE + url, path, None)


@pytest.mark.parametrize(
    "base", ["https://api.test", "https://api.test/", "https://api.test/v2", "https://api.test/v2/"]
)
def test_a_trailing_slash_of_the_base_makes_no_difference(base: str) -> None:
    """There is one slash between the base and the endpoint."""
    policy = EndpointPolicy(base)
    assert policy.base_url == base.rstrip("/")
    assert policy.grant("a").url == base.rstrip("/") + "/a"


BAITS = [
    *(
        "a",
        "b",
        "v2",
        ".",
        "..",
        "...",
        "/",
        "//",
        "\\",
        "%",
        "%2e",
        "%2E",
        "%2f",
        "%5c",
        "%25",
        "%00",
        "%c0%ae",
        ";",
        ":",
    ),
    *(
        "@",
        "?",
        "#",
        " ",
        "\t",
        "\n",
        "http:",
        "https://evil.test",
        "evil.test",
        "%u002e",
        "\u00e9",
        "\u202e",
        "\ud800",
    ),
    *("\uff0f", "\uff0e", "\u2024", "\u2215", "\u2100", "%ef%bc%8f", "%20", "&", "=", "+", "~", "\u0301", "\U0001f511"),
]
endpoints = st.lists(st.sampled_from(BAITS), max_size=8).map("".join) | st.text(max_size=12)


def normalized(path: str) -> str:
    """Return where the laziest of servers could end up: decoded to the end, folded, parameters cut, dots resolved."""
    for _ in range(4):
        path = unicodedata.normalize("NFKC", unquote(path)).replace("\\", "/")
    segments = [segment.split(";", 1)[0].strip() for segment in path.split("/")]
    return posixpath.normpath("/".join(segments))


@pytest.mark.req("RD1")
@given(endpoints, st.sampled_from(["https://api.test", BASE, "http://127.0.0.1:8000/base/path", "https://[::1]:8443"]))
@example("..;/a", BASE)
@example("%2e%2e/a", BASE)
@example("a%2f..%2f..%2fb", BASE)
@example("\u2024\u2024/a", BASE)
def test_an_accepted_endpoint_stays_below_the_base(endpoint: str, base: str) -> None:
    """Whichever parser reads the URL finds the operator's origin, and no reading of the path leaves the base path."""
    try:
        grant = EndpointPolicy(base).grant(endpoint)
    except EndpointRefusedError:
        return
    assert grant.url.isascii()
    assert grant.url.isprintable()
    sent, split, expected = httpx.URL(grant.url), urlsplit(grant.url), httpx.URL(base)
    assert (sent.scheme, sent.host, sent.port) == (expected.scheme, expected.host, expected.port)
    assert split.netloc == urlsplit(base).netloc
    assert (sent.userinfo, sent.fragment, split.fragment) == (b"", "", "")
    below = expected.path.rstrip("/")
    for path in (split.path, sent.path, sent.raw_path.decode().partition("?")[0]):
        assert path.startswith(below + "/")
        assert normalized(path).startswith(below + "/")
    resolved = httpx.URL(base).join(grant.url)  # by a client that resolves dots once more
    assert (resolved.netloc, resolved.path.startswith(below + "/")) == (sent.netloc, True)


@pytest.mark.req("RD1")
@given(endpoints)
def test_what_was_checked_is_what_is_sent(endpoint: str) -> None:
    """The path that the policy judged and the path that is sent are the same, and judging it again changes nothing."""
    policy = EndpointPolicy(BASE)
    try:
        grant = policy.grant(endpoint)
    except EndpointRefusedError:
        return
    sent = httpx.URL(grant.url)
    assert sent.path == f"/v2/{grant.path}"
    again = policy.grant(str(sent).removeprefix(BASE))
    assert (again.url, again.path) == (grant.url, grant.path)


@given(st.lists(st.text("ab", min_size=1, max_size=2), min_size=1, max_size=4), st.sets(st.text("ab/", max_size=5)))
def test_the_allow_list_is_a_prefix_at_segment_boundaries(segments: list[str], entries: set[str]) -> None:
    """An entry covers itself and what lies below it, and nothing that merely begins alike."""
    listed = [entry for entry in entries if entry.strip("/") and "//" not in f"/{entry.strip('/')}"]
    policy = EndpointPolicy(BASE, allowed=[entry.strip("/") for entry in listed])
    covers = any(segments[: len(parts)] == parts for parts in (entry.strip("/").split("/") for entry in listed))
    try:
        policy.grant("/".join(segments))
    except EndpointRefusedError:
        assert not covers
    else:
        assert covers


@pytest.mark.req("RD1")
@pytest.mark.parametrize(
    ("endpoint", "covered"),
    [
        ("secure-vault/metrics", True),
        ("/secure-vault/metrics", True),
        ("secure-vault/metrics/", True),
        ("secure-vault/metrics/daily", True),
        ("secure-vault/metrics?day=1", True),
        ("secure%2dvault/metrics", True),
        ("secure-vault/metrics-2", False),
        ("secure-vault/metric", False),
        ("secure-vault", False),
        ("secure-vault/", False),
        ("Secure-Vault/metrics", False),
        ("secure-vault/metrics;x", False),
        ("x/secure-vault/metrics", False),
        ("secure-vault/x?y=secure-vault/metrics", False),
        ("gar\u00e7on", True),
        ("garc\u0327on", False),
        ("nested/deep", True),
        ("nested", False),
    ],
)
def test_the_allow_list_is_exact(endpoint: str, covered: bool) -> None:
    """Case, spelling in unicode and segment boundaries count; encoding and a leading slash do not."""
    policy = EndpointPolicy(BASE, allowed=["secure-vault/metrics", "/gar%c3%a7on/", "nested/deep"])
    if covered:
        assert policy.grant(endpoint, "read").scopes == frozenset({"read"})
        return
    with pytest.raises(EndpointRefusedError, match="not permitted"):
        policy.grant(endpoint, "read")


@pytest.mark.parametrize("rules", [{"allowed": []}, {"scopes": {}}, {"allowed": [], "scopes": {}}])
def test_an_empty_list_permits_nothing(rules: dict[str, Any]) -> None:
    """Empty is not the same as absent: it permits no endpoint, and the description says so."""
    policy = EndpointPolicy(BASE, **rules)
    with pytest.raises(EndpointRefusedError):
        policy.grant("a")
    assert policy.describe() == "No endpoint is permitted."


@pytest.mark.parametrize(
    "rules",
    [
        *(
            {"allowed": [entry]}
            for entry in ("", "/", "..", "a/../b", "https://api.test/a", "a//b", "a?x=1", "a#b", "%2e")
        ),
        {"scopes": {"../a": "read"}},
        {"scopes": {"a": ""}},
        {"scopes": {"a": []}},
        {"scopes": {"a": 'x"y'}},
        {"allowed": ["a"], "scopes": {"b": "read"}},
        {"allowed": ["a/b"], "scopes": {"a": "read"}},
        {"allowed": ["a"], "scopes": {"ab": "read"}},
        {"allowed": [], "scopes": {"a": "read"}},
    ],
)
def test_rules_that_cannot_be_meant_are_refused(rules: dict[str, Any]) -> None:
    """An entry that is no path, a blank scope, and scopes for what is not allowed are errors from the start."""
    with pytest.raises(ValueError, match=r"."):
        EndpointPolicy(BASE, **rules)


@pytest.mark.req("RD3")
@pytest.mark.parametrize("again", ["/a/b", "a/b/", "/a/b/", "a/%62", "%61/b"])
@pytest.mark.parametrize("rules", [{}, {"allowed": ["a"]}])
def test_one_endpoint_in_two_spellings_is_refused(again: str, rules: dict[str, Any]) -> None:
    """Of two entries for one endpoint neither may silently win, in either order."""
    for first, second in (("a/b", again), (again, "a/b")):
        with pytest.raises(ValueError, match="'a/b' is named more than once"):
            EndpointPolicy(BASE, scopes={first: "read", second: "admin"}, **rules)


def test_the_allow_list_may_repeat_itself() -> None:
    """An entry of the list carries nothing that another one could contradict."""
    assert EndpointPolicy(BASE, allowed=["a", "/a/", "%61"]).describe() == "Permitted endpoints: 'a'."


MAP = {"vault": "read:vault", "vault/metrics": "read:metrics read:daily", "open": "read:open"}


@pytest.mark.req("RD3")
@pytest.mark.parametrize(
    ("endpoint", "named", "scopes"),
    [
        ("vault/metrics", None, {"read:metrics", "read:daily"}),
        ("vault/metrics", "read:metrics", {"read:metrics"}),
        ("vault/metrics", "read:daily read:metrics", {"read:metrics", "read:daily"}),
        ("vault/metrics", "read:metrics admin", {"read:metrics"}),
        ("vault/metrics/x", "read:metrics", {"read:metrics"}),
        ("vault/metrics", ["read:daily"], {"read:daily"}),
        ("vault/records", None, {"read:vault"}),
        ("vault", "read:vault", {"read:vault"}),
        ("vault/metrics", "read:vault", None),
        ("vault/metrics-2", "read:metrics", None),
        ("vault/metrics-2", "read:vault", {"read:vault"}),
        ("vault/metrics", "read", None),
        ("vault/metrics", "*", None),
        ("vault/metrics", "READ:METRICS", None),
        ("vault/metrics", "admin", None),
    ],
)
def test_the_longest_entry_decides_and_the_caller_only_narrows(
    endpoint: str, named: Any, scopes: set[str] | None
) -> None:
    """What is asked for is what was named and is allowed there; nothing left of it is a refusal."""
    policy = EndpointPolicy(BASE, scopes=MAP)
    if scopes is not None:
        assert policy.grant(endpoint, named).scopes == frozenset(scopes)
        return
    with pytest.raises(ScopeRefusedError, match=r"not permitted for this endpoint\. Permitted: read:"):
        policy.grant(endpoint, named)


@pytest.mark.req("RD3")
def test_naming_an_endpoint_in_both_lists_does_not_widen_it() -> None:
    """An allowed endpoint without scopes of its own has those of the entry above it."""
    policy = EndpointPolicy(BASE, allowed=["a", "a/b", "a/b/c", "d"], scopes={"a": "read", "a/b/c": "write"})
    assert policy.grant("a/b", "read write").scopes == frozenset({"read"})
    assert policy.grant("a/b/c", "read write").scopes == frozenset({"write"})
    assert policy.grant("d", "anything").scopes == frozenset({"anything"})
    with pytest.raises(ScopeRefusedError):
        policy.grant("a/b/x", "write")


scope_sets = st.sets(st.sampled_from("rwxyz"), min_size=1)


@pytest.mark.req("RD3")
@given(
    st.dictionaries(st.sampled_from(["a", "a/b", "a/b/c", "d"]), scope_sets),
    st.sampled_from(["a", "a/b", "a/b/c", "a/b/c/x", "a/bb", "d", "e"]),
    st.none() | scope_sets,
)
def test_the_scopes_are_asked_and_allowed(mapped: dict[str, set[str]], endpoint: str, named: set[str] | None) -> None:
    """For every map: the longest entry at a segment boundary, intersected with what was named, or a refusal."""
    policy = EndpointPolicy(BASE, scopes=mapped)
    entries = [entry for entry in mapped if f"{endpoint}/".startswith(f"{entry}/")]
    if not entries:
        with pytest.raises(EndpointRefusedError):
            policy.grant(endpoint, named)
        return
    allowed = mapped[max(entries, key=len)]
    expected = allowed if named is None else allowed & named
    if expected:
        assert policy.grant(endpoint, named).scopes == frozenset(expected)
        return
    with pytest.raises(ScopeRefusedError):
        policy.grant(endpoint, named)


@pytest.mark.req("RD3")
@pytest.mark.parametrize(
    "scope", ["", " ", 'a"b', "a\\b", "a\nb", "\u00e9", "a\u200bb", "a" * 5000, [], [1], 5, object()]
)
def test_a_scope_that_is_none_is_refused(scope: Any) -> None:
    """Blank, malformed or of another type: refused like an endpoint, before anything is asked of anyone."""
    for policy in (EndpointPolicy(BASE), EndpointPolicy(BASE, scopes={"a": "read"})):
        with pytest.raises(ScopeRefusedError) as caught:
            policy.grant("a", scope)
        assert len(str(caught.value)) < 300


@pytest.mark.req("RD3")
def test_a_scope_that_leaves_nothing_mints_nothing(driver: Driver) -> None:
    """An empty intersection is refused before the exchange."""
    world = World()
    client = world.client(driver, endpoint_scopes={"a": "read"})
    with pytest.raises(ScopeRefusedError):
        fetch(driver, client, "a", "write")
    assert '"code": "scope_refused"' in tool(driver, client, "a", "write")
    assert world.silent


@pytest.mark.parametrize(
    "policy",
    [
        EndpointPolicy(BASE),
        EndpointPolicy(BASE, allowed=[]),
        EndpointPolicy(BASE, allowed=["a"]),
        EndpointPolicy(BASE, allowed=[f"endpoint/number-{number}" for number in range(5000)]),
        EndpointPolicy(BASE, allowed=["x" * 2048, "y" * 2000]),
        EndpointPolicy(BASE, scopes={f"e{n}": " ".join(f"scope:{m}" for m in range(400)) for n in range(50)}),
    ],
)
def test_the_description_is_bounded(policy: EndpointPolicy) -> None:
    """A model's provider refuses tools with long descriptions, so that every policy is described in 600 characters."""
    assert 0 < len(policy.describe()) <= 600
    with pytest.raises(AuthSecError) as caught:
        policy.grant("not/there//")
    assert len(str(caught.value)) < 800


def test_the_description_says_what_may_be_asked() -> None:
    """Each endpoint is listed with its scopes, and what does not fit is counted."""
    policy = EndpointPolicy(BASE, allowed=["b", "a"], scopes={"a/x": "read write"})
    assert policy.describe() == "Permitted endpoints: 'a'; 'a/x' with scope 'read write'; 'b'."
    many = EndpointPolicy(BASE, allowed=[f"endpoint-{number:03d}" for number in range(100)]).describe()
    assert many.startswith("Permitted endpoints: 'endpoint-000'; 'endpoint-001'; ")
    listed = many.count("'endpoint-")
    assert listed > 20
    assert many.endswith(f"; and {100 - listed} more.")


def test_a_policy_cannot_be_changed() -> None:
    """It copies what it was given and has no attribute to assign to."""
    allowed, scopes = ["a"], {"a": ["read"]}
    policy = EndpointPolicy(BASE, allowed=allowed, scopes=scopes)
    allowed.append("b")
    scopes["a"].append("write")
    assert policy.grant("a").scopes == frozenset({"read"})
    with pytest.raises(EndpointRefusedError):
        policy.grant("b")
    with pytest.raises(AttributeError):
        policy.extra = 1  # type: ignore[attr-defined]  # what the test is about
    assert repr(policy).startswith(f"EndpointPolicy('{BASE}', ")
