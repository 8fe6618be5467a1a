"""Where the modules are that these tests share: importlib mode adds no folders."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "shared"))
pytest.register_assert_rewrite("coroutine_contract", "vault_contract", "vault_tools_support")
