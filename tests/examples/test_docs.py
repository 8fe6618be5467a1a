"""Every program in docs/ runs as it stands there; of docs/testing.md, every file is a test that passes.

What needs a framework runs where that is installed: `nox -s examples` has an environment for each.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from authsec_core.testing import Call, ScriptedModel, call

Run = Callable[..., "subprocess.CompletedProcess[str]"]
DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = DOCS / "testing.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
FILES = {block.partition("\n")[0].removeprefix("# "): block for block in BLOCKS}
TESTS = sorted(name for name in FILES if name.startswith("test_"))
FRAMEWORKS = ("autogen", "autogen_agentchat", "autogen_ext", "crewai")
IMPORTS = {
    name: [framework for framework in FRAMEWORKS if re.search(rf"^(?:from|import) {framework}\b", block, re.MULTILINE)]
    for name, block in FILES.items()
}
PLAIN = [name for name in TESTS if not IMPORTS[name]]


def test_the_page_has_what_is_looked_for() -> None:
    """Each block names its file; and the tests below cannot pass by finding none."""
    assert len(FILES) == len(BLOCKS)
    assert {*FILES} - {*TESTS} == {"conftest.py"}
    assert {*TESTS} - {*PLAIN} == {"test_autogen_analyst.py", "test_agentchat_analyst.py", "test_crew.py"}
    assert len(PLAIN) >= 7


def test_the_plain_files_pass(run: Run, tmp_path: Path) -> None:
    """They pass, all in one folder, with the fixtures that the wheel brings and nothing else."""
    _copy(tmp_path, *PLAIN)
    _check(run("-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)), *PLAIN)


@pytest.mark.parametrize("name", [name for name in TESTS if IMPORTS[name]])
def test_the_file_for_a_framework_passes(name: str, run: Run, tmp_path: Path) -> None:
    """It passes with that framework and the page's own conftest.py."""
    for framework in IMPORTS[name]:
        if importlib.util.find_spec(framework) is None:
            pytest.skip(f"{framework} is not installed")
    _copy(tmp_path, name, "conftest.py")
    _check(run("-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)), name)


def _copy(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_text(FILES[name], encoding="utf-8")


def _check(done: subprocess.CompletedProcess[str], *names: str) -> None:
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"^(\d+) passed", done.stdout, re.MULTILINE)
    assert passed, done.stdout
    assert int(passed[1]) >= sum(FILES[name].count("def test_") for name in names)


# The front page shows two lines of a program that has these agents.
AGENTS = """
import autogen
assistant = autogen.AssistantAgent("assistant", llm_config={"config_list": [{"model": "gpt-4o"}], "cache_seed": None})
proxy = autogen.UserProxyAgent("proxy", human_input_mode="NEVER", code_execution_config=False)
"""
# What the first page about the guard says to save and serve: `test_docs_guard_commands` does.
SERVED = DOCS / "guard" / "quickstart.md"
NEEDED = {
    "ag2": r"ag2|authsec_autogen\.ag2",
    "agent_framework": r"agent_framework|authsec_autogen\.agent_framework",
    "authlib": "authlib",
    "autogen": "autogen",
    "autogen_core": r"authsec_autogen\.agentchat",
    "autogen_ext": r"autogen_agentchat|autogen_ext",
    "crewai": r"authsec_crewai|crewai",
    "fastapi": r"authsec_fastapi|fastapi",
    "opentelemetry": "opentelemetry",
}
POLICY = r"^```(yaml|toml)\n(version.*?)^```$"
CONVERSATION = re.compile(r"initiate_chat\(|kickoff\(|\.ask\(|\.run\(task=|analyst\.run\(")


def _programs() -> Iterator[Any]:
    for page in sorted(DOCS.rglob("*.md")):
        if page in (PAGE, SERVED):
            continue
        text = page.read_text(encoding="utf-8")
        blocks = re.findall(r"^( *)```python[^\n]*\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL)
        for number, (_, block) in enumerate(blocks, 1):
            if block.startswith("--8<-- "):  # an example, which test_examples runs
                continue
            program = textwrap.dedent(block)
            if "caller=assistant" in program and "assistant = " not in program:
                program = AGENTS + program
            needs = [
                name for name, imported in NEEDED.items() if re.search(rf"^(from|import) ({imported})\b", program, re.M)
            ]
            policies = {f"policy.{form}": code for form, code in re.findall(POLICY, text, re.MULTILINE | re.DOTALL)}
            environment = dict(re.findall(r'^export (AUTHSEC_GUARD_\w+)="(.+)"$', text, re.MULTILINE))
            name = f"{page.relative_to(DOCS).as_posix()}-{number}-{'+'.join(needs) or 'plain'}"
            yield pytest.param(program, needs, environment, policies, id=name)


PROGRAMS = list(_programs())


def test_programs_are_found_for_each_framework() -> None:
    """The test below cannot pass by finding none."""
    needed = [name for program in PROGRAMS for name in program.values[1]]
    assert set(needed) == set(NEEDED)
    assert len([program for program in PROGRAMS if CONVERSATION.search(program.values[0])]) >= 7


@pytest.mark.parametrize(("program", "needs", "environment", "policies"), PROGRAMS)
def test_the_program_runs(
    program: str, needs: list[str], environment: dict[str, str], policies: dict[str, str], run: Run, tmp_path: Path
) -> None:
    """A program copied from a page runs; one with a conversation fetches the sample data; none shows a token.

    One of the guard's prints what stands beside each `print`, with the settings that its page exports and
    beside the policies that it says to save.
    """
    for framework in needs:
        if importlib.util.find_spec(framework) is None:
            pytest.skip(f"{framework} is not installed")

    for name, policy in policies.items():
        (tmp_path / name).write_text(policy, encoding="utf-8")

    def fetch(body: dict[str, Any]) -> Call:
        name = next(iter(model.offered_tools))
        return call(name, endpoint="secure-vault/metrics", scope="read:metrics")

    # The dated name, because AgentChat warns where a reply names another model than it takes `gpt-4o` for.
    with ScriptedModel(fetch, "The vault is sealed.", "Nothing more.", model="gpt-4o-2024-08-06") as model:
        offline = "ScriptedModel(" in program  # has a model of its own, and must do without a key
        key = {} if offline else {"OPENAI_API_KEY": model.api_key, "OPENAI_BASE_URL": model.base_url}
        done = run("-c", program, **key, **environment)
    assert done.returncode == 0, done.stderr
    seen = done.stdout if offline else "".join(model.tool_results)
    if "fastapi" not in needs:
        assert CONVERSATION.search(program) is None or "active_agents" in seen, done.stdout
    else:
        promised = re.findall(r"^ *print\(.*\)  # (.+)$", program, re.MULTILINE)
        told = done.stdout.splitlines()
        assert (told if needs == ["fastapi"] else [line for line in told if line in promised]) == promised
    assert "eyJ" not in done.stdout + done.stderr + model.transcript
