"""Where CrewAI keeps what a tool returned, and how to keep it from doing so. Says so once for each place.

Nothing here touches a token: results hold none. It is the fetched data that CrewAI writes down. CrewAI is not imported
before a question about it is asked.
"""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crewai.tasks.task_output import TaskOutput

__all__ = ["AuthSecCrewAIWarning", "forget_tool_results", "warn_of_retention"]

_said: set[str] = set()
_DATABASE = (
    "CrewAI writes what tools return into latest_kickoff_task_outputs.db in its data folder, in clear and by default "
    "readable for every user of the machine, unless the Crew has task_callback=authsec_crewai.forget_tool_results, "
    "which no tool can see: pass it"
)
_TRACING = (
    "CrewAI's tracing is on, and traces hold what tools return: set CREWAI_TRACING_ENABLED=false and pass "
    "tracing=False to the Crew, because some versions heed only the one and some only the other"
)
_SILENCE = "; where that is done, silence this warning by its category, authsec_crewai.AuthSecCrewAIWarning"


class AuthSecCrewAIWarning(UserWarning):
    """CrewAI will keep, or send away, what tools return. Filter this category once that is dealt with, or intended."""


def forget_tool_results(output: TaskOutput) -> None:
    """Take an agent's messages, tool results among them, out of a task's output before CrewAI stores it.

    Pass it as `Crew(task_callback=forget_tool_results)`, or call it from the callback that you have. The agent's answer
    stays, in `output.raw` and in CrewAI's database.
    """
    if getattr(output, "messages", None):  # older versions keep none
        output.messages = []  # a new list: the old one is the agent's


def warn_of_retention(*, stacklevel: int) -> None:
    """Warn once in this process of each place where CrewAI, as it is configured, keeps what tools return."""
    for message, applies in ((_DATABASE, _database_keeps_messages), (_TRACING, _tracing_is_on)):
        if message not in _said and applies():
            # First the warning: where a filter makes it an error, the next tool warns again.
            warnings.warn(message + _SILENCE, AuthSecCrewAIWarning, stacklevel=stacklevel + 1)
            _said.add(message)


def _database_keeps_messages() -> bool:
    from crewai.tasks.task_output import TaskOutput

    return "messages" in TaskOutput.model_fields


def _tracing_is_on() -> bool:
    try:
        from crewai.events.listeners.tracing.utils import should_enable_tracing

        return should_enable_tracing()
    except (ImportError, OSError):  # an older CrewAI, or a data folder that cannot be read for remembered consent
        return os.environ.get("CREWAI_TRACING_ENABLED", "").lower() in {"true", "1"}
