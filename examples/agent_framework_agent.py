"""Agent Framework: an agent with the tool, made in two lines. The tool's description tells the model what it may ask.

With nothing set it runs in MOCK mode. Set AUTHSEC_BASE_URL, AUTHSEC_AGENT_CLIENT_ID and AUTHSEC_API_BASE_URL for LIVE.
"""

import asyncio

from agent_framework import Agent
from agent_framework.openai import OpenAIChatCompletionClient

from authsec_autogen.agent_framework import make_secure_fetch
from model import call, openai_llm, summary

secure_fetch = make_secure_fetch()

offline = (
    call(secure_fetch.name, endpoint="secure-vault/metrics", scope="read:metrics"),
    summary("The vault is {data[vault_status]} and {data[active_agents]} agents are active."),
)


async def main() -> None:
    """Ask the agent once."""
    with openai_llm(*offline) as openai:
        analyst = Agent(
            OpenAIChatCompletionClient(**openai),
            "You are a security analyst. Retrieve protected metrics and summarize what you find.",
            name="SecurityAnalyst",
            tools=[secure_fetch],
        )
        response = await analyst.run("Fetch the latest metrics from the secure vault and summarize them.")
        print(response.text)


asyncio.run(main())
