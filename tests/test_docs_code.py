"""Is the code in the documentation whole, and do its commands exist? Nothing is run here and no framework is needed.

`examples/test_docs` and `examples/test_readme` run the programs; `nox -s readme` runs the README's commands, and
`test_docs_authority_commands` those of the pages about the authority.
"""

from __future__ import annotations

import ast
import re
import shlex
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from authsec_core import AuthSecConfig
from authsec_core._layers import variable
from authsec_core._version import __version__
from authsec_core.cli._arguments import UsageError, parse
from authsec_fastapi import GuardSettings
from authsec_server.cli._arguments import parse as parse_server
from authsec_server.settings import ServerSettings

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
PACKAGES = ("core", "autogen", "crewai", "fastapi", "server")
WHEELS = {f"authsec_{name}-{__version__}-py3-none-any.whl" for name in PACKAGES}
# What else a page may install.
OTHERS = {"autogen-ext[openai]", "ag2[openai]", "agent-framework-openai", "opentelemetry-sdk"}
SETTINGS = {
    *map(variable, AuthSecConfig.model_fields),
    *(setting.variable for setting in ServerSettings.describe()),
    *(f"AUTHSEC_GUARD_{name.upper()}" for name in GuardSettings.model_fields),
    "AUTHSEC_ADMIN_URL",
    "AUTHSEC_ADMIN_TOKEN",
    "APP_BEARER_TOKEN",  # of the program on the first page about the guard
}
# What stands for an id on the pages about the authority.
IDS = {"APPROVAL_ID", "CLIENT_ID", "ISSUER_ID", "JTI", "KID", "OLD_KEY_ID", "OPERATOR_ID", "TOKEN"}
MADE = {"agent.jwk": "{}"}  # by a program on the page, and read while the arguments are
SERVICES = ("http://127.0.0.1:8000/", "http://127.0.0.1:8001/")  # a reader's own, on the first page about the guard
OURS = ("$AUTHSEC_BASE_URL/", "$AUTHSEC_VAULT_URL/", "$AUTHSEC_ADMIN_URL/", "http://127.0.0.1:8321/", *SERVICES)
# `test_docs_guard` runs what asks about a policy.
PLAIN = re.compile(
    r"mkdir -p pinned|sleep \d|wait|\.venv/bin/uvicorn \w+:app( --port 8001)?|\.venv/bin/python save_header\.py"
    r"|\.venv/bin/python -m authsec_fastapi \w+ policy\.yaml.*"
)
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: Path
    language: str
    code: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(DOCS).as_posix()}: {self.code.strip().splitlines()[0]}"


def _blocks(page: Path) -> Iterator[Block]:
    fence = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
    for _, language, code in fence.findall(page.read_text(encoding="utf-8")):
        yield Block(page, language, textwrap.dedent(code))


BLOCKS = [block for page in PAGES if page.parent != DOCS / "deploy" for block in _blocks(page)]
PYTHON = [block for block in BLOCKS if block.language == "python"]
SHELL = [block for block in BLOCKS if block.language in {"sh", "powershell"}]


def test_blocks_are_found_and_are_of_a_kind_that_is_checked() -> None:
    """A block is Python or a shell's, but for a drawing, a manifest, and policies, which are for `test_docs_guard`.

    The pages about deployment have files and commands of other programs, which are for `test_deploy_kit`.
    """
    assert len(PYTHON) > 40
    assert len(SHELL) > 9
    others = [block for block in BLOCKS if block not in PYTHON and block not in SHELL]
    gateway = [("agent-gateway.md", "json"), ("agent-gateway.md", "yaml")]  # a line on record, and the example's file
    policy = [("policy.md", language) for language in ("text", "toml", "yaml")]
    expected = [("architecture.md", ""), *policy, ("workloads.md", "yaml")]
    assert sorted((block.page.name, block.language) for block in others) == [*gateway, *expected]


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_is_whole_and_imports_what_there_is(block: Block) -> None:
    """A block parses, unless it includes a file, and imports only public names of authsec."""
    tree = ast.parse("" if block.code.startswith("--8<-- ") else block.code)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("authsec_"):
            assert {name.name for name in node.names} <= _exported(node.module or ""), ast.unparse(node)


@each_page
def test_includes_are_well_formed(page: Path) -> None:
    """A line that includes a file is spelled as the site's generator reads it, and the file is there."""
    lines = [line for line in page.read_text(encoding="utf-8").splitlines() if re.search(r"--\s*8\s*<", line)]
    for line in lines:
        included = re.fullmatch(r'--8<-- "(\S+)"', line)
        assert included, line
        assert (ROOT / included[1]).is_file(), line


def test_the_formatter_leaves_includes_in_python_alone() -> None:
    """A page with an include in a block of Python is exempt: the formatter would make an expression of it."""
    exempt = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]["extend-exclude"]
    assert {block.page.relative_to(ROOT).as_posix() for block in PYTHON if block.code.startswith("--8<--")} == {*exempt}


def _exported(module: str) -> set[str]:
    package, *inside = module.split(".")
    source = ROOT / "packages" / package.replace("_", "-") / "src" / package
    path = source.joinpath(*inside)
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    raise AssertionError(f"{module} exports nothing")


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_each_command_is_one_that_there_is(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line of a shell block is one of the commands below, with arguments that exist."""
    monkeypatch.chdir(tmp_path)
    for name, text in MADE.items():
        Path(name).write_text(text, encoding="utf-8")
    for line in block.code.replace("\\\n", " ").splitlines():
        _check(_posix(line) if block.language == "powershell" else line)


def _posix(line: str) -> str:
    """Return PowerShell's spelling of one of our commands as sh has it."""
    line = re.sub(r'^\$env:(\w+) = "', r'export \1="', line).replace("\\", "/")
    line = re.sub(r'; \$env:(\w+) = "', r' \1="', line)
    line = re.sub(r"^Remove-Item ", "rm ", line)
    return re.sub(r"^py ", "python3 ", line).replace("/Scripts/", "/bin/")


def _command(line: str) -> list[str]:
    """Return the words of the command itself, without where its input comes from and its output goes."""
    words = shlex.split(line, comments=True)
    assert words, "a blank line"
    if words[0] == "printf" and "|" in words:
        words = words[words.index("|") + 1 :]
    files = [words.index(sign) for sign in "<>" if sign in words and words[0] != "printf"]
    return words[: min(files, default=len(words))]


def _check(line: str) -> None:
    words = _command(line)
    if words[:3] == ["python3", "noxfile.py", "-s"]:
        assert words[3] in _sessions(), line
    elif words[0] == ".venv/bin/authsec":
        parse([word.removeprefix("$") for word in words[1:]])
    elif words[0] == ".venv/bin/authsec-server":
        parse_server(words[1:])
    elif words[0] == "export":
        assert words[1:], line
        assert {word.partition("=")[0] for word in words[1:]} <= SETTINGS | IDS, line
    elif words[0] == "curl":
        urls = [word for word in words if ("://" in word and word[0] != "{") or re.match(r"\$\w+/", word)]
        assert urls or "-K" in words, line  # a file that says where
        assert all(url.startswith(OURS) for url in urls), line
        assert "Bearer" not in line, f"arguments are seen by every process: {line}"
    elif words[0] == "rm":
        assert {*words[1:]} <= {".env", "payments.key", "good.header", "made-up.header"}, line
    elif words[:2] == [".venv/bin/python", "-c"]:
        ast.parse(words[2])
    elif words[0] in {"printf", "umask"}:  # the shell's own: no process sees their arguments
        assert words[1:] == ["077"] or words[3] == ">", line
    elif PLAIN.fullmatch(line):
        return
    elif Path(words[0]).name == "pip":
        assert words[1] == "install", line
        for wanted in words[2:]:
            wheel = re.fullmatch(r"dist/([^\[]+)(\[[\w,-]+\])?", wanted)
            assert wanted in OTHERS or (wheel and wheel[1] in WHEELS), f"on an index {wanted} may be somebody else's"
    else:
        assert words[:3] == ["python3", "-m", "venv"], line


def _sessions() -> set[str]:
    tree = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {"tests"} | {
        node.name for node in functions if any("session" in ast.unparse(d) for d in node.decorator_list)
    }


@pytest.mark.parametrize(
    "line",
    [
        "python3 noxfile.py -s nosuch",
        "authsec doctor",
        ".venv/bin/authsec token --no-such-option",
        ".venv/bin/authsec nosuch",
        "export AUTHSEC_NO_SUCH=1",
        "export AUTHSEC_BASE_URL=http://127.0.0.1:8321 AUTHSEC_NO_SUCH=1",
        ".venv/bin/authsec-server nosuch",
        ".venv/bin/authsec-server admin clients onboard",
        "authsec-server serve --dev",
        ".venv/bin/uvicorn nosuch",
        "pip install authsec-autogen",
        "pip install dist/authsec_autogen-0.0.0-py3-none-any.whl",
        "curl https://example.com",
        'curl -fsS -H "Authorization: Bearer $AUTHSEC_AGENT_KEY" "$AUTHSEC_BASE_URL/v1/me"',
    ],
)
def test_a_command_that_does_not_exist_is_noticed(line: str) -> None:
    """The check above cannot pass by believing everything."""
    with pytest.raises((AssertionError, UsageError)):
        _check(line)


@each_page
def test_links_lead_to_what_there_is(page: Path) -> None:
    """A page links to pages and headings of the site, and to the web by https; so it works where it is published."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.is_file(), target
        assert DOCS in found.parents, f"{target} is not on the site"
        if anchor and found.suffix == ".md" and "reference" not in found.parts:
            assert anchor in _anchors(found), target


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}


def test_the_site_asks_no_other_host() -> None:
    """No font, script, style or picture of the site lies elsewhere."""
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert "  font: false" in settings
    assert "://" not in settings
    assert "analytics" not in settings
    for path in DOCS.rglob("*"):
        if path.suffix in {".css", ".js", ".md"}:
            text = path.read_text(encoding="utf-8")
            assert not re.search(
                r"@import|<script|<iframe|<link|\]\(http:|!\[[^\]]*\]\(\w+:|(?:src=|url\()[\"']?\w+:", text
            )
        if path.suffix == ".svg":
            text = path.read_text(encoding="utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
            assert "://" not in text
