"""How the server logs: one line per event on stderr, as JSON or for people, with the id of the request it belongs to.

What is logged is up to the modules that do. Libraries log warnings only: at lower levels some of them show parameters.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from contextvars import ContextVar
from typing import Any, Final, TextIO

from authsec_core.wire import format_time
from authsec_server.settings import ServerSettings

__all__ = ["REQUEST_ID", "configure", "escaped"]

REQUEST_ID: Final[ContextVar[str]] = ContextVar("authsec_request_id", default="")
_OURS: Final = ("authsec", "uvicorn")  # what is heard at the configured level
_SILENCED: Final = "uvicorn.access"  # it logs query strings; the middleware has an access line of its own
_MOST_CHARACTERS: Final = 8192  # of one message
# Of a record: what every record has, and what a library colours its message with.
_NOT_SHOWN: Final = frozenset({*vars(logging.makeLogRecord({})), "message", "time", "color_message"})
# C0 and C1, and the separators at which a viewer breaks lines (RU3).
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def configure(settings: ServerSettings, *, stream: TextIO | None = None) -> None:
    """Send every logger of this process to one handler on stderr. Called by programs, never by an import.

    Args:
        stream: Instead of stderr.
    """
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.addFilter(_add_context)
    handler.setFormatter(_Json() if settings.log_format == "json" else _Text())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    # What no line of ours shows is not looked up either: it takes as long as the rest of a record.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # https://docs.python.org/3/howto/logging.html#optimization
    for name in _OURS:
        logger = logging.getLogger(name)
        logger.handlers = []
        logger.propagate = True
        logger.setLevel(settings.log_level)
    for name in ("uvicorn.error", "uvicorn.asgi", _SILENCED):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = name != _SILENCED


def escaped(text: str) -> str:
    """Return `text` as one line without control characters, cut to a length that a log can take."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), _cut(text))


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else text[:_MOST_CHARACTERS] + "…"


def _add_context(record: logging.LogRecord) -> bool:
    record.time = format_time(record.created)
    if request_id := REQUEST_ID.get():
        record.request_id = request_id
    return True


class _Json(logging.Formatter):
    """One object per line: what every line has, the fields of this one, and the traceback if there is one.

    Half of what the access log costs is its line, so that no more is done than that; what JSON does not know is text.
    """

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": vars(record)["time"],
            "level": record.levelname,
            "logger": record.name,
            "message": _cut(record.getMessage()),  # JSON escapes what has to be
        }
        line |= {name: value for name, value in vars(record).items() if name not in _NOT_SHOWN}
        if record.exc_info:
            line["exc_info"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack_info"] = record.stack_info
        return _as_json(line)


_as_json: Final = json.JSONEncoder(default=str).encode


class _Text(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(time)s %(levelname)-7s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        request_id = getattr(record, "request_id", "")
        return escaped(super().formatMessage(record)) + (f" [{request_id}]" if request_id else "")

    def formatException(self, ei: object) -> str:  # noqa: N802 - the library's name
        text = super().formatException(ei)  # type: ignore[arg-type]  # its tuple, which typeshed names privately
        return "\n".join(f"  | {escaped(line)}" for line in text.split("\n"))
