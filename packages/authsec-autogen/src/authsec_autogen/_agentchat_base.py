"""What AgentChat gets wrong about a call of a tool, put right once: how it is cancelled, and how it ends.

AgentChat from 0.6.4 waits for ever for a tool call that ends with a `BaseException`, which `CancelledError` is
(https://github.com/microsoft/autogen/issues/7956). So none leaves the tool, but for what asyncio itself has to see.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Generator, Mapping
from typing import Any, TypeVar

from autogen_core import CancellationToken
from autogen_core.tools import BaseTool
from pydantic import BaseModel

from authsec_core import FetchResult
from authsec_core.token import Mode

__all__ = ["TextTool"]

_log = logging.getLogger("authsec.autogen")

A = TypeVar("A", bound=BaseModel)


class TextTool(BaseTool[A, Any]):
    """A tool that answers with text, whatever happens. A subclass says in `_call` what a call does."""

    _mode: Mode

    def _call(self, args: A) -> Coroutine[Any, Any, str]:
        raise NotImplementedError

    async def run(self, args: A, cancellation_token: CancellationToken) -> str:
        """Fetch and return bounded JSON text. Called by the framework, through `run_json`."""
        # A task of its own, because what ends inside it can then be told from what is done to this one.
        fetching = cancellation_token.link_future(asyncio.ensure_future(self._call(args)))
        try:
            await asyncio.wait({fetching})
        except asyncio.CancelledError:
            fetching.cancel()
            if not cancellation_token.is_cancelled():  # then it is the task that is cancelled, and all of the run
                raise
        return self._outcome(fetching, cancellation_token)

    def run_json(
        self, args: Mapping[str, Any], cancellation_token: CancellationToken, call_id: str | None = None
    ) -> Coroutine[Any, Any, Any]:
        """Return the coroutine of one call. Called by the framework; its older versions have no `call_id`."""
        named = {} if call_id is None else {"call_id": call_id}
        return _Begun(super().run_json(args, cancellation_token, **named), cancellation_token)

    def _outcome(self, fetching: asyncio.Future[str], cancellation_token: CancellationToken) -> str:
        if cancellation_token.is_cancelled():
            return self._error("cancelled", "The call was cancelled.")
        try:
            return fetching.result()
        except BaseException:  # noqa: BLE001 -- the rim: also what is no Exception; the run goes on
            _log.exception("a tool call ended unexpectedly")
            return self._error("internal_error", "The tool failed: its operator has to look at the log.")

    def _error(self, code: str, message: str) -> str:
        return FetchResult(status="error", mode=self._mode, code=code, message=message).to_json()


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
