"""AutoGen GroupChat: three agents on one executor, each with a token for its own secrets and nothing else.

`register_vault_tool` gives each tool a name of its own and lets it run for its agent alone. The vault refuses what a
token does not cover: the researcher's first call, for the writer's key. AutoGen shows every tool's answer to all
agents of the chat, so a key that only has to be used belongs into `register_secret_fetch` (vault_secret_fetch.py).
With nothing set it runs in MOCK mode. Set AUTHSEC_VAULT_URL and AUTHSEC_AGENT_KEY for LIVE.
"""

import asyncio

import autogen

from authsec_autogen import register_vault_tool
from authsec_core import AgentVault
from model import autogen_llm, call
from sample_vault import provide_secrets

SCRIPTS = {
    "researcher": (
        call("get_secret_researcher", path="production/publishing/wordpress-key"),  # not covered by its token
        call("get_secret_researcher", path="production/search/tavily-key", reason="to search the web"),
        "I can search now.",
    ),
    "writer": (
        call("get_secret_researcher", path="production/search/tavily-key"),  # not its tool
        call("get_secret_writer", path="production/publishing/wordpress-key", reason="to publish the post"),
        "I can publish now.",
    ),
    "critic": (call("get_secret_critic", path="production/quality/grammarly-key"), "I can check it. TERMINATE"),
}
AREAS = {"researcher": "search", "writer": "publishing", "critic": "quality"}


def turns(last: autogen.Agent, chat: autogen.GroupChat) -> autogen.Agent:
    """Let the executor answer each call, and the agents follow one another."""
    executor, *agents = chat.agents
    if chat.messages[-1].get("tool_calls"):
        return executor
    if last is executor:
        return chat.agent_by_name(chat.messages[-2]["name"]) if len(chat.messages) > 1 else agents[0]
    return agents[(agents.index(last) + 1) % len(agents)]


async def main() -> None:
    """Give each agent a token and a tool, and let them talk."""
    executor = autogen.UserProxyAgent("executor", human_input_mode="NEVER", code_execution_config=False)
    with (
        autogen_llm(*SCRIPTS["researcher"]) as researcher_llm,
        autogen_llm(*SCRIPTS["writer"]) as writer_llm,
        autogen_llm(*SCRIPTS["critic"]) as critic_llm,
    ):
        agents = [
            autogen.AssistantAgent("researcher", llm_config=researcher_llm, system_message="You search the web."),
            autogen.AssistantAgent("writer", llm_config=writer_llm, system_message="You write and publish."),
            autogen.AssistantAgent("critic", llm_config=critic_llm, system_message="You check; then say TERMINATE."),
        ]
        async with AgentVault() as vault:
            for agent in agents:
                token = await vault.request_token(
                    scope=f"secrets:read:production/{AREAS[agent.name]}/*", ttl_seconds=3600, description=agent.name
                )
                register_vault_tool(caller=agent, executor=executor, vault_token=token)

        chat = autogen.GroupChat(agents=[executor, *agents], messages=[], max_round=16, speaker_selection_method=turns)
        manager = autogen.GroupChatManager(
            groupchat=chat,
            llm_config=False,
            is_termination_msg=lambda message: "TERMINATE" in (message.get("content") or ""),
        )
        await executor.a_initiate_chat(manager, message="Research and publish a post on multi-agent patterns.")


provide_secrets()  # for MOCK mode
asyncio.run(main())
