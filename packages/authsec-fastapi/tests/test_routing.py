"""Which rule is a request's: exact methods and segments, and nothing that is spelled in another way."""

from __future__ import annotations

import pytest

from authsec_fastapi import RouteRule
from authsec_fastapi.routing import match_route, overlap

GET = frozenset({"GET"})
ROUTES = (
    RouteRule(path="/", methods=GET),
    RouteRule(path="/chat", methods=frozenset({"POST", "WEBSOCKET"})),
    RouteRule(path="/reports/{name}", methods=GET),
    RouteRule(path="/reports/all", methods=GET),
    RouteRule(path="/{kind}/{name}/rows", methods=GET),
    RouteRule(path="/reports/{name}/rows", methods=GET),
    RouteRule(path="/files/", methods=GET),
)

OTHER_PATHS = (
    *(
        "",
        "*",
        "chat",
        "//",
        "/chat/",
        "//chat",
        "/chat//",
        "/Chat",
        "/chat;x",
        "/chat?x",
        "/chat%20",
        "/chat ",
        "/chat\n",
    ),
    *(
        "/reports/",
        "/reports/.",
        "/reports/..",
        "/reports//x",
        "/reports/x/y",
        "/reports/{name}/",
        "/files",
        "/files//",
    ),
    *("/reports/all\n", "/reports/all\0", "/reports/al\u200bl", "/reports/x\r", "/reports/\x7f", "/x/\n/rows"),
    *("/ch\u0430t", "http://host/chat", "\\chat", "/chat\\"),
)


def found(method: str, path: str) -> str | None:
    """Return the path of the rule that matches."""
    rule = match_route(ROUTES, method, path)
    return None if rule is None else rule.path


@pytest.mark.req("RV6")
@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/", "/"),
        ("POST", "/chat", "/chat"),
        ("WEBSOCKET", "/chat", "/chat"),
        ("GET", "/reports/x", "/reports/{name}"),
        ("GET", "/reports/all", "/reports/all"),
        ("GET", "/reports/ALL", "/reports/{name}"),
        ("GET", "/a/x/rows", "/{kind}/{name}/rows"),
        ("GET", "/reports/x/rows", "/reports/{name}/rows"),
        ("GET", "/files/", "/files/"),
    ],
)
def test_the_nearest_rule_is_found(method: str, path: str, expected: str) -> None:
    """A segment in braces is any one segment, and of several rules the one with fewer braces counts."""
    assert found(method, path) == expected


@pytest.mark.req("RV5")
@pytest.mark.parametrize("method", ["get", "Post", "HEAD", "OPTIONS", "TRACE", "POST ", "", "MADE-UP", "GET"])
def test_another_method_has_no_rule(method: str) -> None:
    """GET is not HEAD, `post` is not POST, and a WebSocket is no GET."""
    assert found(method, "/chat") is None


@pytest.mark.req("RV5")
@pytest.mark.parametrize("path", OTHER_PATHS)
def test_another_spelling_has_no_rule(path: str) -> None:
    """Nothing is normalised: a path that is spelled in another way is another path."""
    assert {method: found(method, path) for method in ("GET", "POST", "WEBSOCKET")} == {
        "GET": None,
        "POST": None,
        "WEBSOCKET": None,
    }


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("/a", "/a", True),
        ("/a", "/b", False),
        ("/a", "/a/", False),
        ("/{x}", "/", False),
        ("/{x}", "/{y}", True),
        ("/a/{x}", "/{y}/b", True),
        ("/a/{x}", "/{y}/", False),
        ("/a/{x}", "/b/{x}", False),
        ("/a/{x}", "/a/{x}/c", False),
    ],
)
def test_two_paths_overlap_where_one_request_matches_both(one: str, other: str, expected: bool) -> None:
    """It does not depend on their order."""
    assert overlap(one, other) is expected
    assert overlap(other, one) is expected
