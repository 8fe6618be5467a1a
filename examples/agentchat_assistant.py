"""AutoGen AgentChat: an assistant with a secure fetch of its own, run by its own coroutine, and it holds no credential.

With nothing set it runs in MOCK mode. Set AUTHSEC_BASE_URL, AUTHSEC_AGENT_CLIENT_ID and AUTHSEC_API_BASE_URL for LIVE.
"""

import asyncio

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.ui import Console
from autogen_ext.models.openai import OpenAIChatCompletionClient

from authsec_autogen.agentchat import AuthSecSecureFetchTool
from model import call, openai_llm, summary

fetch = AuthSecSecureFetchTool()

offline = (
    call(fetch.name, endpoint="secure-vault/metrics", scope="read:metrics"),
    summary("The vault is {data[vault_status]} and {data[active_agents]} agents are active."),
)


async def main() -> None:
    """Let the assistant work, and print what it says."""
    with openai_llm(*offline) as llm:
        model_client = OpenAIChatCompletionClient(**llm)
        assistant = AssistantAgent(
            name="SecurityAssistant",
            model_client=model_client,
            tools=[fetch],
            reflect_on_tool_use=True,
            system_message="You are a security analyst. Retrieve protected metrics and summarize what you find.",
        )
        task = "Fetch secure-vault/metrics with scope read:metrics and summarize the results."
        await Console(assistant.run_stream(task=task))
        await model_client.close()


asyncio.run(main())
