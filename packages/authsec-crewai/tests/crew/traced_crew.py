"""A LIVE crew of one agent in a process of its own: what CrewAI's tracing has heard once, it hears for a whole process.

`test_tracing.py` runs it with a JSON object of options for `Crew`, and the file in which to list what our tool warned
of: CrewAI prints until the very end of the process.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path


def main(options: dict[str, bool]) -> list[str]:
    """Run the crew and return the warnings of ours that making the tool caused."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        from crewai import LLM, Agent, Crew, Task

        from authsec_crewai import AuthSecCrewAIWarning, AuthSecSecureFetchTool

        tool = AuthSecSecureFetchTool()
        llm = LLM(model="gpt-4o", base_url=os.environ["OPENAI_BASE_URL"], api_key=os.environ["OPENAI_API_KEY"])
        agent = Agent(role="Analyst", goal="Report", backstory="Careful.", tools=[tool], llm=llm)
        task = Task(description="Fetch the metrics.", expected_output="A summary.", agent=agent)
        Crew(agents=[agent], tasks=[task], **options).kickoff()
    return [str(one.message) for one in caught if one.category is AuthSecCrewAIWarning]


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(main(json.loads(sys.argv[1]))), encoding="utf-8")
