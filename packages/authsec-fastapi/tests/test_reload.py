"""A policy file that is read anew: it takes the place of the old policy whole, or not at all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from guard_support import Issuer, bearer, behind

from authsec_core import ConfigurationError
from authsec_fastapi import AuthSecGuard, Policy, load_policy

issuer = Issuer()
OLD = "version: 1\nroles: {viewer: [read], agent: [read, respond]}\ntools: {clock: {}}\n"
NEW = "version: 1\nroles: {viewer: [read, respond], agent: [read]}\ntools: {refund: {action: respond}}\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with the old policy."""
    path = tmp_path / "policy.yaml"
    path.write_text(OLD)
    return path


def client_of(guard: AuthSecGuard) -> Callable[[str, str], int]:
    """Return what asks an application with one route, which needs an action, and returns the status."""
    from fastapi import Depends, FastAPI

    app = FastAPI(dependencies=[Depends(guard.require_action("respond"))])
    app.get("/")(lambda: None)
    client = behind(app)
    return lambda path, role: client.get(path, headers=bearer(issuer.token(roles=[role]))).status_code


def test_a_path_is_as_good_as_a_policy(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guard reads the file when it is made, and finds it again from another folder."""
    monkeypatch.chdir(path.parent)
    for given in (path, str(path), path.name):
        guard = issuer.guard(policy=given)
        assert guard.policy == load_policy(path)
        monkeypatch.chdir("/")
        assert guard.reload_policy() == load_policy(path)
        monkeypatch.chdir(path.parent)
    assert issuer.guard().policy == Policy()


def test_the_new_policy_counts_from_the_next_request(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Routes that were made before go by it too, and the log says that it is in force."""
    guard = issuer.guard(policy=path)
    ask = client_of(guard)
    assert [ask("/", role) for role in ("viewer", "agent")] == [403, 200]
    path.write_text(NEW)
    assert [ask("/", role) for role in ("viewer", "agent")] == [403, 200]
    with caplog.at_level("INFO", "authsec.guard"):
        assert guard.reload_policy() is guard.policy
    assert "a new policy is in force: 2 roles, 1 tools, 0 routes" in caplog.text
    assert [ask("/", role) for role in ("viewer", "agent")] == [200, 403]
    assert set(guard.policy.tools) == {"refund"}


@pytest.mark.req("RV5")
def test_a_new_policy_with_a_likely_typo_is_warned_of(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is in force, as nobody can be sure; what the code asks for counts as needed."""
    guard = issuer.guard(policy=path)
    guard.require_action("respond")
    guard.reload_policy()
    assert "the new policy" not in caplog.text
    path.write_text(OLD.replace("viewer: [read]", "viewer: [respnod]"))
    assert guard.reload_policy() is guard.policy
    assert "the new policy: role 'viewer': no tool and no route needs 'respnod': did you mean 'respond'?" in caplog.text


@pytest.mark.req("RV5")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read: No such file"),
        ("", "is empty"),
        (NEW.replace("respond", "respondd", 1), "no role permits 'respond': did you mean 'respondd'"),
        ("version: 1\nroles: {viewer: [read], agent: [read]}\n", "lacks what the application asks for: no role of the"),
        ("version: 1\nroles: {viewer: [read, respond]}\n", "has no role 'agent'"),
        (NEW[:-20], "is no YAML"),
    ],
)
def test_what_cannot_take_its_place_leaves_the_old_one(
    path: Path, text: str | None, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that is gone, wrong, cut off, or lacks what a route asks for, changes nothing; error and log say so."""
    guard = issuer.guard(policy=path)
    ask = client_of(guard)
    guard.require_role("agent")
    old = guard.policy
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(ConfigurationError, match="the policy stays as it was: ") as refused:
        guard.reload_policy()
    assert said in refused.value.message
    assert str(path) in refused.value.message
    assert refused.value.message in caplog.text
    assert guard.policy is old
    assert [ask("/", role) for role in ("viewer", "agent")] == [403, 200]
    path.write_text(NEW)
    guard.reload_policy()
    assert [ask("/", role) for role in ("viewer", "agent")] == [200, 403]


@pytest.mark.req("RV5")
def test_routes_do_not_get_lost(path: Path) -> None:
    """A file that lost its routes would open each route to each good token: it is refused, one with fewer is not."""
    routes = "routes:\n- {path: /a, methods: [GET], action: respond}\n"
    path.write_text(OLD + routes + "- {path: /b, methods: [GET]}\n")
    guard = issuer.guard(policy=path)
    path.write_text(OLD)
    with pytest.raises(ConfigurationError, match="has no routes any more: restart"):
        guard.reload_policy()
    assert len(guard.policy.routes) == 2
    path.write_text(OLD + routes)
    assert len(guard.reload_policy().routes) == 1


def test_the_application_may_refuse_it(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What `check` raises is told like any other reason; it sees the new policy before that counts."""
    guard, seen = issuer.guard(policy=path), list[Policy]()

    def check(policy: Policy) -> None:
        seen.append(policy)
        assert guard.policy == old
        if "refund" in policy.tools:
            raise ConfigurationError("no refunds here")

    old = guard.policy
    assert guard.reload_policy(check=check) == old
    path.write_text(NEW)
    with pytest.raises(ConfigurationError, match=r"^the policy stays as it was: no refunds here$"):
        guard.reload_policy(check=check)
    assert guard.policy == old
    assert seen == [old, load_policy(path)]
    assert "no refunds here" in caplog.text
    assert guard.reload_policy() == seen[1]


def test_there_has_to_be_a_file() -> None:
    """A policy that a program made is not read anew, nor is none, and what is no path is refused at start."""
    for guard in (issuer.guard(), issuer.guard(policy=Policy(roles={"a": frozenset({"b"})}))):
        with pytest.raises(ConfigurationError, match="was not read from a file"):
            guard.reload_policy()
    wrong: Any = {"roles": {}}
    with pytest.raises(ConfigurationError, match="takes a Policy, or the path"):
        issuer.guard(policy=wrong)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        issuer.guard(policy="nowhere.yaml")


@pytest.mark.req("RV5")
def test_a_requirement_that_was_refused_is_not_remembered(path: Path) -> None:
    """A typo that was caught at start does not keep later policies out."""
    guard = issuer.guard(policy=path)
    with pytest.raises(ConfigurationError, match="did you mean 'respond'"):
        guard.require_action("respondd")
    path.write_text(NEW)
    assert guard.reload_policy().roles["viewer"] == {"read", "respond"}


def test_nobody_sees_a_half_of_it(path: Path) -> None:
    """While policies are swapped, whoever takes the policy once has all of one of them."""
    guard = issuer.guard(policy=path)
    texts = [OLD, NEW]
    whole = []
    for text in texts:
        path.write_text(text)
        whole.append(load_policy(path))
    done, seen = threading.Event(), []

    def look() -> None:
        while not done.is_set():
            policy = guard.policy
            seen.append((policy.roles, policy.tools) in [(one.roles, one.tools) for one in whole])

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for number in range(50):
            path.write_text(texts[number % 2])
            assert guard.reload_policy() == whole[number % 2]
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert seen
    assert all(seen)
