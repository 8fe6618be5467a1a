"""CrewAI: a researcher who searches with a key that it never sees, and a writer who is given one.

With nothing set it runs in MOCK mode. Set AUTHSEC_VAULT_URL and AUTHSEC_AGENT_KEY for LIVE.
"""

import warnings

from crewai import LLM, Agent, Crew, Task

from authsec_core import AgentVaultSync
from authsec_crewai import AuthSecCrewAIWarning, AuthSecSecretFetchTool, AuthSecVaultTool, forget_tool_results
from model import call, openai_llm, summary
from sample_vault import provide_secrets, search_service

provide_secrets()  # for MOCK mode
warnings.simplefilter("ignore", AuthSecCrewAIWarning)  # the Crew below keeps no results: task_callback and tracing

with AgentVaultSync() as vault, search_service() as address:
    search_token = vault.request_token(scope="secrets:read:production/search/*", ttl_seconds=1800)
    publish_token = vault.request_token(scope="secrets:read:production/publishing/*", ttl_seconds=1800)

    search = AuthSecSecretFetchTool(
        path="production/search/tavily-key",
        base_url=address,
        allowed_endpoints=["search"],
        token=search_token,
        name="search",
        description="Search the web. 'endpoint' is 'search?query=' and what to look for.",
    )
    get_secret = AuthSecVaultTool(vault_token=publish_token, agent_name="writer")

    offline = (
        call("search", endpoint="search?query=multi-agent+frameworks"),
        summary("Three findings: {data[results]}."),
        call(get_secret.name, path="production/publishing/wordpress-key", reason="to publish the post"),
        "The post is ready to be published.",
    )
    with openai_llm(*offline) as llm:
        researcher = Agent(role="Researcher", goal="Find", backstory="Curious.", tools=[search], llm=LLM(**llm))
        writer = Agent(role="Writer", goal="Publish", backstory="Brief.", tools=[get_secret], llm=LLM(**llm))
        crew = Crew(
            agents=[researcher, writer],
            tasks=[
                Task(description="Find work on agents.", expected_output="Three findings.", agent=researcher),
                Task(
                    description="Get production/publishing/wordpress-key and prepare to publish.",
                    expected_output="One sentence.",
                    agent=writer,
                ),
            ],
            task_callback=forget_tool_results,
            tracing=False,
        )
        print(crew.kickoff())
