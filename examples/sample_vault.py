"""What the vault's examples find where nothing is set: invented secrets, and a search service that asks for one.

Your own agents do not need this file: they have `AUTHSEC_VAULT_URL` and `AUTHSEC_AGENT_KEY`, and real services.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

from authsec_core.testing import LoopbackServer, Reply, Request

__all__ = ["provide_secrets", "search_service"]

_SECRETS = {
    "production/openai/api-key": "sk-sample",
    "production/tavily/api-key": "tvly-sample",
    "production/search/tavily-key": "tvly-sample",
    "production/publishing/wordpress-key": "wp-sample",
    "production/quality/grammarly-key": "gr-sample",
}


def provide_secrets() -> None:
    """Let `AgentVault()` find invented secrets, unless the environment describes a real vault."""
    if not {"AUTHSEC_VAULT_URL", "AUTHSEC_BASE_URL", "ASS_API_URL"} & os.environ.keys():
        os.environ["AUTHSEC_MOCK_SECRETS"] = json.dumps(_SECRETS)


@contextmanager
def search_service() -> Iterator[str]:
    """Provide the address of a service that answers whoever brings a key: `SEARCH_URL`, or one on this machine."""
    if address := os.environ.get("SEARCH_URL"):
        yield address
        return

    def answer(request: Request) -> Reply:
        if not request.headers.get("authorization", "").startswith("Bearer "):
            return Reply.of_json({"error": "no key"}, status=401)
        return Reply.of_json({"results": ["Agents that plan", "Agents that check", "Agents that ask"]})

    with LoopbackServer(answer) as server:
        yield server.base_url
