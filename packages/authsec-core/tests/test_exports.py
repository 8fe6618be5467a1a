"""The public face: names that exist, and imports that do nothing but import."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import json
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import authsec_core
import authsec_core.testing

PACKAGE = Path(authsec_core.__file__).parent
MODULES = sorted(
    module.name for module in pkgutil.walk_packages([str(PACKAGE)], "authsec_core.") if module.name != "authsec_core.py"
)
PUBLIC = [name for name in MODULES if not any(part.startswith("_") for part in name.split("."))]
HEAVY = {"httpx", "httpcore", "pydantic", "pydantic_settings", "cryptography", "jwt", "anyio", "asyncio", "ssl", "http"}
FRAMEWORKS = {
    "autogen",
    "ag2",
    "crewai",
    "openai",
    "fastapi",
    "starlette",
    "flask",
    "django",
    "pytest",
    "opentelemetry",
}


def run(program: str, *options: str) -> Any:
    """Run a program in a fresh interpreter, without the coverage and the plugins of this one; return what it says."""
    done = subprocess.run([sys.executable, *options, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return json.loads(done.stdout)


def test_the_modules_are_found() -> None:
    """The tests below cannot pass by looking at nothing."""
    assert {"authsec_core.client", "authsec_core.tool", "authsec_core._exchange"} <= set(MODULES)
    assert "authsec_core.testing" in PUBLIC
    assert "authsec_core._exchange" not in PUBLIC


@pytest.mark.parametrize("name", authsec_core.__all__)
def test_every_exported_name_is_there(name: str) -> None:
    """Each name of `__all__` can be had from the package, and is what its module calls so."""
    value = getattr(authsec_core, name)
    assert value.__name__ == name
    assert value.__module__.startswith("authsec_core.")
    home = importlib.import_module(value.__module__)
    assert getattr(home, name) is value


def test_the_package_exports_what_it_says() -> None:
    """`__all__`, the imports for type checkers, the lazy table and `dir` name the same things."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    typed = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for statement in node.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    exported = authsec_core.__all__
    assert typed == set(exported)
    assert set(exported) <= set(dir(authsec_core))
    assert exported == sorted(exported)
    assert len(set(exported)) == len(exported)
    namespace: dict[str, Any] = {}
    exec("from authsec_core import *", namespace)  # noqa: S102 -- the statement that the test is about
    assert set(exported) <= set(namespace)


def test_every_error_is_exported() -> None:
    """Whoever catches errors finds each of them in the package itself."""
    from authsec_core import errors

    assert set(errors.__all__) <= set(authsec_core.__all__)


def test_a_name_that_is_not_exported_is_an_attribute_error() -> None:
    """Lazy exports do not make everything importable."""
    for name in ("Nothing", "_Layers", "Secret", "os"):
        with pytest.raises(AttributeError, match="has no attribute"):
            getattr(authsec_core, name)
    assert not hasattr(authsec_core, "importlib_metadata")


@pytest.mark.parametrize("name", [name for name in MODULES if name != "authsec_core._version"])
def test_every_module_lists_its_names(name: str) -> None:
    """Each `__all__` is there, sorted (constants, classes, functions), without repetition, and names what exists."""
    module = importlib.import_module(name)
    listed = module.__all__
    assert listed == sorted(set(listed), key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    for exported in listed:
        assert hasattr(module, exported), exported
        assert not exported.startswith("_")
    if name in PUBLIC:
        assert listed


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_documented(name: str) -> None:
    """Whoever asks `help()` gets an answer."""
    module = importlib.import_module(name)
    assert module.__doc__
    for exported in module.__all__:
        value = getattr(module, exported)
        if isinstance(value, type) or inspect.isfunction(value):
            assert value.__doc__, exported


@pytest.mark.req("RO3")
def test_importing_the_package_loads_nothing_heavy() -> None:
    """No HTTP, no pydantic, no cryptography, no framework: what merely mentions authsec starts as fast as before."""
    program = "import sys, json, authsec_core; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    loaded = set(run(program))
    assert not loaded & (HEAVY | FRAMEWORKS)
    assert "authsec_core" in loaded


@pytest.mark.req("RO3")
@pytest.mark.parametrize(
    "made",
    [
        "AuthSecClient(base_url='https://a.test', client_id='7b1c3f5e-2a4d-4c6b-8e9f-0a1b2c3d4e5f')",
        "AgentVaultSync('https://vault.test', agent_key='k')",
        "AgentVault('https://vault.test', agent_key='k')",
    ],
)
def test_live_mode_does_without_cryptography(made: str) -> None:
    """Tokens are verified by the API and signed by the authority, so that the client loads neither library for it."""
    program = (
        f"import sys, json; from authsec_core import {made.partition('(')[0]};"
        f"client = {made};"
        "print(json.dumps([client.mode, sorted({'jwt', 'cryptography'} & set(sys.modules))]))"
    )
    assert run(program) == ["live", []]


SIDE_EFFECTS = """
import builtins, importlib, json, logging, os, signal, socket, sys, threading
import pytest  # has side effects of its own on Python 3.10, and is there before its plugin

def refuse(*args, **kwargs):
    raise AssertionError("an import reached for the network")

for call in ("connect", "connect_ex", "bind", "sendto"):
    setattr(socket.socket, call, refuse)
socket.getaddrinfo = refuse

def state():
    root, ours = logging.getLogger(), logging.getLogger("authsec")
    return {
        "root": [root.level, *map(str, root.handlers), *map(str, root.filters)],
        "authsec": [[type(handler).__name__ for handler in ours.handlers], ours.level, ours.propagate, ours.disabled],
        "logging": [logging.raiseExceptions, str(logging.getLoggerClass()), root.manager.disable],
        "streams": [id(sys.stdout), id(sys.stderr), id(builtins.print)],
        "hooks": [id(sys.excepthook), id(sys.displayhook), id(threading.excepthook)],
        "process": [dict(os.environ), os.getcwd(), threading.active_count(), sys.getrecursionlimit()],
        "signals": [str(signal.getsignal(signal.SIGINT)), str(signal.getsignal(signal.SIGTERM))],
        "sockets": socket.getdefaulttimeout(),
    }

written = []

def watch(event, args):
    if event == "open" and args[1] not in ("r", "rb", None):
        written.append(str(args[0]))

sys.addaudithook(watch)
changes = {}
for name in NAMES:
    before = state()
    importlib.import_module(name)
    changes[name] = {key: value for key, value in state().items() if value != before[key]}
print(json.dumps([changes, written]))
"""


@pytest.mark.req("RO3")
def test_importing_has_no_side_effects() -> None:
    """No connection, thread, file or signal handler; streams, hooks, environment and logging stay as they were."""
    names = ["authsec_core", *PUBLIC]
    changes, written = run(f"NAMES = {names!r}\n{SIDE_EFFECTS}", "-B", "-W", "error")
    assert not any(changes.values()), changes
    assert not written


@pytest.mark.req("RO3")
def test_importing_prints_nothing() -> None:
    """Nothing goes to stdout or stderr, whatever is imported; what an unhandled warning would print counts, too."""
    program = ";".join(f"import {name}" for name in ["authsec_core", *MODULES])
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")


@pytest.mark.req("RO3")
def test_a_warning_is_seen_where_logging_is_not_set_up() -> None:
    """Who has configured nothing sees on stderr, by Python's last resort, that this is MOCK mode."""
    program = "from authsec_core import AuthSecClient; AuthSecClient()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b""
    assert done.stderr.startswith(b"MOCK mode:")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("name", ["authsec_core", *MODULES])
def test_the_examples_in_the_docstrings_are_true(name: str) -> None:
    """Each doctest of the package runs."""
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS, raise_on_error=False)
    assert failed == 0


def test_there_are_examples_in_the_docstrings() -> None:
    """The test above cannot pass by finding none."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = sum(len(finder.find(importlib.import_module(name))) for name in MODULES)
    assert found >= 4


def test_the_version_is_the_one_of_the_build() -> None:
    """`__version__` is public beside `__all__`, and is what the wheel is named by."""
    from authsec_core._version import __version__

    assert authsec_core.__version__ == __version__
    assert (PACKAGE / "py.typed").is_file()
