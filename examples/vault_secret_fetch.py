"""AutoGen: a model searches with an API key that it never sees. The tool puts the key on the request.

With nothing set it runs in MOCK mode. Set AUTHSEC_VAULT_URL and AUTHSEC_AGENT_KEY for LIVE.
"""

import asyncio

import autogen

from authsec_autogen import register_secret_fetch
from authsec_core import AgentVault
from model import autogen_llm, call, summary
from sample_vault import provide_secrets, search_service

offline = (
    call("search", endpoint="search?query=multi-agent+frameworks"),
    summary("The three best findings: {data[results]}."),
)


async def main() -> None:
    """Give the researcher a tool for one service and one secret, and let it search."""
    async with AgentVault() as vault:
        token = await vault.request_token(scope="secrets:read:production/tavily/*", ttl_seconds=1800)

    with autogen_llm(*offline) as llm_config, search_service() as address:
        researcher = autogen.AssistantAgent("researcher", llm_config=llm_config)
        executor = autogen.UserProxyAgent(
            "executor",
            human_input_mode="NEVER",
            code_execution_config=False,
            is_termination_msg=lambda message: "TERMINATE" in (message.get("content") or ""),
        )
        register_secret_fetch(
            caller=researcher,
            executor=executor,
            path="production/tavily/api-key",
            base_url=address,
            allowed_endpoints=["search"],
            token=token,
            name="search",
            description="Search the web. 'endpoint' is 'search?query=' and what to look for.",
        )
        await executor.a_initiate_chat(researcher, message="Find work on multi-agent frameworks; reply TERMINATE.")


provide_secrets()  # for MOCK mode
asyncio.run(main())
