"""AutoGen: an agent that reads API keys from the vault at run time, the key of its own model among them.

The model is shown what `get_secret` returns. Where it only has to use a key: vault_secret_fetch.py.
With nothing set it runs in MOCK mode. Set AUTHSEC_VAULT_URL and AUTHSEC_AGENT_KEY for LIVE.
"""

import asyncio

import autogen

from authsec_autogen import make_vault_tool
from authsec_core import AgentVault
from model import autogen_llm, call
from sample_vault import provide_secrets

offline = (
    call("get_secret", path="production/tavily/api-key"),
    "I have the key of the search service, and would search with it now. TERMINATE",
)


async def main() -> None:
    """Fetch the model's key, ask for a token for the rest, and start the conversation."""
    async with AgentVault() as vault:
        token = await vault.request_token(
            scope="secrets:read:production/tavily/*", ttl_seconds=1800, description="session of the research agent"
        )
        openai_key = await vault.get_secret("production/openai/api-key")

    with autogen_llm(*offline, api_key=openai_key.value) as llm_config:
        assistant = autogen.AssistantAgent(
            name="research_assistant",
            llm_config=llm_config,
            system_message="Get the key of a service with get_secret before you call it. Reply TERMINATE at the end.",
        )
        user_proxy = autogen.UserProxyAgent(
            name="user_proxy",
            human_input_mode="NEVER",
            max_consecutive_auto_reply=10,
            code_execution_config=False,  # code that a model writes could read AUTHSEC_AGENT_KEY
            is_termination_msg=lambda message: "TERMINATE" in (message.get("content") or ""),
        )
        autogen.register_function(
            make_vault_tool(vault_token=token.value),
            caller=assistant,
            executor=user_proxy,
            name="get_secret",
            description="Retrieve an API key from the vault by its path, such as production/tavily/api-key.",
        )
        await user_proxy.a_initiate_chat(assistant, message="Prepare a search for work on multi-agent frameworks.")


provide_secrets()  # for MOCK mode
asyncio.run(main())
