"""What the tests with classic AutoGen and AG2 share: the frameworks' own warnings, and a folder for what they write."""

from __future__ import annotations

from pathlib import Path

import pytest

# What the frameworks themselves do, which is not ours to mend.
FRAMEWORK_WARNINGS = (
    # Microsoft's 0.2 asks whether Docker runs, and forgets the Unix socket on which nobody answered.
    r"ignore:unclosed <socket\.socket fd=\d+, family=(1|AddressFamily\.AF_UNIX),:ResourceWarning",
    # Microsoft's 0.2 times its replies with it; Python 3.12 warns.
    r"ignore:datetime\.datetime\.utcnow:DeprecationWarning:autogen\.",
    # AG2 0.9 would have it otherwise, and does itself what it warns of; 0.14 takes it without a word.
    "ignore:`LLMConfig\\(config_list=.*is deprecated:DeprecationWarning",
    "ignore:`LLMConfig.current / .default` properties are deprecated:DeprecationWarning:autogen",
    "ignore:The `copy` method is deprecated:pydantic.warnings.PydanticDeprecatedSince20",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Filter the frameworks' own warnings, for the tests in this folder only."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for ignored in FRAMEWORK_WARNINGS:
                item.add_marker(pytest.mark.filterwarnings(ignored))


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the frameworks write their caches where the test ends."""
    monkeypatch.chdir(tmp_path)
