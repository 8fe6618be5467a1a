"""How the server logs: one line per event, whatever it holds, and nothing that libraries chat about."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from authsec_core.testing import assert_no_secret
from authsec_server.logs import REQUEST_ID, configure, escaped
from authsec_server.settings import ServerSettings

NAMES = ("", "authsec", "uvicorn", "uvicorn.error", "uvicorn.asgi", "uvicorn.access")
HOSTILE = "a\r\nERROR forged\x1b[31m\x00\x85\u2028b"
SECRET = "canary-master-q2w3e4r5t6y7u8i9o0p1a2s3d4f"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Give every logger back as it was."""
    loggers = [logging.getLogger(name) for name in NAMES]
    before = [(one.handlers, one.level, one.propagate) for one in loggers]
    for one in loggers:
        one.handlers = list(one.handlers)
    yield
    for one, (handlers, level, propagate) in zip(loggers, before, strict=True):
        one.handlers, one.propagate = handlers, propagate
        one.setLevel(level)


def logged(format: str = "json", level: str = "INFO") -> io.StringIO:
    """What is logged from now on."""
    stream = io.StringIO()
    configure(ServerSettings(dev=True, log_format=format, log_level=level, master_key=SECRET), stream=stream)  # type: ignore[arg-type]  # one of the two
    return stream


def test_a_line_is_an_object() -> None:
    """An event is one JSON object with time, level, logger, message and what belongs to it."""
    stream = logged()
    logging.getLogger("authsec.server.x").warning("key %s %s", "a", "rotated", extra={"kid": "k1"})
    (line,) = stream.getvalue().splitlines()
    event = json.loads(line)
    assert event.pop("time").endswith("Z")
    assert event == {"level": "WARNING", "logger": "authsec.server.x", "message": "key a rotated", "kid": "k1"}


@pytest.mark.parametrize("format", ["json", "text"])
def test_a_line_names_its_request(format: str) -> None:
    """Inside a request every line has its id, and outside none."""
    stream = logged(format)
    token = REQUEST_ID.set("req-7")
    logging.getLogger("authsec").info("inside")
    REQUEST_ID.reset(token)
    logging.getLogger("authsec").info("outside")
    inside, outside = stream.getvalue().splitlines()
    assert "req-7" in inside
    assert "req" not in outside


@pytest.mark.parametrize("format", ["json", "text"])
def test_a_hostile_text_is_one_line(format: str) -> None:
    """Line ends, escapes and separators in a message forge no line and colour no terminal."""
    stream = logged(format)
    logging.getLogger("authsec").info("reason: %s", HOSTILE)
    text = stream.getvalue()
    assert text.endswith("\n")
    assert text[:-1].isprintable()
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize("format", ["json", "text"])
def test_a_hostile_exception_forges_no_line(format: str) -> None:
    """The lines of a traceback cannot be taken for events."""
    stream = logged(format)
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        logging.getLogger("authsec").exception("it failed")
    first, *rest = stream.getvalue().rstrip("\n").split("\n")
    assert "it failed" in first
    assert all(line.startswith("  | ") and line.isprintable() for line in rest)
    assert bool(rest) is (format == "text")
    assert "ValueError" in stream.getvalue()


@pytest.mark.parametrize("format", ["json", "text"])
def test_a_megabyte_is_cut(format: str) -> None:
    """A text that someone made long does not fill the disk."""
    assert len(escaped("x" * 10**6)) < 10_000
    stream = logged(format)
    logging.getLogger("authsec").info("%s", "x" * 10**6)
    assert len(stream.getvalue()) < 10_000


def test_text_is_for_people() -> None:
    """The text format shows time, level, logger and message."""
    stream = logged("text")
    logging.getLogger("authsec.server").info("listening")
    assert stream.getvalue().split(maxsplit=1)[1] == "INFO    authsec.server: listening\n"


@pytest.mark.parametrize(("level", "shown"), [("DEBUG", 3), ("INFO", 2), ("ERROR", 0)])
def test_the_level_is_ours(level: str, shown: int) -> None:
    """The setting holds for authsec and uvicorn."""
    stream = logged(level=level)
    logging.getLogger("authsec.server").debug("one")
    logging.getLogger("authsec.server").info("two")
    logging.getLogger("uvicorn.error").info("three")
    assert len(stream.getvalue().splitlines()) == shown


@pytest.mark.parametrize("name", ["sqlalchemy.engine", "httpx", "asyncio", "aiosqlite"])
def test_libraries_only_warn(name: str) -> None:
    """No level makes a library log statements with their parameters, but its warnings are heard."""
    stream = logged(level="DEBUG")
    assert not logging.getLogger(name).isEnabledFor(logging.INFO)
    logging.getLogger(name).warning("odd")
    assert len(stream.getvalue().splitlines()) == 1


def test_uvicorn_goes_through_it() -> None:
    """Uvicorn's messages have the same form, and its access log, which shows queries, is off."""
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).addHandler(logging.StreamHandler(io.StringIO()))
    stream = logged()
    logging.getLogger("uvicorn.error").info("started", extra={"color_message": "\x1b[36mstarted"})
    logging.getLogger("uvicorn.access").info("GET /?client_id=1")
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line).keys() == {"time", "level", "logger", "message"}
    assert not any(logging.getLogger(name).handlers for name in ("uvicorn", "uvicorn.error", "uvicorn.access"))


def test_it_can_be_configured_again() -> None:
    """A second configuration replaces the first."""
    first, second = logged(), logged("text")
    logging.getLogger("authsec").info("once")
    assert (first.getvalue(), second.getvalue().count("once")) == ("", 1)


def test_it_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output is left to programs that are read by others."""
    configure(ServerSettings(dev=True))
    logging.getLogger("authsec").warning("here")
    captured = capsys.readouterr()
    assert (captured.out, "here" in captured.err) == ("", True)


@pytest.mark.parametrize("format", ["json", "text"])
def test_settings_can_be_logged(format: str) -> None:
    """Even who logs the settings shows no secret."""
    stream = logged(format)
    settings = ServerSettings(dev=True, master_key=SECRET)
    extra: dict[str, Any] = {"settings": settings, "key": settings.master_key}
    logging.getLogger("authsec").info("with %r", settings, extra=extra)
    assert "dev=True" in stream.getvalue()
    assert_no_secret(stream.getvalue(), SECRET)
