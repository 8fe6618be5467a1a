"""What importing the AgentChat adapter costs, and what it says where there is no AgentChat. None of it needs one."""

from __future__ import annotations

import subprocess
import sys
import types

import pytest

from authsec_autogen import agentchat
from authsec_core import ConfigurationError

HEAVY = ("autogen_agentchat", "autogen_core", "autogen_ext", "cryptography", "httpx", "jwt", "openai", "pydantic")


def test_its_names_are_sorted_and_listed_before_anything_is_loaded() -> None:
    """`__all__` is what `dir` shows; a misspelt name fails as in any module."""
    assert agentchat.__all__ == sorted(agentchat.__all__)
    assert set(agentchat.__all__) <= set(dir(agentchat))
    with pytest.raises(AttributeError, match="AuthSecSecureFetchTol"):
        _ = agentchat.AuthSecSecureFetchTol


@pytest.mark.req("RO3")
def test_importing_it_loads_no_framework_and_says_nothing() -> None:
    """The framework is loaded with the tool's class, and not before."""
    program = f"import sys, authsec_autogen.agentchat; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize("module", [None, types.ModuleType("autogen_core")], ids=["missing", "another"])
@pytest.mark.parametrize("use", ["make_secure_fetch", "AuthSecSecureFetchTool"])
def test_a_framework_that_is_missing_or_another_is_one_clear_error(
    monkeypatch: pytest.MonkeyPatch, module: types.ModuleType | None, use: str
) -> None:
    """It names the extra, and which packages of similar names do not do."""
    monkeypatch.setitem(sys.modules, "autogen_core", module)
    monkeypatch.delitem(vars(agentchat), "AuthSecSecureFetchTool", raising=False)
    with pytest.raises(ConfigurationError) as refused:
        getattr(agentchat, use)()
    for needed in ("authsec-autogen[agentchat]", "pyautogen 0.10", "classic AutoGen", "dist/", "'autogen_core'"):
        assert needed in refused.value.message
