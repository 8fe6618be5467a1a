"""Which model the examples talk to: OpenAI where `OPENAI_API_KEY` is set, else a scripted one on this machine.

Your own agents do not need this file: give them the `llm_config` or `LLM` that they have.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from authsec_core.testing import ScriptedModel, call

__all__ = ["autogen_llm", "call", "openai_llm", "summary"]

Turn = Any  # text, a call, a list of calls, or a function of the request: see ScriptedModel


@contextmanager
def autogen_llm(*script: Turn, api_key: str | None = None) -> Iterator[dict[str, Any]]:
    """Provide an `llm_config` for classic AutoGen; `script` is what the offline model says, turn by turn.

    An `api_key` from a vault takes the place of `OPENAI_API_KEY`, but for the sample one.
    """
    vaulted = None if api_key == "sk-sample" else api_key
    if key := vaulted or os.environ.get("OPENAI_API_KEY"):
        # cache_seed None: AutoGen would otherwise keep tool results in ./.cache, in clear.
        yield {"config_list": [{"model": _openai_model(), "api_key": key}], "cache_seed": None}
    else:
        with ScriptedModel(*script) as model:
            yield model.llm_config


@contextmanager
def openai_llm(*script: Turn) -> Iterator[dict[str, Any]]:
    """Provide model, key and address by the names that the other frameworks have for them; `script` as above."""
    if key := os.environ.get("OPENAI_API_KEY"):
        yield {"model": _openai_model(), "api_key": key}
    else:
        # The dated name, because AgentChat warns where a reply names another model than it takes `gpt-4o` for.
        with ScriptedModel(*script, model="gpt-4o-2024-08-06") as model:
            yield {"model": model.model, "base_url": model.base_url, "api_key": model.api_key}


def summary(template: str) -> Callable[[Mapping[str, Any]], str]:
    """Return a turn that reads the tool's last result and fills `template` from it, as a real model would."""

    def turn(body: Mapping[str, Any]) -> str:
        results = [message["content"] for message in body["messages"] if message["role"] in {"tool", "function"}]
        result = json.loads(results[-1])
        if isinstance(result, dict) and result.get("status") == "error":
            return f"I could not fetch the data ({result['code']}): {result['message']} TERMINATE"
        return template.format(data=result.get("data", result) if isinstance(result, dict) else result) + " TERMINATE"

    return turn


def _openai_model() -> str:
    return os.environ.get("OPENAI_MODEL", "gpt-4o-mini")
