"""What does a model see of a function, and how is it called for one caller? Pure.

A parameter that is annotated `Principal` is the guard's to fill in: the model neither sees it nor can set it. Whether
the caller may use the function is for `_gates`.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Union, get_args, get_origin, get_type_hints

from authsec_fastapi.principal import Principal

__all__ = ["Form", "check_name", "mentions_caller"]

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")  # what OpenAI permits; agent frameworks check the same
_UNIONS: Final = (Union, types.UnionType)
_STANDS_FOR: Final = ("__value__", "__supertype__", "__bound__")  # of an alias (PEP 695), a NewType, a type variable
_MADE_OF_FIELDS: Final = ("__dataclass_fields__", "__total__", "_fields")  # pydantic makes no model with a caller in it
_VARIADIC: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def check_name(name: str) -> None:
    """Refuse a name that models cannot call.

    Raises:
        ValueError: It is one.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot be a tool's name: use 1 to 64 letters, digits, '_' and '-'")


@dataclass(frozen=True, slots=True)
class Form:
    """A function, and the part of its signature that is for the model. Immutable.

    Attributes:
        shown: The signature without the caller, its annotations resolved.
        caller_parameters: What the guard fills in.
    """

    function: Callable[..., Any]
    name: str
    description: str
    signature: inspect.Signature
    shown: inspect.Signature
    caller_parameters: frozenset[str]

    @classmethod
    def of(cls, function: Any, *, name: str | None = None, description: str | None = None) -> Form:
        """Read a function or bound method, sync or async.

        Args:
            name: What the model calls it, where that is not the function's own name.
            description: What the model is told, where that is not the docstring.

        Raises:
            TypeError: It is another kind of callable, or its signature is none that a model could be told.
            ValueError: Its name is none that models can call.
        """
        _check_kind(function)
        name = name or function.__name__
        check_name(name)
        signature = _resolved(function)
        callers = frozenset(one.name for one in signature.parameters.values() if _is_caller(one, name))
        shown = [one for one in signature.parameters.values() if one.name not in callers]
        description = description or inspect.cleandoc(function.__doc__ or name)
        return cls(function, name, description, signature, signature.replace(parameters=shown), callers)

    @property
    def is_async(self) -> bool:
        """Whether a call has to be awaited."""
        return inspect.iscoroutinefunction(self.function)

    @property
    def annotations(self) -> dict[str, Any]:
        """What `__annotations__` says of the part that is for the model."""
        known = {one.name: one.annotation for one in self.shown.parameters.values()}
        known["return"] = self.shown.return_annotation
        return {name: annotation for name, annotation in known.items() if annotation is not inspect.Signature.empty}

    def bind(self, principal: Principal, args: tuple[Any, ...], named: Mapping[str, Any]) -> inspect.BoundArguments:
        """Return the arguments of one call.

        Raises:
            TypeError: The model left something out, or made something up.
        """
        given = self.shown.bind(*args, **named)
        given.apply_defaults()
        ordered = {
            name: principal if name in self.caller_parameters else given.arguments[name]
            for name in self.signature.parameters
        }
        return inspect.BoundArguments(self.signature, ordered)


def mentions_caller(annotation: Any) -> bool:
    """Return whether a `Principal` is anywhere in an annotation."""
    return any(isinstance(part, type) and issubclass(part, Principal) for part in _all_parts(annotation, set()))


def _all_parts(annotation: Any, seen: set[int]) -> Iterator[Any]:
    """Yield the annotation and what it consists of or stands for, at every depth: a model could make each of it."""
    if id(annotation) in seen:  # an alias may be of itself
        return
    seen.add(id(annotation))
    yield annotation
    stands_for = [getattr(annotation, name, None) for name in _STANDS_FOR]
    for part in (*get_args(annotation), *getattr(annotation, "__constraints__", ()), *stands_for, *_fields(annotation)):
        yield from _all_parts(part, seen)


def _fields(annotation: Any) -> Iterable[Any]:
    """Return what the fields of a class are of, if frameworks make such out of what a model says."""
    if not any(hasattr(annotation, mark) for mark in _MADE_OF_FIELDS):
        return ()
    try:
        return get_type_hints(annotation).values()
    except Exception:  # noqa: BLE001 -- a name that is not there at runtime, or anything else: no framework reads it then
        return ()


def _check_kind(function: Any) -> None:
    if not (inspect.isfunction(function) or inspect.ismethod(function)):
        # A partial's arguments would be defaults, which the model is shown and can replace; other objects have no name.
        raise TypeError(
            f"a tool is a function or a bound method, not a {type(function).__name__}: write a function around it; "
            "for the tools of agent frameworks there are authsec_fastapi.agentchat, .classic and .crewai"
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"the tool {function.__name__!r} yields, and a model gets one answer: return it")


def _resolved(function: Any) -> inspect.Signature:
    name = function.__name__
    try:
        hints = get_type_hints(function, include_extras=True)
    except Exception as exc:
        raise TypeError(
            f"the annotations of the tool {name!r} cannot be resolved ({type(exc).__name__}): import what they name "
            "at the top of its module, and not under TYPE_CHECKING"
        ) from exc
    signature = inspect.signature(function)
    if any(one.kind in _VARIADIC for one in signature.parameters.values()):
        raise TypeError(f"the tool {name!r} takes *args or **kwargs, which a model could fill with anything: name them")
    if bare := [key for key in signature.parameters if key not in hints]:
        # One of them might be meant for the caller, and would be the model's to fill in.
        raise TypeError(f"{', '.join(bare)} of the tool {name!r} needs an annotation: Principal, if it is the caller")
    parameters = [one.replace(annotation=hints[key]) for key, one in signature.parameters.items()]
    return signature.replace(parameters=parameters, return_annotation=hints.get("return", signature.empty))


def _is_caller(parameter: inspect.Parameter, tool: str) -> bool:
    if _names_caller(parameter.annotation):
        if parameter.default is not parameter.empty:
            raise TypeError(f"{parameter.name!r} of the tool {tool!r} is the caller, so take its default away")
        return True
    if mentions_caller(parameter.annotation):
        raise TypeError(f"{parameter.name!r} of the tool {tool!r} has to be a Principal alone: a model could make one")
    return False


def _names_caller(annotation: Any) -> bool:
    """Say whether it is a `Principal`, or that or None, with whatever is told about it beside."""
    if get_origin(annotation) is Annotated:
        return _names_caller(get_args(annotation)[0])
    if get_origin(annotation) in _UNIONS:
        others = [one for one in get_args(annotation) if one is not type(None)]
        return len(others) == 1 and _names_caller(others[0])
    return annotation is Principal
