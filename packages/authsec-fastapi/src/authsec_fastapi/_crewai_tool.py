"""The tool that CrewAI sees: it asks the gate, then calls what it stands before. It imports the framework.

CrewAI caches results by the tool's name for all agents, copies tools deeply, and writes their fields into checkpoints.
So what acts for the caller is in a private attribute, which no dump holds, and a tool without it does nothing.
"""

# No `from __future__ import annotations`: CrewAI reads the annotations of tools.
import inspect
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, NoReturn

from crewai.tools import BaseTool
from pydantic import BaseModel, PrivateAttr, create_model

from authsec_fastapi._gates import Gate, refusal
from authsec_fastapi._tool_forms import Form
from authsec_fastapi.tools import guarded

if TYPE_CHECKING:
    from crewai.tools.structured_tool import CrewStructuredTool
    from typing_extensions import Self

__all__ = ["CallersTool", "read", "tool_of"]

_KEPT: Final = ("result_as_answer", "max_usage_count")  # of a tool of CrewAI's; older versions have fewer
_RESTORED: Final = (
    "This tool was restored from a copy that acts for nobody: its operator has to make it for each request."
)


class CallersTool(BaseTool):
    """A tool for one caller. Thread-safe if what it stands before is."""

    _call: Callable[..., Any] | None = PrivateAttr(default=None)

    def _run(self, **named: Any) -> Any:
        """Ask the gate, and then do what the tool does. CrewAI 1.9 passes on whatever arguments a model makes up."""
        return refusal("configuration", _RESTORED) if self._call is None else self._call(**named)

    def to_structured_tool(self) -> "CrewStructuredTool":
        """Return the form in which CrewAI runs the tool."""
        tool = super().to_structured_tool()
        tool.cache_function = _never_cache  # CrewAI 0.114 to 1.8 drops it here, and then caches
        return tool

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> "Self":
        return self.model_copy()

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"the tool {self.name!r} acts for one caller and is not pickled: make it for each request")


def read(tools: Iterable[Any]) -> list[tuple[str, Form | BaseTool]]:
    """Return tools by their names.

    Raises:
        TypeError: Something is no tool that CrewAI can run.
        ValueError: CrewAI would take two names for the same.
    """
    found: list[tuple[str, Form | BaseTool]] = []
    seen: dict[str, str] = {}
    for tool in tools:
        one = tool if isinstance(tool, BaseTool) else Form.of(tool)
        if inspect.iscoroutinefunction(getattr(tool, "func", None) or getattr(tool, "_run", tool)):
            raise TypeError(
                f"the tool {one.name!r} is a coroutine function, which CrewAI cannot run: write a plain one"
            )
        plain = re.sub(r"[^a-z0-9]+", "_", one.name.lower())
        if plain in seen:
            raise ValueError(f"CrewAI takes the names {seen[plain]!r} and {one.name!r} for the same: rename one tool")
        seen[plain] = one.name
        found.append((one.name, one))
    return found


def tool_of(gate: Gate, tool: Form | BaseTool) -> CallersTool:
    """Return the tool that asks the gate."""
    kept: dict[str, Any] = {}
    if isinstance(tool, Form):
        schema, call, description = _schema(tool), guarded(tool, gate), tool.description
    else:
        kept = {name: getattr(tool, name) for name in _KEPT if hasattr(tool, name)}
        # CrewAI before 1.15 has put name and arguments before it, and will do so again.
        schema, call, description = tool.args_schema, _asking(gate, tool), tool.description
        description = description.rpartition("Tool Description: ")[2]
    made = CallersTool(name=gate.name, description=description, args_schema=schema, cache_function=_never_cache, **kept)
    made._call = call
    return made


def _schema(form: Form) -> type[BaseModel]:
    fields: dict[str, Any] = {
        one.name: (
            Any if one.annotation is one.empty else one.annotation,
            ... if one.default is one.empty else one.default,
        )
        for one in form.shown.parameters.values()
    }
    return create_model(f"{form.name}_arguments", **fields)


def _asking(gate: Gate, tool: BaseTool) -> Callable[..., Any]:
    known = frozenset(tool.args_schema.model_fields)

    def call(**named: Any) -> Any:
        refused = gate.refusal()
        given = {name: value for name, value in named.items() if name in known}
        return tool._run(**given) if refused is None else refused

    return call


def _never_cache(_arguments: Any = None, _result: Any = None) -> bool:
    return False
