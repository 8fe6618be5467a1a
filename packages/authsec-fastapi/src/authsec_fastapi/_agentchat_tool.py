"""The tool that AgentChat sees: it asks the gate, then calls what it stands before. It imports the framework.

AgentChat from 0.6.4 on waits for ever for a tool call that ends with a `BaseException`, which `CancelledError` is
(https://github.com/microsoft/autogen/issues/7956). So none leaves the tool, but for what asyncio itself has to see.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Generator, Mapping
from typing import Any, NoReturn

from autogen_core import CancellationToken
from autogen_core.tools import BaseTool, FunctionTool, ToolSchema
from pydantic import BaseModel

from authsec_fastapi._gates import Gate, refusal
from authsec_fastapi._tool_forms import Form
from authsec_fastapi.tools import for_caller

__all__ = ["CallersTool", "read", "tool_of"]

_log = logging.getLogger("authsec.guard")


class _Refusal(str):
    """What a model is told instead of a result."""

    __slots__ = ()


class CallersTool(BaseTool[BaseModel, Any]):
    """A tool for one caller. What it stands before does all but what is decided here."""

    def __init__(self, gate: Gate, tool: BaseTool[Any, Any]) -> None:
        super().__init__(tool.args_type(), tool.return_type(), tool.name, tool.description)
        self._gate = gate
        self._tool = tool

    @property
    def schema(self) -> ToolSchema:
        """What the model is shown."""
        return self._tool.schema

    def return_value_as_string(self, value: Any) -> str:
        """Return the text of a result for the model."""
        return str(value) if isinstance(value, _Refusal) else self._tool.return_value_as_string(value)

    async def run(self, args: BaseModel, cancellation_token: CancellationToken) -> Any:
        """Do what `run_json` does; for programs."""
        return await self.run_json(args.model_dump(), cancellation_token)

    def run_json(
        self, args: Mapping[str, Any], cancellation_token: CancellationToken, call_id: str | None = None
    ) -> Coroutine[Any, Any, Any]:
        """Return the coroutine of one call. Called by the framework; its older versions have no `call_id`."""
        named = {} if call_id is None else {"call_id": call_id}
        return _Begun(self._heeding(args, cancellation_token, named), cancellation_token)

    def dump_component(self) -> NoReturn:
        """Refuse: whoever loaded the dump would act for nobody, or for somebody else.

        Raises:
            TypeError: Always.
        """
        raise TypeError(f"the tool {self.name!r} acts for one caller and is not dumped: make it for each request")

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"the tool {self.name!r} acts for one caller and is not pickled: make it for each request")

    async def _heeding(self, args: Mapping[str, Any], cancellation_token: CancellationToken, named: Any) -> Any:
        # A task of its own, because what ends inside it can then be told from what is done to this one.
        call = asyncio.ensure_future(self._call(args, cancellation_token, named))
        calling = cancellation_token.link_future(call)
        try:
            await asyncio.wait({calling})
        except asyncio.CancelledError:
            calling.cancel()
            if not cancellation_token.is_cancelled():  # then it is the task that is cancelled, and all of the run
                raise
        return self._outcome(calling, cancellation_token)

    async def _call(self, args: Mapping[str, Any], cancellation_token: CancellationToken, named: Any) -> Any:
        refused = await self._gate.arefusal()
        return await self._tool.run_json(args, cancellation_token, **named) if refused is None else _Refusal(refused)

    def _outcome(self, calling: asyncio.Future[Any], cancellation_token: CancellationToken) -> Any:
        if cancellation_token.is_cancelled():
            return _Refusal(refusal("cancelled", "The call was cancelled."))
        try:
            return calling.result()
        except Exception:
            raise  # the tool's own error, which AgentChat tells the model
        except BaseException:  # noqa: BLE001 -- the rim, as told above
            _log.exception("the tool %s ended unexpectedly", self.name)
            return _Refusal(refusal("internal_error", "The tool failed: its operator has to look at the log."))


class _Begun(Coroutine[Any, Any, Any]):
    """A call's coroutine that begins even if its token was cancelled before it could.

    AgentChat makes a task of the coroutine and cancels it in the same breath when its token is cancelled already. A
    coroutine of Python's own would end there, with the error for which nobody waits.
    """

    def __init__(self, call: Coroutine[Any, Any, Any], cancellation_token: CancellationToken) -> None:
        self._call, self._cancellation_token, self._begun = call, cancellation_token, False

    def send(self, value: Any) -> Any:
        self._begun = True
        return self._call.send(value)

    def throw(self, error: Any, *older: Any) -> Any:
        if not self._begun and isinstance(error, asyncio.CancelledError) and self._cancellation_token.is_cancelled():
            return self.send(None)
        return self._call.throw(error, *older)

    def close(self) -> None:
        self._call.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._call.__await__()


def read(tool: Any) -> tuple[str, Form | BaseTool[Any, Any]]:
    """Return a tool by its name."""
    if isinstance(tool, BaseTool):
        return tool.name, tool
    form = Form.of(tool)
    return form.name, form


def tool_of(gate: Gate, tool: Form | BaseTool[Any, Any]) -> CallersTool:
    """Return the tool that asks the gate."""
    if isinstance(tool, Form):
        tool = FunctionTool(for_caller(tool, gate.principal), description=tool.description, name=tool.name)
    return CallersTool(gate, tool)
