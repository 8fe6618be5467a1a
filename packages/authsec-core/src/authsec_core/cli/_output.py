"""How an outcome reaches people and programs: tables by rich, or one JSON document. It decides nothing.

Whatever it prints may come from a hostile peer: text that could take hold of a terminal is spelled out, and characters
that the stream's encoding does not have are escaped instead of failing.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any, Final, TextIO, cast

from authsec_core.cli._outcome import Outcome, plain
from authsec_core.wire import format_time

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Tables", "let_go_of_stdout", "write_json"]

_WIDE: Final = 120  # columns, where the stream is no terminal that has some
_STYLES: Final = {"ok": "green", "warn": "yellow", "fail": "bold red", "skip": "dim"}
_INSTANTS: Final = frozenset({"exp", "iat", "nbf"})  # claims in epoch seconds


def write_json(document: Mapping[str, Any], stream: TextIO) -> None:
    """Write one JSON document in ASCII, which every encoding has and no terminal obeys."""
    stream.write(json.dumps(document, indent=2) + "\n")


def let_go_of_stdout() -> None:
    """Keep Python from flushing, when it exits, into a pipe whose reader has gone."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Tables:
    """Prints outcomes for people. Colours only on a terminal, and none where NO_COLOR is set.

    Raises:
        ImportError: rich is missing.
    """

    def __init__(self, stdout: TextIO, stderr: TextIO) -> None:
        from rich.console import Console

        def console(stream: TextIO) -> Console:
            sized = stream.isatty() or "COLUMNS" in os.environ
            return Console(
                file=cast("IO[str]", _Forgiving(stream)),
                width=None if sized else _WIDE,
                markup=False,
                highlight=False,
                emoji=False,
            )

        self._out, self._err = console(stdout), console(stderr)

    @contextmanager
    def progress(self) -> Iterator[Callable[[str], None]]:
        """Hand out a function that says what is being done: on stderr, and on a terminal only."""
        if not self._err.is_terminal:
            yield lambda _: None
            return
        with self._err.status("", spinner="line") as status:
            yield lambda text: status.update(text)

    def show(self, outcome: Outcome) -> None:
        """Print: what was asked for on stdout, and what is said of it on stderr."""
        {"doctor": self._doctor, "token": self._token, "fetch": self._fetch, "error": self._error}[outcome.kind](
            outcome.document
        )

    def _doctor(self, document: Mapping[str, Any]) -> None:
        settings = _table("setting", "value", "from")
        for setting in document["settings"]:
            value = setting["value"]
            style = "dim" if setting["set_by"] == "default" else ""
            _add(settings, setting["variable"], "" if value is None else value, setting["set_by"], style=style)
        if document["settings"]:
            self._out.print(settings)
        findings = _table("", "check", "found", "what to do")
        for found in document["findings"]:
            _add(findings, found["status"], found["check"], found["message"], found["mend"], first=found["status"])
        self._out.print(findings)
        self._say(document["mode"], _summary(document["findings"]))

    def _token(self, document: Mapping[str, Any]) -> None:
        token = _table("token", "(hidden)")
        asked = document["asked"]
        _add(token, "mode", document["mode"])
        _add(token, "jti", document["jti"] or "(none)")
        _add(token, "asked", "(the whole delegation)" if asked is None else " ".join(asked))
        _add(token, "granted", " ".join(document["granted"]) or "(nothing)")
        if document["excess"]:
            _add(token, "beyond what was asked", " ".join(document["excess"]), first="warn")
        _add(token, "seconds left", f"{document['seconds_left']:.0f} (until {document['expires_at']})")
        self._out.print(token)
        claims = _table("claim", "value")
        for name, value in document["claims"].items():
            _add(claims, name, _claim(name, value))
        self._out.print(claims)

    def _fetch(self, document: Mapping[str, Any]) -> None:
        from rich.highlighter import JSONHighlighter
        from rich.text import Text

        data = document["data"]
        pretty = data if isinstance(data, str) else json.dumps(data, indent=2, ensure_ascii=False)
        text = Text(plain(pretty, lines=True))
        self._out.print(text if isinstance(data, str) else JSONHighlighter()(text), soft_wrap=True)
        self._say(document["mode"], f"{document['code']}, with token {document['token']['jti'] or '(no jti)'}")
        if "notice" in document:
            self._err.print(document["notice"])

    def _error(self, document: Mapping[str, Any]) -> None:
        self._say(document["mode"], f"{document['code']}: {document['message']}")

    def _say(self, mode: str | None, text: str) -> None:
        self._err.print(f"authsec{f' ({mode.upper()})' if mode else ''}: {plain(text)}", soft_wrap=True)


def _summary(findings: Iterable[Mapping[str, str]]) -> str:
    counts = Counter(found["status"] for found in findings)
    if counts["fail"]:
        return f"{counts['fail']} failed, {counts['warn']} to look at: see what to do"
    return f"nothing failed, {counts['warn']} to look at" if counts["warn"] else "all is well"


def _table(*columns: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=number == 0, header_style="bold")
    return table


def _add(table: Table, *cells: str, style: str = "", first: str = "") -> None:
    from rich.text import Text

    texts = [Text(plain(cell)) for cell in cells]
    texts[0].stylize(_STYLES.get(first, ""))
    table.add_row(*texts, style=style)


def _claim(name: str, value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    with suppress(ValueError, OverflowError, OSError):  # a year that has no form
        if name in _INSTANTS and type(value) is int:
            return f"{text} ({format_time(value)})"
    return text


class _Forgiving:
    """A stream that escapes what its encoding does not have."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        encoding = self._stream.encoding or "utf-8"
        return self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
