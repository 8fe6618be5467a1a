"""ag2 from 1.0 on: an agent with the tool, made in two lines. The tool's description tells the model what it may ask.

With nothing set it runs in MOCK mode. Set AUTHSEC_BASE_URL, AUTHSEC_AGENT_CLIENT_ID and AUTHSEC_API_BASE_URL for LIVE.
"""

import asyncio

from ag2 import Agent
from ag2.config import OpenAIConfig

from authsec_autogen.ag2 import make_secure_fetch
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
            "SecurityAnalyst",
            "You are a security analyst. Retrieve protected metrics and summarize what you find.",
            config=OpenAIConfig(**openai),
            tools=[secure_fetch],
        )
        reply = await analyst.ask("Fetch the latest metrics from the secure vault and summarize them.")
        print(reply.body)


asyncio.run(main())
