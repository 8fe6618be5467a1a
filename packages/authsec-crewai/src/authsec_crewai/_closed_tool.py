"""What CrewAI would get wrong about any tool of ours, put right once: caching, copying, restoring and pickling.

It caches results by the tool's name for all agents, copies tools deeply, and writes their fields into checkpoints. So a
tool here keeps what it acts with in private attributes, which no dump holds, and does nothing once it was restored.
"""

# No `from __future__ import annotations`: CrewAI reads the annotations of tools.
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from pydantic import BaseModel, model_validator

from authsec_core._layers import wrapped
from authsec_core.errors import ConfigurationError
from authsec_core.fetch import FetchResult
from authsec_crewai._framework import BaseTool, declare_env_vars

if TYPE_CHECKING:
    from collections.abc import Callable

    from crewai.tools.structured_tool import CrewStructuredTool
    from typing_extensions import Self

__all__ = ["ClosedTool", "never_cache"]

_MADE_BY = "authsec: made by"  # no field's name
_FIXED = frozenset({"args_schema", "cache_function", "env_vars"})
_RESTORED = (
    "This tool was restored from a copy that holds no identity, so it fetches nothing: its operator has to put a new "
    "{kind} into the agents' and the tasks' tools."
)


class ClosedTool(BaseTool):
    """A tool whose identity stays in this process. A subclass sets its private attributes after `_fill`."""

    _arguments: ClassVar[type[BaseModel]]
    _variables: ClassVar[Mapping[str, str]]

    @classmethod
    def _is_restored(cls, fields: dict[str, Any]) -> bool:
        """Say whether pydantic makes this tool of a dump, for which there is nothing to act with.

        Raises:
            TypeError: The program gave a field that there is not, or that is not its to give.
        """
        if fields.pop(_MADE_BY, None) is not None:
            return True
        unknown = sorted(fields.keys() - (cls.model_fields.keys() - _FIXED))
        if unknown:
            wrapped(fields)  # the key by another name, perhaps
            raise TypeError(f"{cls.__name__}() does not take {', '.join(unknown)}")
        return False

    def _fill(self, fields: Mapping[str, Any]) -> None:
        """Have CrewAI's own `__init__` set the fields, and those that no dump and no program sets."""
        fixed = {"args_schema": self._arguments, "cache_function": never_cache, **declare_env_vars(self._variables)}
        super().__init__(**{**fields, **fixed, _MADE_BY: "__init__"})

    @classmethod
    def _answer_restored(cls) -> str:
        """Return what every call of a restored tool is answered with."""
        return FetchResult.of_error(ConfigurationError(_RESTORED.format(kind=cls.__name__)), "live").to_json()

    @model_validator(mode="wrap")
    @classmethod
    def _mark_restored(cls, data: Any, build: "Callable[[Any], Self]") -> "Self":
        # pydantic restores a dump by calling __init__ with it, which must then not make a client.
        return build({**_missing(cls), **data, _MADE_BY: "validation"} if isinstance(data, dict) else data)

    def to_structured_tool(self) -> "CrewStructuredTool":
        """Return the form in which CrewAI runs the tool."""
        tool = super().to_structured_tool()
        tool.cache_function = never_cache  # CrewAI 0.114 to 1.8 drops it here, and then caches
        return tool

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> "Self":
        return self.model_copy()

    def __reduce__(self) -> NoReturn:
        name = type(self).__name__
        raise TypeError(f"{name} acts with an identity and is not pickled: make one in the other process")


def never_cache(_arguments: Any = None, _result: Any = None) -> bool:
    """Tell CrewAI not to keep a result: it would serve it to other agents, and after a revocation."""
    return False


def _missing(kind: Any) -> dict[str, None]:
    """Return what a program has to give to `__init__` and no dump holds."""
    parameters = inspect.signature(kind.__init__).parameters.values()
    return {one.name: None for one in parameters if one.kind is one.KEYWORD_ONLY and one.default is one.empty}
