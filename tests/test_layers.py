"""Who may import whom: between the packages, and between the layers inside the core. Read from the sources."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(ROOT.glob("packages/*/src/*"))
AGENT_FRAMEWORKS = frozenset(
    {"ag2", "agent_framework", "anthropic", "autogen", "autogen_agentchat", "autogen_core", "autogen_ext", "crewai"}
    | {"crewai_tools", "langchain", "langchain_core", "langgraph", "llama_index", "openai", "pydantic_ai", "smolagents"}
)
WEB_FRAMEWORKS = frozenset(
    [
        "aiohttp",
        "django",
        "fastapi",
        "flask",
        "litestar",
        "quart",
        "sanic",
        "starlette",
        "tornado",
        "uvicorn",
        "werkzeug",
    ]
)
# Libraries that take long to load, and the modules of the core that may load them when they are loaded themselves.
HEAVY: dict[str, frozenset[str]] = {
    "pydantic_settings": frozenset({"_layers", "_service_settings", "config"}),
    "pydantic": frozenset({"_layers", "_service_settings", "config", "client", "vault", "vault_config", "vault_sync"}),
    "jwt": frozenset(),
    "opentelemetry": frozenset(),
    "cryptography": frozenset({"_jwks", "_jws", "_signing"}),
}

# The authority's modules that speak HTTP, besides `routes`, the command line and the testing kit.
AT_THE_RIM = frozenset(
    {
        "app",
        "deps",
        "direct",
        "health",
        "middleware",
        "oauth.authentication",
        "oauth.form",
        "oauth.requests",
        "problems",
        "protocol",
        "serving",
        "shapes",
        "vault.requests",
    }
)
PURE_AT_THE_AUTHORITY = (
    "agents.proofs",
    "agents.public_keys",
    "agents.spiffe",
    "audit.chain",
    "audit.entry",
    "credentials",
    "errors",
    "issuers.identity",
    "keys.rotation",
    "limits.addresses",
    "limits.buckets",
    "oauth.assertions",
    "operators.access",
    "refusals",
    "tokens.claims",
    "tokens.policy",
    "tokens.subjects",
    "vault.env_text",
    "vault.policy",
    "vault.values",
)

# The guard's modules that speak HTTP: the others decide.
GUARDS_RIM = frozenset({"_dependencies", "_refusing", "_scheme", "guard", "middleware", "testing"})
# Those that define a class of an agent framework: nobody loads them but a function that was asked for such tools.
GUARDS_FRAMEWORK_TOOLS = frozenset({"_agentchat_tool", "_crewai_tool"})
PURE_AT_THE_GUARD = (
    "_about",
    "_policy_checks",
    "_policy_report",
    "_policy_yaml",
    "_tool_forms",
    "audit",
    "bearer",
    "errors",
    "policy",
    "principal",
    "refusals",
    "requirement",
    "routing",
)

# Each layer may import from itself and from those above it in this list, as architecture.md draws them.
LAYERS: dict[str, frozenset[str]] = {
    "values": frozenset(
        {
            "_clock",
            "_deadline",
            "_error",
            "_fork",
            "_origin",
            "_origins",
            "_mock_records",
            "_proof",
            "_quick",
            "_secret_header",
            "_vault_errors",
            "_version",
            "errors",
            "scopes",
            "vault_scopes",
            "vault_values",
            "token",
            "wire",
        }
    ),
    "pure decisions": frozenset(
        {
            "_claims",
            "_freshness",
            "_jws",
            "_layers",
            "_own_files",
            "_service_settings",
            "_signing",
            "_vault_replies",
            "_vault_shown",
            "_vault_wire",
            "_vault_words",
            "config",
            "endpoints",
            "vault_config",
        }
    ),
    "flows": frozenset(
        {
            "_driving",
            "_exchange",
            "_fetching",
            "_flight",
            "_http",
            "_jwks",
            "_opentelemetry",
            "_recent",
            "_refreshing",
            "_status_list",
            "_telemetry",
            "_transport",
            "_vault_flow",
            "_vault_refusals",
            "cache",
        }
    ),
    "shells": frozenset(
        {
            "_options",
            "_parts",
            "_pool",
            "_vault_parts",
            "_vault_pool",
            "auth",
            "fetch",
            "mock",
            "source",
            "vault_auth",
            "vault_mock",
            "vault_use",
            "verify",
        }
    ),
    "clients": frozenset({"client", "vault", "vault_sync"}),
    "for adapters": frozenset({"tool", "vault_tool"}),
    "command line": frozenset({"__main__", "cli"}),
}


@dataclass(frozen=True)
class Import:
    """One imported module.

    Attributes:
        name: Absolute, with dots.
        lazy: It stands inside a function.
        typing: It stands under `if TYPE_CHECKING`.
        line: Where.
    """

    name: str
    lazy: bool
    typing: bool
    line: int

    @property
    def top(self) -> str:
        """The first part of the name."""
        return self.name.partition(".")[0]


def imports(path: Path, module: str) -> list[Import]:
    """Return every import of a file, wherever it stands."""
    return list(_imports(ast.parse(path.read_text(encoding="utf-8")), module, lazy=False, typing=False))


def _imports(node: ast.AST, module: str, *, lazy: bool, typing: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(alias.name, lazy, typing, node.lineno)
        return
    if isinstance(node, ast.ImportFrom):
        start = ".".join(module.split(".")[: -node.level]) + "." if node.level else ""
        base = (start + (node.module or "")).rstrip(".")
        for alias in node.names:  # `from package import module` counts as the module, where there is one
            submodule = base.startswith("authsec_") and _file(f"{base}.{alias.name}") is not None
            yield Import(f"{base}.{alias.name}" if submodule else base, lazy, typing, node.lineno)
        return
    if isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
        for statement in node.body:
            yield from _imports(statement, module, lazy=lazy, typing=True)
        for statement in node.orelse:
            yield from _imports(statement, module, lazy=lazy, typing=typing)
        return
    inside = lazy or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
    for child in ast.iter_child_nodes(node):
        yield from _imports(child, module, lazy=inside, typing=typing)


def _file(module: str) -> Path | None:
    for source in SOURCES:
        top, *rest = module.split(".")
        if source.name == top:
            path = source.joinpath(*rest)
            if path.is_dir():
                return path / "__init__.py"
            return path.with_suffix(".py") if path.with_suffix(".py").is_file() else None
    return None


def modules(package: str) -> dict[str, Path]:
    """Return the modules of one of our packages, by full name."""
    (source,) = [source for source in SOURCES if source.name == package]
    found = {}
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


PACKAGES = [source.name for source in SOURCES if source.is_dir()]
EVERY_MODULE = {name: path for package in PACKAGES for name, path in modules(package).items()}
CORE = {name: path for name, path in EVERY_MODULE.items() if name.split(".")[0] == "authsec_core"}
LAYERED = {name.partition(".")[2]: path for name, path in CORE.items() if name.count(".") == 1}
LAYERED = {name: path for name, path in LAYERED.items() if name != "testing"}  # for tests; the rest never imports it
LEVEL = {name: level for level, names in enumerate(LAYERS.values()) for name in names}


def test_the_sources_are_found() -> None:
    """The tests below cannot pass by looking at nothing."""
    assert {"authsec_core", "authsec_autogen", "authsec_crewai", "authsec_server"} <= set(PACKAGES)
    assert {"authsec_core.client", "authsec_core.testing._loopback"} <= set(CORE)
    assert any(
        found.name == "authsec_core.errors" for found in imports(CORE["authsec_core.client"].with_name("fetch.py"), "x")
    )


@pytest.mark.parametrize("module", CORE)
def test_the_core_knows_no_framework(module: str) -> None:
    """Nowhere in the core, lazily or for types, is an agent framework or a web framework imported."""
    found = [found for found in imports(CORE[module], module) if found.top in AGENT_FRAMEWORKS | WEB_FRAMEWORKS]
    assert not found


@pytest.mark.parametrize("module", EVERY_MODULE)
def test_packages_depend_on_the_core_and_on_nothing_else_of_ours(module: str) -> None:
    """The core stands alone, an adapter or the guard knows the core and itself, and nothing knows the server."""
    own = module.split(".")[0]
    ours = {found.top for found in imports(EVERY_MODULE[module], module) if found.top.startswith("authsec_")}
    assert ours <= {own, "authsec_core"}


def test_the_packages_metadata_agrees() -> None:
    """What `pyproject.toml` requires is what the imports say: the core, and never the server."""
    for path in ROOT.glob("packages/*/pyproject.toml"):
        project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
        needed = [
            *project["dependencies"],
            *(name for extra in project.get("optional-dependencies", {}).values() for name in extra),
        ]
        ours = {name.split("~")[0].split("[")[0].strip() for name in needed if name.startswith("authsec-")}
        assert ours <= {"authsec-core", project["name"]}
        if project["name"] == "authsec-core":
            assert not {name.split(">")[0].split("[")[0].replace("-", "_") for name in needed} & (
                AGENT_FRAMEWORKS | WEB_FRAMEWORKS
            )


@pytest.mark.parametrize("package", [package for package in PACKAGES if package != "authsec_core"])
def test_importing_an_adapter_loads_no_framework(package: str) -> None:
    """Whatever is imported together with the package is no framework and no heavy library."""
    seen: set[str] = set()
    waiting = [package]
    while waiting:
        module = waiting.pop()
        path = _file(module)
        if path is None or module in seen:
            continue
        seen.add(module)
        for found in imports(path, module):
            if found.lazy or found.typing:
                continue
            assert found.top not in AGENT_FRAMEWORKS | {"httpx", "cryptography", "jwt", "pydantic"}, (
                f"{module}:{found.line}"
            )
            waiting += [
                found.name,
                *(found.name.rsplit(".", depth)[0] for depth in range(1, found.name.count(".") + 1)),
            ]
    assert package in seen


@pytest.mark.parametrize("module", CORE)
def test_heavy_libraries_are_loaded_by_who_needs_them(module: str) -> None:
    """Cryptography and PyJWT are imported inside the functions that use them; pydantic only for the settings."""
    name = module.partition(".")[2]
    if name.startswith("testing"):
        return
    for found in imports(CORE[module], module):
        if not found.lazy and not found.typing and found.top in HEAVY:
            assert name in HEAVY[found.top], f"{module}:{found.line} imports {found.name}"


@pytest.mark.parametrize("module", sorted(LAYERED))
def test_every_module_of_the_core_has_its_layer(module: str) -> None:
    """A new module is put into a layer before it is used."""
    assert sum(module in names for names in LAYERS.values()) == 1


def test_the_layers_name_only_what_exists() -> None:
    """A module that is gone leaves its layer, so that the table stays true."""
    assert {name for names in LAYERS.values() for name in names} <= set(LAYERED)


@pytest.mark.parametrize("module", sorted(LAYERED))
def test_no_import_goes_upwards(module: str) -> None:
    """Values know nothing; decisions know values; flows, shells and clients know what is below them."""
    for found in imports(LAYERED[module], f"authsec_core.{module}"):
        top, _, below = found.name.partition(".")
        if top != "authsec_core" or not below:
            continue
        target = below.split(".")[0]
        assert target != "testing", f"line {found.line} imports {found.name}"
        assert LEVEL[target] <= LEVEL[module], f"line {found.line} imports {found.name} from a layer above"


@pytest.mark.parametrize("package", ["authsec_core", "authsec_server"])
def test_there_is_no_circle(package: str) -> None:
    """Imports, those inside functions included, can be sorted; in the core also those that are for types alone."""
    graph: dict[str, set[str]] = {}
    own = modules(package)
    for module, path in own.items():
        if module == package:
            continue  # its lazy exports name everything
        named = {found.name for found in imports(path, module) if package == "authsec_core" or not found.typing}
        graph[module] = named & set(own) - {module, package}
    assert list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("module", modules("authsec_server"))
def test_what_the_authority_decides_knows_no_http(module: str) -> None:
    """Web frameworks belong to routes and to what stands around them: never to services, policy, audit and database."""
    name = module.partition(".")[2]
    if name in AT_THE_RIM or name.endswith("routes") or name.split(".")[0] in {"cli", "testing"}:
        return
    found = [found for found in imports(EVERY_MODULE[module], module) if found.top in WEB_FRAMEWORKS]
    assert not found


@pytest.mark.parametrize("module", modules("authsec_fastapi"))
def test_what_the_guard_decides_knows_no_http(module: str) -> None:
    """The web framework belongs to what stands between it and the decisions; agent frameworks are loaded lazily."""
    name = module.partition(".")[2]
    for found in imports(EVERY_MODULE[module], module):
        assert found.top not in WEB_FRAMEWORKS or name in GUARDS_RIM
        assert found.top not in AGENT_FRAMEWORKS or found.lazy or found.typing or name in GUARDS_FRAMEWORK_TOOLS
        assert found.name.partition(".")[2] not in GUARDS_FRAMEWORK_TOOLS


@pytest.mark.parametrize("module", PURE_AT_THE_GUARD)
def test_what_is_pure_at_the_guard_does_no_io(module: str) -> None:
    """Values, and what decides about them, touch no socket, no thread and no event loop."""
    for found in imports(EVERY_MODULE[f"authsec_fastapi.{module}"], f"authsec_fastapi.{module}"):
        assert found.top not in {"asyncio", "httpx", "socket", "threading", "anyio"}


@pytest.mark.parametrize("module", PURE_AT_THE_AUTHORITY)
def test_what_is_pure_at_the_authority_does_no_io(module: str) -> None:
    """What decides about tokens, and what an audit line says, touches no database, no socket and no thread."""
    for found in imports(EVERY_MODULE[f"authsec_server.{module}"], f"authsec_server.{module}"):
        assert found.top not in {"sqlalchemy", "asyncio", "httpx", "socket", "threading", "anyio", "alembic"}


@pytest.mark.parametrize("layer", ["values", "pure decisions"])
def test_what_is_pure_does_no_io(layer: str) -> None:
    """No HTTP, no sockets, no threads and no event loop in values and decisions."""
    for name in sorted(LAYERS[layer]):
        for found in imports(LAYERED[name], f"authsec_core.{name}"):
            assert found.top not in {"httpx", "socket", "ssl", "threading", "anyio", "http", "urllib3", "requests"}
            assert found.top != "asyncio" or (name, found.lazy) == ("_clock", True)


@pytest.mark.parametrize("module", [name for name in EVERY_MODULE if not name.rpartition(".")[2].startswith("_")])
def test_a_public_module_says_what_is_public(module: str) -> None:
    """A module without a leading underscore has a docstring and, unless that is all or alembic's, a plain `__all__`."""
    tree = ast.parse(EVERY_MODULE[module].read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    if len(tree.body) == 1 or ".migrations." in module:
        return
    listed = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and any(ast.unparse(target) == "__all__" for target in node.targets)
    ]
    assert len(listed) == 1
    assert isinstance(listed[0], ast.List)
    assert all(isinstance(item, ast.Constant) and isinstance(item.value, str) for item in listed[0].elts)


def test_the_reader_of_imports_sees_them_all(tmp_path: Path) -> None:
    """Imports inside functions, classes, conditions and try blocks are seen, relative ones resolved."""
    path = tmp_path / "x.py"
    path.write_text(
        "import a.b\nfrom c import d\nfrom .sibling import e\nfrom .. import f\n"
        "if TYPE_CHECKING:\n    import g\nelse:\n    import h\n"
        "try:\n    import i\nexcept ImportError:\n    import j\n"
        "def k():\n    import l\nclass M:\n    import n\n    async def o(self):\n        from p import q\n"
        "if not TYPE_CHECKING:\n    import r\n"
    )
    seen = {(found.name, found.lazy, found.typing) for found in imports(path, "pack.age.x")}
    plain = {"a.b", "c", "pack.age.sibling", "pack", "h", "i", "j", "n", "r"}
    assert seen == {(name, False, False) for name in plain} | {
        ("g", False, True),
        ("l", True, False),
        ("p", True, False),
    }
