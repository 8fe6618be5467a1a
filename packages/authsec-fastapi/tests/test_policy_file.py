"""A policy file says what it says or nothing: whatever could be read in two ways is refused, with place and mend."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authsec_core import ConfigurationError
from authsec_fastapi import Policy, RouteRule, ToolRule, load_policy

WHOLE = """\
version: 1
roles:
  viewer: [read]
  agent: [read, respond]
  guest: []
tools:
  lookup_order: {scopes: [read:orders]}
  refund: {scopes: [write:refunds], action: respond, role: agent}
  clock: {}
routes:
  - {path: /health, methods: [GET], public: true}
  - {path: /chat, methods: [POST, WEBSOCKET], action: respond}
  - {path: "/reports/{name}", methods: [GET], scopes: [read:orders], role: viewer, public: false}
"""
WHOLE_TOML = """\
version = 1
[roles]
viewer = ["read"]
agent = ["read", "respond"]
guest = []
[tools]
lookup_order = { scopes = ["read:orders"] }
clock = {}
[tools.refund]
scopes = ["write:refunds"]
action = "respond"
role = "agent"
[[routes]]
path = "/health"
methods = ["GET"]
public = true
[[routes]]
path = "/chat"
methods = ["POST", "WEBSOCKET"]
action = "respond"
[[routes]]
path = "/reports/{name}"
methods = ["GET"]
scopes = ["read:orders"]
role = "viewer"
public = false
"""
MEANT = Policy(
    roles={"viewer": frozenset({"read"}), "agent": frozenset({"read", "respond"}), "guest": frozenset()},
    tools={
        "lookup_order": ToolRule(scopes=frozenset({"read:orders"})),
        "refund": ToolRule(scopes=frozenset({"write:refunds"}), action="respond", role="agent"),
        "clock": ToolRule(),
    },
    routes=(
        RouteRule(path="/health", methods=frozenset({"GET"}), public=True),
        RouteRule(path="/chat", methods=frozenset({"POST", "WEBSOCKET"}), action="respond"),
        RouteRule(path="/reports/{name}", methods=frozenset({"GET"}), scopes=frozenset({"read:orders"}), role="viewer"),
    ),
)
ROLES = "version: 1\nroles:\n  agent: [read, respond]\n"
# As a program without types calls them.
tool: Any = ToolRule
route: Any = RouteRule
policy: Any = Policy

# What is written, and what is said of it: place, and mend. Lines count from 1.
WRONG_YAML = {
    # nothing, or something else
    "": "is empty: begin with version",
    "# a comment\n": "is empty",
    "--- \n": "is empty",
    "[]": "line 1: is []: it takes names such as version, roles, tools or routes",
    "viewer": "it takes names",
    "{}": "is empty",
    "roles: {}": "has no version: begin with version, which is 1",
    "version: 2": "line 1: version: is 2: this release reads version 1",
    "version: '1'": "version: is '1': this release reads version 1",
    "version: 1.0": "version: is 1.0",
    "version: true": "version: is True",
    "version: 01x": "version: is '01x'",
    "version:": "version: is None",
    # unknown names
    "version: 1\nroels: {}": "line 2: roels: nothing is called 'roels' here: did you mean 'roles'",
    "version: 1\ntool: {a: {}}": "nothing is called 'tool' here: did you mean 'tools'",
    "version: 1\nx: 1": "nothing is called 'x' here: there is version, roles, tools or routes",
    "version: 1\nVersion: 1": "did you mean 'version'",
    "version: 1\ntools:\n  a:\n    scope: [b]": "line 4: tools.a.scope: nothing is called 'scope' here: did",
    "version: 1\ntools: {a: {public: true}}": "tools.a.public: nothing is called 'public' here",
    "version: 1\nroutes: [{path: /a, method: [GET]}]": "routes[0].method: nothing is called 'method' here: did",
    # empty
    "version: 1\nroles:": "roles: is empty: leave it out",
    "version: 1\ntools: {}": "tools: is empty",
    "version: 1\nroutes: []": "routes: is empty",
    "version: 1\ntools:\n  a:\n": "line 3: tools.a: says nothing: write {} if each caller with a good token may",
    "version: 1\ntools: {a: {scopes: []}}": "tools.a.scopes: is empty: leave it out",
    "version: 1\ntools: {a: {action: }}": "tools.a.action: is empty",
    "version: 1\ntools: {a: {role: ~}}": "tools.a.role: is empty",
    "version: 1\nroles: {a: }": "roles.a: is None: write a list",
    # of another type
    "version: 1\nroles: [a]": "roles: is ['a']: it takes names",
    "version: 1\nroles: {a: read}": "roles.a: is the text 'read': write a list",
    "version: 1\nroles: {a: {read: true}}": "roles.a: is {'read': True}: write a list",
    "version: 1\nroles: {a: [no]}": "roles.a[0]: is no, which is no text: name it, in quotes",
    "version: 1\nroles: {a: [on]}": "roles.a[0]: is on, which is no text",
    "version: 1\nroles: {a: [1]}": "roles.a[0]: is 1, which is no text",
    "version: 1\nroles: {a: [1e3]}": None,  # a text to YAML 1.1, and a name
    "version: 1\nroles: {a: [2026-01-01]}": "is 2026-01-01, which is no text",
    "version: 1\nroles: {a: [~]}": "is None, which is no text",
    "version: 1\nroles: {a: [[read]]}": "is ['read'], which is no text",
    "version: 1\nroles:\n  no: [read]": "line 3: no is no text, and names nothing: put it in quotes",
    "version: 1\nroles: {1: [read]}": "1 is no text",
    "version: 1\nroles: {1_0: [read]}": "1_0 is no text",
    "version: 1\nroles: {~: [read]}": "None is no text",
    "version: 1\nroles: {[a]: [read]}": "a list is no text",
    "version: 1\nroles: {<<: {a: [b]}}": "<< is no text",
    "version: 1\nroles: {=: [b]}": "= is no text",
    "version: 1\ntools: [a]": "tools: is ['a']: it takes names",
    "version: 1\ntools: {a: true}": "tools.a: is True: it takes names such as scopes, action or role",
    "version: 1\ntools: {a: [b]}": "tools.a: is ['b']: it takes names",
    "version: 1\ntools: {a: {scopes: b}}": "tools.a.scopes: is the text 'b': write a list",
    "version: 1\ntools: {a: {scopes: {b: c}}}": "tools.a.scopes: is {'b': 'c'}: write a list",
    "version: 1\ntools: {a: {scopes: [off]}}": "tools.a.scopes[0]: is off, which is no text",
    "version: 1\ntools: {a: {action: [b]}}": "tools.a.action: is ['b'], which is no text",
    "version: 1\ntools: {a: {action: yes}}": "tools.a.action: is yes, which is no text",
    "version: 1\nroutes: {path: /a}": "routes: is {'path': '/a'}: it takes a list",
    "version: 1\nroutes: [/a]": "routes[0]: is '/a': it takes names such as path, methods",
    "version: 1\nroutes: [~]": "routes[0]: says nothing",
    "version: 1\nroutes: [{path: /a, methods: GET}]": "routes[0].methods: is the text 'GET': write a list",
    "version: 1\nroutes: [{path: 1, methods: [GET]}]": "routes[0].path: is 1, which is no text",
    "version: 1\nroutes: [{path: /a, methods: [GET], public: yes}]": "routes[0].public: is yes: write true or false",
    "version: 1\nroutes: [{path: /a, methods: [GET], public: 'true'}]": "is 'true': write true or false",
    "version: 1\nroutes: [{path: /a, methods: [GET], public: 1}]": "is 1: write true or false",
    # names
    "version: 1\nroles: {'': [read]}": "roles: is blank: name it",
    "version: 1\nroles: {a: ['  ']}": "roles.a[0]: is blank",
    "version: 1\nroles: {'a ': [read]}": "roles: is 'a ': take the space at its beginning or end away",
    "version: 1\nroles: {a: [' read']}": "is ' read': take the space",
    'version: 1\nroles: {a: ["re\\u200bad"]}': "is 're\\u200bad': it has characters that look like others",
    'version: 1\nroles: {a: ["re\\nad"]}': "is 're\\nad': it has characters",
    "version: 1\nroles: {a: [\uff52ead]}": "is '\\uff52ead': it has characters",
    "version: 1\nroles: {a: [\ufb01le]}": "it has characters",
    f"version: 1\nroles: {{a: [{'x' * 201}]}}": "has more than 200 characters",
    "version: 1\nroles: {a: [read, read]}": "roles.a: has 'read' twice",
    "version: 1\ntools: {a: {scopes: [b, b]}}": "tools.a.scopes: has 'b' twice",
    "version: 1\ntools: {a: {scopes: ['b c']}}": "tools.a.scopes[0]: is 'b c', which is not one scope",
    "version: 1\ntools: {a: {scopes: ['b\"']}}": "which is not one scope",
    "version: 1\ntools: {a: {scopes: [b\u00fc]}}": "which is not one scope",
    "version: 1\ntools: {'a.b': {scope: []}}": "tools.'a.b'.scope: nothing is called",
    # names of what is elsewhere
    f"{ROLES}tools:\n  a:\n    action: respondd": "line 6: tools.a.action: no role permits 'respondd': did you mean 'r",
    f"{ROLES}tools: {{a: {{action: Read}}}}": "no role permits 'Read': did you mean 'read'",
    f"{ROLES}tools: {{a: {{action: fly}}}}": "no role permits 'fly': give it to a role under roles",
    f"{ROLES}tools: {{a: {{role: agnet}}}}": "tools.a.role: no role is called 'agnet': did you mean 'agent'",
    f"{ROLES}routes: [{{path: /a, methods: [GET], action: fly}}]": "routes[0].action: no role permits 'fly'",
    f"{ROLES}routes: [{{path: /a, methods: [GET], role: x}}]": "routes[0].role: no role is called 'x': define it",
    "version: 1\ntools: {a: {role: x}}": "no role is called 'x'",
    # routes
    "version: 1\nroutes: [{methods: [GET]}]": "routes[0]: has no path",
    "version: 1\nroutes: [{path: /a}]": "routes[0]: has no methods",
    "version: 1\nroutes: [{path: /a, methods: []}]": "routes[0].methods: is empty",
    "version: 1\nroutes: [{path: /a, methods: [get]}]": "routes[0].methods[0]: is 'get': write GET",
    "version: 1\nroutes: [{path: /a, methods: [POTS]}]": "there is no method 'POTS': did you mean 'POST'",
    "version: 1\nroutes: [{path: /a, methods: ['*']}]": "there is no method '*': take of DELETE, GET",
    "version: 1\nroutes: [{path: /a, methods: [GET, GET]}]": "has 'GET' twice",
    "version: 1\nroutes: [{path: a, methods: [GET]}]": "routes[0].path: is 'a': a path begins with /",
    "version: 1\nroutes: [{path: //a, methods: [GET]}]": "a segment is empty or made of dots",
    "version: 1\nroutes: [{path: /a//, methods: [GET]}]": "a segment is empty",
    "version: 1\nroutes: [{path: /a/../b, methods: [GET]}]": "a segment is empty or made of dots",
    "version: 1\nroutes: [{path: /., methods: [GET]}]": "a segment is empty or made of dots",
    "version: 1\nroutes: [{path: /a/*, methods: [GET]}]": "no *",
    "version: 1\nroutes: [{path: /a%20b, methods: [GET]}]": "no %",
    "version: 1\nroutes: [{path: '/a?b', methods: [GET]}]": "no query",
    "version: 1\nroutes: [{path: '/a#b', methods: [GET]}]": "a segment is plain",
    "version: 1\nroutes: [{path: '/a\\b', methods: [GET]}]": "a segment is plain",
    "version: 1\nroutes: [{path: '/a/{x:path}', methods: [GET]}]": "a name in braces, which stands for one segment",
    "version: 1\nroutes: [{path: '/a/{}', methods: [GET]}]": "a name in braces",
    "version: 1\nroutes: [{path: '/a{x}', methods: [GET]}]": "a name in braces",
    "version: 1\nroutes: [{path: '/a/{x}b', methods: [GET]}]": "a name in braces",
    "version: 1\nroutes: [{path: '/{x}/{x}', methods: [GET]}]": "two segments have the same name",
    f"version: 1\nroutes: [{{path: /{'x/' * 99}, methods: [GET]}}]": None,
    f"version: 1\nroutes: [{{path: /{'x' * 1000}, methods: [GET]}}]": "has more than 1000",
    f"{ROLES}routes: [{{path: /a, methods: [GET], public: true, action: read}}]": "routes[0].public: a public",
    f"{ROLES}routes: [{{path: /a, methods: [GET], public: true, role: agent}}]": "a public route asks",
    "version: 1\nroutes: [{path: /a, methods: [GET], public: true, scopes: [x]}]": "a public route asks",
    "version: 1\nroutes:\n- {path: /a, methods: [GET]}\n- {path: /b, methods: [PUT]}\n- {path: /a, methods: [GET]}": (
        "line 5: routes[2]: /a and routes[0], /a, match the same requests (GET): leave one"
    ),
    "version: 1\nroutes: [{path: '/a/{x}', methods: [GET]}, {path: '/{y}/b', methods: [GET]}]": "match",
    # YAML itself
    "version: 1\nroles:\n  a: [read]\n  a: [admin]": "roles.a: stands twice, in line 3 and line 4: leave one",
    "version: 1\nversion: 1": "version: stands twice",
    "version: 1\nroles: {a: [b], 'a': [c]}": "roles.a: stands twice",
    "version: 1\nroles: {a: &x [read], b: *x}": "line 2: & and * are not read here",
    "version: 1\nroles: *x": "& and * are not read here",
    "version: 1\nroles: {&x a: [b]}": "& and * are not read here",
    "version: 1\nroles: !!map {a: [read]}": "tags (!) are not read here",
    "version: !!python/object/apply:os.system ['true']": "tags (!) are not read here",
    "version: 1\nroles: {a: [! b]}": "tags (!)",
    "version: 1\nroles: {a: [!!str no]}": "tags (!)",
    "version: 1\n---\nversion: 1": "is no YAML: but found another document (line 2)",
    "version: 1\nroles: {a: [read}": "is no YAML: ",
    "version: 1\n\troles: {}": "is no YAML: ",
    "version: 1\nroles: 'a": "is no YAML: ",
    "version: 1\x00": "is no YAML: special characters are not allowed",
    "{version: 1, x: " + "[" * 100_000: "nested too deeply",
    "version: 1\nroles: " + "{a: " * 9 + "}" * 9: "nested too deeply",
}
WRONG_TOML = {
    "": "is empty",
    "version = 2": "version: is 2",
    "version = 1.0": "version: is 1.0",
    "version = true": "version: is True",
    "version = 1\nversion = 1": "is no TOML: Cannot overwrite a value",
    "version = 1\n[roles]\na = ['b']\na = ['c']": "is no TOML: Cannot overwrite a value",
    "version = 1\n[tools.a]\n[tools.a]": "is no TOML: Cannot declare",
    "version = 1\n[roles]\na = 'read'": "roles.a: is the text 'read': write a list",
    "version = 1\n[roles]\na = [true]": "roles.a[0]: is True, which is no text",
    "version = 1\n[roles]\na = [2026-01-01]": "which is no text",
    "version = 1\n[tools.a]\nscope = ['b']": "tools.a.scope: nothing is called 'scope' here: did you mean 'scopes'",
    "version = 1\n[routes]\npath = '/a'": "routes: is {'path': '/a'}: it takes a list",
    "version: 1": "is no TOML: ",
    "version = 1\nx = " + "[" * 50_000: "is no ",
}


def written(folder: Path, text: str | bytes, name: str = "policy.yaml") -> Path:
    """Return a file with this in it."""
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize(("name", "text"), [("p.yaml", WHOLE), ("p.YML", WHOLE), ("p.toml", WHOLE_TOML)])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_both_forms_say_the_same(tmp_path: Path, name: str, text: str, mark: str) -> None:
    """YAML and TOML are two ways to write one policy; the mark of some editors is no part of it."""
    assert load_policy(written(tmp_path, mark + text, name)) == MEANT
    assert load_policy(str(written(tmp_path, text.replace("\n", "\r\n"), name))) == MEANT


@pytest.mark.req("RV5")
@pytest.mark.parametrize(("text", "said"), WRONG_YAML.items())
def test_what_nobody_could_have_meant_is_refused(tmp_path: Path, text: str, said: str | None) -> None:
    """The message begins with the file, and says where and what to write instead."""
    path = written(tmp_path, text)
    if said is None:
        load_policy(path)
        return
    with pytest.raises(ConfigurationError, match=re.escape(said)) as refused:
        load_policy(path)
    assert refused.value.message.startswith(str(path))
    assert refused.value.message.isprintable()
    assert len(refused.value.message) < 700 + len(str(path))


@pytest.mark.req("RV5")
@pytest.mark.parametrize(("text", "said"), WRONG_TOML.items())
def test_in_toml_too(tmp_path: Path, text: str, said: str) -> None:
    """TOML is held to the same."""
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        load_policy(written(tmp_path, text, "policy.toml"))


@pytest.mark.req("RV5")
def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """A file that is missing, large, of another encoding or no file is an error, and never an empty policy."""

    def said(path: Path | str) -> str:
        with pytest.raises(ConfigurationError) as refused:
            load_policy(path)
        return refused.value.message

    (tmp_path / "folder.yaml").mkdir()
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "link.yaml").symlink_to(tmp_path / "nowhere.yaml")
    assert "cannot be read: No such file" in said(tmp_path / "missing.yaml")
    assert "cannot be read: No such file" in said(tmp_path / "link.yaml")
    assert "is no file" in said(tmp_path / "folder.yaml")
    assert "is no file" in said(tmp_path / "pipe.yaml")
    assert "cannot be read" in said("a\0.yaml")
    assert "cannot be read" in said(f"{'x' * 5000}.yaml")
    assert "is not UTF-8" in said(written(tmp_path, WHOLE.encode("utf-16")))
    assert "is not UTF-8" in said(written(tmp_path, WHOLE.encode() + b"\xff"))
    assert "larger than 256 KiB" in said(written(tmp_path, WHOLE + "#" * 256 * 1024))
    assert "call it .yaml, .yml or .toml" in said(written(tmp_path, WHOLE, "policy.json"))
    assert "call it .yaml, .yml or .toml" in said(written(tmp_path, WHOLE, "policy"))


@pytest.mark.req("RV5")
@pytest.mark.parametrize("step", ["stat", "open"])
def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """What the system says is in the message, whichever step it refuses."""

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    path = written(tmp_path, WHOLE)
    monkeypatch.setattr(Path, step, refuse)
    with pytest.raises(ConfigurationError, match="cannot be read: Permission denied"):
        load_policy(path)


@pytest.mark.req("RV5")
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: tool(scopes="read"), "scopes: is the text 'read': write a list"),
        (lambda: tool(scopes=["read", "read"]), "scopes: has 'read' twice"),
        (lambda: tool(scopes={1}), "scopes: is 1, which is no text"),
        (lambda: tool(scopes={"a b"}), "which is not one scope"),
        (lambda: tool(scopes=None), "scopes: is None: write a list"),
        (lambda: tool(action=""), "action: is blank"),
        (lambda: tool(role=" "), "role: is blank"),
        (lambda: tool(role=1), "role: is 1, which is no text"),
        (lambda: route(path="/a", methods="GET"), "methods: is the text 'GET'"),
        (lambda: route(path="/a", methods={"get"}), "methods: is 'get': write GET"),
        (lambda: route(path="/a", methods=()), "methods: is empty"),
        (lambda: route(path="", methods={"GET"}), "path: is blank"),
        (lambda: route(path="/a", methods={"GET"}, public="no"), "public: is 'no': write true or false"),
        (lambda: route(path="/a", methods={"GET"}, public=True, role="x"), "public: a public route asks nobody"),
        (lambda: policy(roles={"a": "read"}), "roles.a: is the text 'read'"),
        (lambda: policy(roles=["a"]), "roles: is ['a']: it takes names"),
        (lambda: policy(roles={"a": {"read "}}), "roles.a: is 'read ': take the space"),
        (lambda: policy(tools={"a": {"scopes": []}}), "tools.a: is {'scopes': []}: it takes a ToolRule"),
        (lambda: policy(tools={"a": tool(action="x")}), "tools.a.action: no role permits 'x'"),
        (lambda: policy(routes={"/a": 1}), "routes: is {'/a': 1}: it takes a list of routes"),
        (lambda: policy(routes=("/a",)), "routes[0]: is '/a': it takes a RouteRule"),
        (lambda: policy(routes=(route(path="/a", methods={"GET"}),) * 2), "routes[1]: /a and routes[0]"),
    ],
)
def test_rules_made_in_python_are_held_to_the_same(make: Any, said: str) -> None:
    """A typo in a program is refused like one in a file."""
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        make()


def test_a_policy_cannot_be_changed(tmp_path: Path) -> None:
    """What was checked is what is asked later: nobody can add to it, nor to what it was made of."""
    roles: dict[str, Any] = {"viewer": {"read"}}
    made = Policy(roles=roles)
    roles["viewer"].add("admin")
    roles["admin"] = {"admin"}
    assert made.roles == {"viewer": frozenset({"read"})}
    loaded = load_policy(written(tmp_path, WHOLE))
    for mapping in (made.roles, loaded.roles, loaded.tools):
        with pytest.raises(TypeError):
            mapping["x"] = frozenset()  # type: ignore[index]  # that is what is tried
    assert type(loaded.roles["viewer"]) is frozenset
    assert type(loaded.tools["refund"].scopes) is frozenset


@pytest.mark.req("RV5")
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    start=st.integers(0, len(WHOLE)),
    length=st.integers(0, 12),
    put=st.text(st.sampled_from(" \n:-[]{},&*!'\"#?|>%@`~aé\u200b\x00\ud7ff<=0"), max_size=6),
    suffix=st.sampled_from([".yaml", ".toml"]),
)
def test_whatever_is_written_becomes_a_policy_or_one_error(
    tmp_path: Path, start: int, length: int, put: str, suffix: str
) -> None:
    """A damaged file never ends in anything else, and never in a public route that was not written as one."""
    text = WHOLE if suffix == ".yaml" else WHOLE_TOML
    try:
        read = load_policy(written(tmp_path, text[:start] + put + text[start + length :], f"policy{suffix}"))
    except ConfigurationError:
        return
    assert sum(rule.public for rule in read.routes) <= 1


def test_a_large_policy_is_read_in_no_time(tmp_path: Path) -> None:
    """Nothing about it grows with the square of what is written: many routes, and one list of many names."""
    routes = "".join(f"- {{path: /r/{number}, methods: [GET]}}\n" for number in range(2000))
    names = ", ".join(f"a{number}" for number in range(9000))
    large = load_policy(written(tmp_path, f"version: 1\nroles: {{a: [{names}]}}\nroutes:\n{routes}"))
    assert (len(large.routes), len(large.actions)) == (2000, 9000)
