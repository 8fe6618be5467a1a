"""How does an agent get only those functions that its caller may use, each of which asks again when it is called?

The functions that come out of here are plain ones, for any framework. Modules named after frameworks take the tools of
these as well. Whether a caller may is decided by `judging`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from authsec_fastapi._gates import Gate, ToolRun, permitted, refusal
from authsec_fastapi._tool_forms import Form
from authsec_fastapi.judging import Judge
from authsec_fastapi.principal import Principal

__all__ = ["ToolRun", "dressed", "for_caller", "guarded", "guarded_tools"]


def guarded_tools(
    judge: Judge, principal: Principal, tools: Iterable[Callable[..., Any]], *, run: ToolRun | None = None
) -> list[Callable[..., Any]]:
    """Return the functions among these that the caller may use, guarded; see `AuthSecGuard.tools`."""
    forms = [Form.of(tool) for tool in tools]
    offered = permitted(judge, principal, [(form.name, form) for form in forms], run)
    return [guarded(form, gate) for gate, form in offered]


def guarded(form: Form, gate: Gate) -> Callable[..., Any]:
    """Return a function that looks like the form, and does what the form's does if the gate lets it."""

    def call(*arguments: Any, **named: Any) -> Any:
        try:
            bound = form.bind(gate.principal, arguments, named)
        except TypeError:
            return _bad_arguments(form)
        refused = gate.refusal()
        return form.function(*bound.args, **bound.kwargs) if refused is None else refused

    async def acall(*arguments: Any, **named: Any) -> Any:
        try:
            bound = form.bind(gate.principal, arguments, named)
        except TypeError:
            return _bad_arguments(form)
        refused = await gate.arefusal()
        return await form.function(*bound.args, **bound.kwargs) if refused is None else refused

    return dressed(acall if form.is_async else call, form)


def for_caller(form: Form, principal: Principal) -> Callable[..., Any]:
    """Return a function that acts for the caller and asks nobody: for a framework's tool, before which a gate stands.

    It raises `TypeError` for arguments that do not fit.
    """

    def call(*arguments: Any, **named: Any) -> Any:
        bound = form.bind(principal, arguments, named)
        return form.function(*bound.args, **bound.kwargs)

    async def acall(*arguments: Any, **named: Any) -> Any:
        bound = form.bind(principal, arguments, named)
        return await form.function(*bound.args, **bound.kwargs)

    return dressed(acall if form.is_async else call, form)


def dressed(function: Any, form: Form) -> Callable[..., Any]:
    """Give the function the looks of the form. It has no `__wrapped__`, through which the gate could be gone round."""
    function.__name__ = function.__qualname__ = form.name
    function.__doc__ = form.description
    function.__module__ = form.function.__module__
    function.__signature__ = form.shown
    function.__annotations__ = form.annotations
    return function  # type: ignore[no-any-return] # it was taken as Any, to be dressed


def _bad_arguments(form: Form) -> str:
    takes = ", ".join(form.shown.parameters) or "no arguments"
    return refusal("bad_arguments", f"{form.name} was not run: it takes {takes}, and nothing else.")
