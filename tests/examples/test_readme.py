"""Every program in the README runs as it stands there, against a model on this machine.

The service that it guards is for `test_docs_guard_commands`.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from authsec_core.testing import Call, ScriptedModel, call

Run = Callable[..., "subprocess.CompletedProcess[str]"]
README = Path(__file__).resolve().parents[2] / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
PROGRAMS = [block for block in BLOCKS if "fastapi" not in block]


@pytest.mark.parametrize("program", PROGRAMS, ids=["autogen", "offline", "crewai", "plain", "vault"])
def test_readme_program_runs(program: str, run: Run) -> None:
    """A program copied from the README fetches the sample data, and shows neither a token nor a secret."""

    def fetch(body: dict[str, Any]) -> Call:
        name = next(iter(model.offered_tools))
        return call(name, endpoint="secure-vault/metrics", scope="read:metrics")

    with ScriptedModel(fetch, "The vault is sealed.", "Nothing more.", "Nothing more.") as model:
        offline = "ScriptedModel(" in program  # has a model of its own, and must do without a key
        key = {} if offline else {"OPENAI_API_KEY": model.api_key, "OPENAI_BASE_URL": model.base_url}
        done = run("-c", program, **key)
        assert done.returncode == 0, done.stderr
        seen = done.stdout + "".join(model.tool_results)
    assert ("production/tavily/api-key" if "AgentVault" in program else "active_agents") in seen
    assert "eyJ" not in seen
    assert "tvly-" not in seen
