"""Does the documentation name all that there is, and nothing else? Read from the sources; no framework is needed.

The pages about the authority are held against it by `test_docs_authority`.
Whether a page is true is for readers to say. Its code is for `test_docs_code` and `examples/test_docs`.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

import authsec_fastapi
from authsec_core import AuthSecConfig, AuthSecError, ConfigurationError, VaultConfig, errors
from authsec_core._layers import variable
from authsec_core._telemetry import _Instruments
from authsec_core.cli._arguments import _parser
from authsec_fastapi import GuardSettings
from authsec_server.settings import ServerSettings

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
HISTORY = {DOCS / "decisions.md"}  # says what was, and what was rejected
PAGES = sorted({*DOCS.rglob("*.md"), ROOT / "README.md"} - HISTORY)
REFUSED = ("AUTHSEC_ALLOWED_PATHS", "AUTHSEC_ALOWED_ENDPOINTS", "AUTHSEC_CLIENT_ID")
SOURCES = {
    ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ROOT.glob("packages/*/src/*")
    for path in package.rglob("*.py")
}
# What an application or a test may import of the authority; the rest of its modules are its own.
PUBLIC_OF_SERVER = {f"authsec_server{module}" for module in ("", ".app", ".settings", ".testing")}
# And of the guard: its package has all names but those that need an agent framework, and those for tests.
PUBLIC_OF_GUARD = {f"authsec_fastapi{module}" for module in ("", ".agentchat", ".classic", ".crewai", ".testing")}
SERVERS = {setting.variable for setting in ServerSettings.describe()}
SETTINGS = VaultConfig.model_fields  # which are those of AuthSecConfig, and the vault's own
GUARDS = {f"AUTHSEC_GUARD_{name.upper()}" for name in GuardSettings.model_fields}
OPERATORS = {f"AUTHSEC_ADMIN_{name}" for name in ("URL", "TOKEN", "CA_FILE")}
RAISED = [getattr(package, name) for package in (errors, authsec_fastapi) for name in package.__all__]
CLASSES = [kind for kind in RAISED if isinstance(kind, type) and issubclass(kind, AuthSecError)]


def _text(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(SOURCES[module].read_text(encoding="utf-8"))


# Settings


def test_every_setting_is_documented_and_every_documented_one_exists() -> None:
    """The table of configuration.md has one row for each setting of an agent or of the vault, and no other."""
    rows = re.findall(r"^\| `((?:AUTHSEC|ASS)_\w+)`", _text("configuration.md"), re.MULTILINE)
    assert sorted(rows) == sorted(map(variable, SETTINGS))


def test_documented_defaults_are_the_defaults() -> None:
    """Where the table states a number or a word in code as the default, it is the default."""
    rows = re.findall(r"^\| `(AUTHSEC_\w+)`[^|]*\| ([^|]+) \|", _text("configuration.md"), re.MULTILINE)
    stated = {name: text.strip("` ") for name, text in rows if re.fullmatch(r"`\w+`|[\d.]+", text.strip())}
    defaults = {variable(name): str(field.default).lower().removesuffix(".0") for name, field in SETTINGS.items()}
    assert len(stated) >= 9
    assert stated == {name: defaults[name] for name in stated}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_page_names_a_setting_that_does_not_exist(page: Path) -> None:
    """A variable that a page names is one of ours, but for those that configuration.md says are refused."""
    named = set(re.findall(r"\bAUTHSEC_\w*[A-Z0-9]\b", page.read_text(encoding="utf-8")))
    known = {variable(field) for field in SETTINGS} | SERVERS | OPERATORS | GUARDS
    assert named - known == (set(REFUSED) if page.name == "configuration.md" else set())


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_said_to_be_refused_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables that configuration.md shows as errors are errors."""
    monkeypatch.setenv(name, "1")
    with pytest.raises(ConfigurationError, match=f"{name} is not a setting"):
        AuthSecConfig()


# Errors


def _codes_of_results() -> Iterator[str]:
    """Yield each code that is written out, in the sources, for a result that no exception stands behind."""
    modules = [module for module in SOURCES if not module.startswith(("authsec_core.testing", "authsec_server"))]
    for node in (node for module in modules for node in ast.walk(_tree(module))):
        pairs: list[tuple[str | None, ast.expr | None]] = []
        if isinstance(node, ast.Call):
            pairs = [(keyword.arg, keyword.value) for keyword in node.keywords]
            pairs += [("code", first) for first in node.args[:1] if ast.unparse(node.func) == "self._error"]
        elif isinstance(node, ast.Dict):
            pairs = [(_literal(key), value) for key, value in zip(node.keys, node.values, strict=True)]
        elif isinstance(node, ast.arguments):
            pairs = [(each.arg, value) for each, value in zip(node.kwonlyargs, node.kw_defaults, strict=True)]
        yield from (text for name, value in pairs if name == "code" and (text := _literal(value)) is not None)


def _literal(node: ast.expr | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def test_every_error_code_is_documented_and_every_documented_one_exists() -> None:
    """errors.md has a section for each code of an exception, a tool or the command, and for no other."""
    sections = re.findall(r"^### `(\w+)`$", _text("errors.md"), re.MULTILINE)
    there_are = {kind.code for kind in CLASSES} | set(_codes_of_results())
    assert {"internal_error", "cancelled", "tool_refused", "bad_arguments", "usage"} < there_are
    assert sorted(sections) == sorted(there_are)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.code)
def test_the_section_of_an_error_says_what_it_is(kind: type[AuthSecError]) -> None:
    """It names the class that has this code, says whether to try again, and has a cause and a mend."""
    section = _text("errors.md").partition(f"### `{kind.code}`\n")[2].partition("\n##")[0]
    retryable = "retryable" if kind.retryable else "not retryable"
    assert section.startswith(f"\n`{kind.__name__}`, {retryable}\n")
    assert section.index("**Cause.** ") < section.index("**Mend.** ")


def test_every_reason_of_a_refusal_is_documented() -> None:
    """errors.md has the reasons and statuses of `delegation_refused`."""
    from authsec_core._exchange import _REFUSALS

    rows = re.findall(r"^\| `(\w+)` \| (\d+) \|", _text("errors.md"), re.MULTILINE)
    assert {int(status): reason for reason, status in rows} == {status: row[0] for status, row in _REFUSALS.items()}


# Public names


def _public_modules() -> Iterator[str]:
    public = [name for name in SOURCES if not any(part.startswith("_") for part in name.split("."))]
    inside = ("authsec_server", "authsec_fastapi")
    yield from (name for name in public if not name.startswith(inside) or name in PUBLIC_OF_SERVER | PUBLIC_OF_GUARD)


def _exported(module: str) -> list[str]:
    for node in _tree(module).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names: list[str] = ast.literal_eval(node.value)
            return names
    return []


def _home(module: str, name: str) -> str:
    """Return where `name` is made, following the imports of it from module to module."""
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.ImportFrom) and node.module in SOURCES and name in {item.name for item in node.names}:
            return _home(node.module, name)
    return f"{module}.{name}"


def _documented() -> list[tuple[str, str]]:
    pages = "\n".join(page.read_text(encoding="utf-8") for page in (DOCS / "reference").glob("*.md"))
    return re.findall(r"^::: ([\w.]+)\.(\w+)$", pages, re.MULTILINE)


def test_every_public_name_is_in_the_reference() -> None:
    """What a public module exports stands in the reference, under that module or another that exports the same."""
    documented = {_home(module, name) for module, name in _documented()}
    public = [(module, name) for module in _public_modules() for name in _exported(module)]
    assert len(public) > 100
    assert [".".join(name) for name in public if _home(*name) not in documented] == []


def test_every_name_in_the_reference_is_public() -> None:
    """A name in the reference is exported by the module that it is written with; none stands there twice."""
    unknown = [f"{module}.{name}" for module, name in _documented() if name not in _exported(module)]
    homes = [_home(module, name) for module, name in _documented()]
    assert (unknown, sorted(homes)) == ([], sorted(set(homes)))


def test_every_fixture_is_on_the_page_about_testing() -> None:
    """Its table of fixtures has each that the plugin brings, and no other."""
    rows = re.findall(r"^\| `(\w+)` \|", _text("testing.md").partition("## All fixtures")[2], re.MULTILINE)
    assert sorted(rows) == sorted(_exported("authsec_core.testing.plugin"))


# The command


def _commands(parser: argparse.ArgumentParser, words: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield each command with the words that it is typed as."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield words.strip(), parser
    for name, command in below[0].choices.items() if below else ():
        yield from _commands(command, f"{words} {name}")


def test_every_command_and_option_is_documented_and_every_documented_one_exists() -> None:
    """cli.md has a section for each command, and a row for each option that says which commands have it."""
    parser = _parser()
    commands = dict(_commands(parser))
    page = _text("cli.md")
    assert {name.split()[0] for name in commands} <= set(re.findall(r"^## (\w+)$", page, re.MULTILINE))
    options = {
        option: {name for name, command in commands.items() if option in command._option_string_actions}
        for each in (parser, *commands.values())
        for option in each._option_string_actions
        if option.startswith("--")
    }
    documented: dict[str, set[str]] = defaultdict(set)
    for named, of in re.findall(r"^\| (`--[^|]+)\|([^|]*)\|", page, re.MULTILINE):
        # "all", of no command but the program itself, or the commands; "`secrets`" is each that begins so.
        words = [""] if of.strip() == "all" else [f"{word} " for word in re.findall(r"`([\w ]+)`", of)]
        for option in re.findall(r"--[a-z][\w-]+", named):
            documented[option] |= {name for name in commands for word in words if f"{name} ".startswith(word)}
    assert documented.keys() == options.keys()
    for option in documented.keys() - {"--help"}:  # which is everywhere, and no row says so
        assert documented[option] == options[option], option


# Examples


def test_the_secrets_that_an_example_reads_are_listed() -> None:
    """The guide has a row with the paths of each example of the vault, and a line that sets each of them."""
    page = _text("guides/vault-research-agent.md")
    read = {
        path.name: set(re.findall(r'\bpath="(production/[\w/-]+)"|get_secret\("([\w/-]+)"', path.read_text("utf-8")))
        for path in (ROOT / "examples").glob("vault_*.py")
    }
    expected = {name: {one or other for one, other in pairs} for name, pairs in read.items()}
    rows = re.findall(r"^\| `(vault_\w+\.py)` \| (.+) \|$", page, re.MULTILINE)
    assert {name: set(re.findall(r"`([\w/-]+)`", cell)) for name, cell in rows} == expected
    assert set(re.findall(r"authsec secrets set (\S+)$", page, re.MULTILINE)) == set().union(*expected.values())


# Telemetry


class _Meter:
    """Stands in for a meter, and remembers the names of what was made."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def create_counter(self, name: str, *_: Any) -> None:
        self.names.append(name)

    def create_histogram(self, name: str, *_: Any, **__: Any) -> None:
        self.names.append(name)


def test_every_attribute_and_metric_is_documented_and_every_documented_one_exists() -> None:
    """The tables of observability.md have each span, attribute and metric that the code can tell, and no other."""
    meter: Any = _Meter()
    _Instruments(meter)
    trees = [_tree("authsec_core._telemetry"), _tree("authsec_fastapi._telemetry")]
    literals = {node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    pattern = re.compile(r"(authsec|error|http|server)\.[a-z_]+(\.[a-z_]+)*")
    told = {text for text in literals if isinstance(text, str) and pattern.fullmatch(text)}
    told |= {*meter.names, "authsec.exchange", "authsec.fetch"}
    assert len(told) >= 16
    rows = [line for line in _text("observability.md").splitlines() if line.startswith("| `")]
    documented = {match[0] for row in rows for match in pattern.finditer(" ".join(re.findall(r"`([^`]+)`", row)))}
    assert documented == told


# Packages


def test_every_extra_is_on_the_quickstart() -> None:
    """quickstart.md says what each extra of each wheel is for, and names none that there is not."""
    extras = set()
    for path in ROOT.glob("packages/*/pyproject.toml"):
        project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
        extras |= set(project.get("optional-dependencies", {}))
    assert extras == set(re.findall(r"(?:\.whl|`)\[([\w-]+)\]", _text("quickstart.md")))


def test_every_promise_is_in_the_security_model() -> None:
    """security.md has each numbered requirement, in the words of tests/requirements.toml, and no other."""
    areas = tomllib.loads((ROOT / "tests" / "requirements.toml").read_text(encoding="utf-8"))
    rows = re.findall(r"^\| (R[A-Z]\d+) \| (.+) \|$", _text("security.md"), re.MULTILINE)
    assert dict(rows) == {name: text for area in areas.values() for name, text in area.items()}
