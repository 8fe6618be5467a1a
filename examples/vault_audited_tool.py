"""AutoGen: the audit shows which agent read which secret, and the reason that its model gave.

Name and reason are the agent's own words; the audit keeps them as claims, beside the identity that the token proves.
With nothing set it runs in MOCK mode. Set AUTHSEC_VAULT_URL and AUTHSEC_AGENT_KEY for LIVE.
"""

import asyncio

import autogen

from authsec_autogen import make_audited_vault_tool
from authsec_core import AgentVault
from model import autogen_llm, call
from sample_vault import provide_secrets

offline = (
    call("get_secret", path="production/tavily/api-key", reason="to search for papers"),
    "I have the key. TERMINATE",
)


async def main() -> None:
    """Register a tool that says for whom it reads, and start the conversation."""
    async with AgentVault() as vault:
        token = await vault.request_token(scope="secrets:read:production/tavily/*", ttl_seconds=1800)

    with autogen_llm(*offline) as llm_config:
        researcher = autogen.AssistantAgent("researcher", llm_config=llm_config)
        user_proxy = autogen.UserProxyAgent(
            "user_proxy",
            human_input_mode="NEVER",
            code_execution_config=False,
            is_termination_msg=lambda message: "TERMINATE" in (message.get("content") or ""),
        )
        autogen.register_function(
            make_audited_vault_tool(vault_token=token.value, agent_name=researcher.name),
            caller=researcher,
            executor=user_proxy,
            name="get_secret",
            description="Retrieve a credential by its path; say in 'reason' what you need it for.",
        )
        await user_proxy.a_initiate_chat(researcher, message="Get production/tavily/api-key, then reply TERMINATE.")


provide_secrets()  # for MOCK mode
asyncio.run(main())
