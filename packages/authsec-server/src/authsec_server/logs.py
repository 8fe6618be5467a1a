"""How the server logs: one line per event on stderr, as JSON or for people, with the id of the request it belongs to.

What is logged is up to the modules that do. Libraries log warnings only: at lower levels some of them show parameters.
"""

from __future__ import annotations

import logging
import re
import sys
from contextvars import ContextVar
from typing import Any, Final, TextIO

from pythonjsonlogger.json import JsonFormatter

from authsec_core.wire import format_time
from authsec_server.settings import ServerSettings

__all__ = ["REQUEST_ID", "configure", "escaped"]

REQUEST_ID: Final[ContextVar[str]] = ContextVar("authsec_request_id", default="")
_OURS: Final = ("authsec", "uvicorn")  # what is heard at the configured level
_SILENCED: Final = "uvicorn.access"  # it logs query strings; the middleware has an access line of its own
_MOST_CHARACTERS: Final = 8192  # of one message
# C0 and C1, and the separators at which a viewer breaks lines (RU3).
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def configure(settings: ServerSettings, *, stream: TextIO | None = None) -> None:
    """Send every logger of this process to one handler on stderr. Called by programs, never by an import.

    Args:
        stream: Instead of stderr.
    """
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.addFilter(_add_context)
    handler.setFormatter(_json() if settings.log_format == "json" else _Text())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
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


def _json() -> logging.Formatter:
    return _Json("%(time)s %(levelname)s %(name)s %(message)s", rename_fields={"levelname": "level", "name": "logger"})


class _Json(JsonFormatter):
    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        log_data.pop("color_message", None)  # uvicorn's, with ANSI escapes
        log_data["message"] = _cut(log_data["message"])  # JSON escapes what has to be
        return log_data


class _Text(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(time)s %(levelname)-7s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        request_id = getattr(record, "request_id", "")
        return escaped(super().formatMessage(record)) + (f" [{request_id}]" if request_id else "")

    def formatException(self, ei: object) -> str:  # noqa: N802 - the library's name
        text = super().formatException(ei)  # type: ignore[arg-type]  # its tuple, which typeshed names privately
        return "\n".join(f"  | {escaped(line)}" for line in text.split("\n"))
