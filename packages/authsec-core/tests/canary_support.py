"""What a report of an error, or a log at DEBUG, could show: where the canary tests look.

It checks nothing itself.
"""

from __future__ import annotations

import logging
import pickle
import traceback
from collections.abc import Iterator
from pathlib import Path

__all__ = ["Log", "pickled", "reported"]

HERE = str(Path(__file__).parent)


class Log(logging.Handler):
    """Keeps what every logger says, as it would be written."""

    def __init__(self) -> None:
        super().__init__(level=1)
        self.lines: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the line, the arguments and the traceback."""
        self.lines.append((record.name, f"{self.format(record)} {record.args!r} {record.__dict__!r}"))

    def text(self, *, without: str = "nothing") -> str:
        """Return all of it, without the lines of some loggers."""
        return "\n".join(line for name, line in self.lines if not name.startswith(without))


def _chain(error: BaseException) -> list[BaseException]:
    """Return the error and all that hangs on it, also what a traceback would not show."""
    found: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and one not in found:
            found.append(one)
            waiting += [one.__cause__, one.__context__]
    return found


def reported(error: BaseException) -> Iterator[tuple[str, object]]:
    """Yield what a report of the error could hold: texts, attributes, and the locals of every frame but the tests'."""
    yield "traceback", "".join(traceback.format_exception(error))
    for one in _chain(error):
        name = type(one).__name__
        yield name, [str(one), repr(one), repr(one.args), repr(vars(one)), getattr(one, "__notes__", [])]
        report = traceback.TracebackException(type(one), one, one.__traceback__, capture_locals=True)
        for frame in report.stack:
            if not frame.filename.startswith(HERE):
                yield f"{name} in {frame.filename}:{frame.lineno} {frame.name}", frame.locals
        yield f"{name}, pickled", pickled(one)
        for attribute in ("request", "_request", "response"):
            yield f"{name}.{attribute}", pickled(getattr(one, attribute, None)) if attribute in vars(one) else b""


def pickled(thing: object) -> bytes:
    """Return the pickle, or nothing where it is refused."""
    try:
        return pickle.dumps(thing)
    except (TypeError, AttributeError, pickle.PicklingError):
        return b""
