"""The tools for ag2 and Microsoft Agent Framework where neither is needed: imports, refusals, names."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import subprocess
import sys
import types
from typing import Any

import pytest

from authsec_autogen import _coroutine_tool
from authsec_autogen._coroutine_tool import coroutine_tool
from authsec_core import AsyncAuthSecClient, AuthSecConfig, ConfigurationError
from authsec_core.testing import assert_no_secret

METRICS = ("secure-vault/metrics", "read:metrics")
LIVE: dict[str, Any] = {
    "base_url": "https://authority.invalid",
    "client_id": "7c9e6679-7425-40de-944b-e07fc1f90ae7",
    "api_base_url": "https://api.invalid",
}
KEY = "agent-key.0123456789abcdef0123456789abcdef"
FRAMEWORKS = {"ag2": "authsec-autogen[ag2]", "agent_framework": "authsec-autogen[agent-framework]"}


@pytest.fixture(autouse=True)
def _fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_coroutine_tool, "ENVIRONMENT", type(_coroutine_tool.ENVIRONMENT)())


def parts(client: AsyncAuthSecClient | None = None, **options: Any) -> _coroutine_tool.CoroutineTool:
    """Return a tool's parts."""
    return coroutine_tool(client, **{"name": None, "description": None, "per_call": False, **options})


def held_client(function: Any) -> AsyncAuthSecClient:
    """Return the client that a tool's function closes over."""
    cells = [cell.cell_contents for cell in function.__closure__]
    (held,) = [content for content in cells if isinstance(content, AsyncAuthSecClient)]
    return held


def client(**settings: Any) -> AsyncAuthSecClient:
    """Return a LIVE client that is never used."""
    return AsyncAuthSecClient(AuthSecConfig(**{**LIVE, **settings}))


@pytest.mark.req("RO3")
@pytest.mark.parametrize("module", FRAMEWORKS)
def test_importing_an_adapter_loads_no_framework_and_says_nothing(module: str) -> None:
    """The framework is loaded by who makes a tool; our module of the same last name does not stand in its way."""
    program = f"import sys, authsec_autogen.{module}; print([one for one in {[*FRAMEWORKS]!r} if one in sys.modules])"
    prelude = f"import sys; sys.path[:] = {sys.path!r}; "
    done = subprocess.run([sys.executable, "-c", prelude + program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def _without_tool(name: str) -> types.ModuleType:
    """Return what a folder or file of that name would be, or a version that is too old."""
    return types.ModuleType(name)


@pytest.mark.parametrize("module", FRAMEWORKS)
@pytest.mark.parametrize("missing", [True, False])
def test_a_framework_that_is_missing_or_another_is_one_clear_error(
    monkeypatch: pytest.MonkeyPatch, module: str, missing: bool
) -> None:
    """Told by what it can do, not by its version; the error names the extra, also where settings are wrong too."""
    monkeypatch.setitem(sys.modules, module, None if missing else _without_tool(module))
    monkeypatch.setenv("AUTHSEC_BASE_URL", "https://authority.invalid")
    with pytest.raises(ConfigurationError) as refused:
        importlib.import_module(f"authsec_autogen.{module}").make_secure_fetch()
    for needed in (
        f"the module '{module}'",
        FRAMEWORKS[module],
        "dist/",
        "cannot be imported" if missing else "is not",
    ):
        assert needed in refused.value.message


def test_with_ag2_below_1_the_error_names_the_adapter_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The distribution `ag2` is there, in a version whose module is called `autogen`."""
    monkeypatch.setitem(sys.modules, "ag2", None)
    with pytest.raises(ConfigurationError, match=r"ag2 below 1\.0 has 'autogen'.*authsec_autogen\.classic"):
        importlib.import_module("authsec_autogen.ag2").make_secure_fetch()


def test_a_framework_that_does_not_load_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """What its import complains of is part of the message."""
    (tmp_path / "ag2.py").write_text("import a_package_that_is_missing\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "ag2", raising=False)
    with pytest.raises(ConfigurationError, match="a_package_that_is_missing"):
        importlib.import_module("authsec_autogen.ag2").make_secure_fetch()


@pytest.mark.req("RD7")
def test_the_default_name_tells_identities_apart_and_tells_nobody_who_they_are() -> None:
    """Stable for one identity, different for another; MOCK, where there is none, it is plain."""
    name = parts(client()).name
    assert name == parts(client(agent_key=KEY)).name == parts(client(), per_call=True).name
    others: list[dict[str, Any]] = [
        {"client_id": "7c9e6679-7425-40de-944b-e07fc1f90ae8"},
        {"base_url": "https://other.invalid"},
        {"audience": "other"},
        {"api_base_url": "https://other-api.invalid"},
        {"issuer": "https://other-issuer.invalid"},
        {"allowed_endpoints": ("reports",)},
        {"endpoint_scopes": {"reports": "read:reports"}},
    ]
    assert len({name, *(parts(client(**one)).name for one in others)}) == 1 + len(others)
    assert name.startswith("fetch_secure_data_")
    assert_no_secret(name, LIVE["client_id"])
    assert parts(AsyncAuthSecClient(AuthSecConfig(mode="mock"))).name == "fetch_secure_data"


@pytest.mark.req("RS8")
def test_the_function_shows_nothing_of_its_client() -> None:
    """It looks as one that a person wrote: plain annotations, no defaults; what it holds prints no key."""
    made = parts(client(agent_key=KEY), name="fetch")
    function: Any = made.function
    assert inspect.iscoroutinefunction(function)
    assert inspect.get_annotations(function) == {"endpoint": str, "scope": str, "return": str}
    assert all(one.default is inspect.Parameter.empty for one in inspect.signature(function).parameters.values())
    assert function.__name__ == "fetch"
    shown = [repr(function), vars(function), function.__defaults__, function.__kwdefaults__, made]
    assert_no_secret([*shown, [cell.cell_contents for cell in function.__closure__]], KEY)


def test_without_a_client_it_is_the_environments() -> None:
    """All tools of a process share that client, and with it its tokens; its arguments may be anything."""
    first, second = parts(), parts(name="another")
    one, other = (held_client(tool.function) for tool in (first, second))
    assert one is other
    assert json.loads(asyncio.run(first.function(*METRICS)))["status"] == "success"
    wrongs: list[tuple[Any, Any]] = [(None, "read:metrics"), (7, "x"), (METRICS[0], None), ("https://evil/", "x")]
    for wrong in wrongs:
        assert json.loads(asyncio.run(first.function(*wrong)))["status"] == "error"
