"""CrewAI: a crew whose task names neither endpoint nor scope. The tool's description tells the agent what it may ask.

With nothing set it runs in MOCK mode. Set AUTHSEC_BASE_URL, AUTHSEC_AGENT_CLIENT_ID and AUTHSEC_API_BASE_URL for LIVE.
"""

from crewai import LLM, Agent, Crew, Task

from authsec_crewai.tools import AuthSecSecureFetchTool
from model import call, openai_llm, summary

secure_tool = AuthSecSecureFetchTool()

offline = (
    call(secure_tool.name, endpoint="secure-vault/metrics", scope="read:metrics"),
    summary("The vault is {data[vault_status]} and {data[active_agents]} agents are active."),
)

with openai_llm(*offline) as llm:
    analyst = Agent(
        role="Security Analyst",
        goal="Retrieve and summarize restricted internal data",
        backstory="You are a security analyst with delegated access to internal metrics.",
        tools=[secure_tool],
        llm=LLM(**llm),
    )
    task = Task(
        description="Fetch the latest metrics from the secure vault and summarize them.",
        expected_output="A brief summary of the retrieved metrics data.",
        agent=analyst,
    )
    crew = Crew(agents=[analyst], tasks=[task], tracing=False)
    print(crew.kickoff())
