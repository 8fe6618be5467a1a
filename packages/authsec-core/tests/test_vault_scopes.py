"""Vault scopes: what reaches which secret, segment by segment, held against an oracle that splits and compares."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsec_core.vault_scopes import (
    LONGEST_PATH,
    MOST_SCOPES,
    VaultAction,
    VaultScope,
    check_namespace,
    check_path,
    format_vault_scopes,
    parse_vault_scopes,
    split_path,
)

ACTIONS = get_args(VaultAction)
segments = st.sampled_from(["production", "production-x", "Production", "p", "openai", "api-key", "*x".strip("*")])
namespaces = st.lists(segments, min_size=1, max_size=4).map("/".join)
paths = st.lists(segments, min_size=2, max_size=4).map("/".join)
patterns = st.one_of(st.just("*"), paths, namespaces.map(lambda name: f"{name}/*"))
scopes = st.builds(VaultScope, action=st.sampled_from([*ACTIONS, "*"]), pattern=patterns)

NOT_A_PATH = [
    "",
    "/",
    "//",
    "/production/key",
    "production/key/",
    "production//key",
    "production/./key",
    "production/../key",
    "..",
    ".",
    "production/%2e%2e/key",
    "production%2Fkey/x",
    "production\\key/x",
    "production/ke y",
    "production/key\n",
    "production/key\x00",
    "production/k\u00e9y",
    "production\uff0fkey/x",  # a fullwidth solidus
    "production\u2215key/x",  # a division slash
    "production/\uff0e\uff0e/key",  # fullwidth full stops
    "production/\u202ekey",
    "pr\u043eduction/key",  # a Cyrillic o
    "production/*",
    "production/key?version=1",
    "production/key#a",
    "production/import/key",
    "production/rotate",
    "a/" + "b" * 129,
    "/".join(["a"] * 17),
]


def matches(pattern: str, path: str) -> bool:
    """What the contract says, in the plainest way: compare segments; a last `*` stands for one or more."""
    wanted, found = pattern.split("/"), path.split("/")
    if wanted[-1] != "*":
        return wanted == found
    return len(found) >= len(wanted) and wanted[:-1] == found[: len(wanted) - 1]


@pytest.mark.req("RW2")
@given(scopes, st.sampled_from(ACTIONS), paths)
def test_a_scope_covers_what_its_segments_say(scope: VaultScope, action: VaultAction, path: str) -> None:
    """Whole segments are compared, with their case, and `*` is one tail; the action is exact, or `*`."""
    assert scope.covers(action, path) is (scope.action in (action, "*") and matches(scope.pattern, path))


@pytest.mark.req("RW2")
@given(scopes, scopes, st.sampled_from(ACTIONS), paths)
def test_an_included_scope_allows_nothing_more(
    wide: VaultScope, narrow: VaultScope, action: VaultAction, path: str
) -> None:
    """What a scope includes covers no path that it does not cover itself."""
    if wide.includes(narrow) and narrow.covers(action, path):
        assert wide.covers(action, path)


@pytest.mark.req("RW2")
@given(scopes, st.sampled_from(ACTIONS), st.one_of(st.just(""), namespaces), paths)
def test_a_scope_reaches_each_namespace_in_which_it_covers_something(
    scope: VaultScope, action: VaultAction, namespace: str, path: str
) -> None:
    """A namespace with a covered path in it is reached; one that no path of the scope can lie in is not."""
    below = f"{namespace}/" if namespace else ""
    if path.startswith(below) and scope.covers(action, path):
        assert scope.reaches(action, namespace)
    if scope.reaches(action, namespace):
        stem = scope.pattern.removesuffix("*")
        inside = stem if stem.startswith(below) else below
        inside = f"{inside}a/b" if scope.pattern.endswith("*") else scope.pattern
        assert inside.startswith(below)
        assert scope.covers(action, inside)


@pytest.mark.req("RW2")
@pytest.mark.parametrize(
    ("pattern", "path", "covered"),
    [
        ("production/*", "production/openai", True),
        ("production/*", "production/openai/api-key", True),
        ("production/*", "production", False),
        ("production/*", "production-x/openai", False),
        ("production/*", "Production/openai", False),
        ("production/openai", "production/openai", True),
        ("production/openai", "production/openai/api-key", False),
        ("production/openai/*", "production/openai", False),
        ("*", "a/b", True),
    ],
)
def test_the_edges_of_patterns(pattern: str, path: str, covered: bool) -> None:
    """Of a namespace `*` covers what is below it: not itself, and not what only begins like it."""
    assert VaultScope.parse(f"secrets:read:{pattern}").covers("read", path) is covered


@pytest.mark.req("RW2")
@pytest.mark.parametrize("path", NOT_A_PATH)
def test_what_is_no_path_is_refused(path: str) -> None:
    """Traversal, empty segments, escapes, look-alikes and reserved names are no paths, nor parts of patterns."""
    with pytest.raises(ValueError, match=r"path|segment"):
        check_path(path)
    with pytest.raises(ValueError, match=r"path|segment|scope"):
        VaultScope.parse(f"secrets:read:{path}" if "*" not in path else f"secrets:read:{path}/key")


@pytest.mark.parametrize("path", NOT_A_PATH)
def test_a_refused_path_is_not_quoted(path: str) -> None:
    """The message says what is wrong and repeats nothing of what was sent: a key may stand in the wrong place."""
    with pytest.raises(ValueError, match=r"path|segment") as caught:
        check_path(f"sk-canary-{path}/")
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "secrets:read",
        "secrets::production/*",
        "secrets:Read:production/*",
        "secret:read:production/*",
        "secrets:read:",
        "secrets:read:production/*/key",
        "secrets:read:production/k*",
        "secrets:read:**",
        "secrets:read:production",
        " secrets:read:production/*",
        "secrets:read:production/* ",
        "secrets:read:production/*:x",
        "*",
        "",
    ],
)
def test_what_is_no_scope_is_refused(text: str) -> None:
    """Three parts, known words, and a pattern whose only wildcard is its last segment."""
    with pytest.raises(ValueError, match=r"scope|path|segment"):
        VaultScope.parse(text)


@given(st.lists(scopes, min_size=1, max_size=MOST_SCOPES))
def test_scopes_have_one_spelling(given_scopes: list[VaultScope]) -> None:
    """What is formatted is parsed to the same scopes, sorted and each once, as a list or as one text."""
    text = format_vault_scopes(set(given_scopes))
    found = parse_vault_scopes(text)
    assert found == tuple(sorted(set(given_scopes))) == parse_vault_scopes([str(scope) for scope in given_scopes])


@pytest.mark.parametrize("given_scopes", ["", [], "secrets:read:a/b  secrets:read:a/c"])
def test_no_scope_at_all_is_an_error(given_scopes: str | list[str]) -> None:
    """An empty list, or an empty one in a list, is a mistake."""
    with pytest.raises(ValueError, match="scope"):
        parse_vault_scopes(given_scopes)


def test_scopes_are_limited_in_number() -> None:
    """More than a person can look through is refused."""
    with pytest.raises(ValueError, match="scopes"):
        parse_vault_scopes([f"secrets:read:a/b{number}" for number in range(MOST_SCOPES + 1)])


def test_a_path_is_limited_in_length() -> None:
    """One character more than the longest path is no path."""
    segment = "a" * 127
    longest = "/".join([segment] * 4)
    assert len(longest) == LONGEST_PATH - 1
    assert check_path(f"{longest}a") == f"{longest}a"
    with pytest.raises(ValueError, match="characters"):
        check_path(f"{longest[:-1]}/aa")


def test_a_path_is_a_namespace_and_a_key() -> None:
    """The last segment is the key; a namespace alone is no secret."""
    assert split_path(check_path("production/openai/api-key")) == ("production/openai", "api-key")
    assert check_namespace("production") == "production"
    with pytest.raises(ValueError, match="namespace and a key"):
        check_path("production")
