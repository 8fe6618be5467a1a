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

from authsec_core.cli._outcome import Kind, Outcome, plain
from authsec_core.cli._streams import write_value
from authsec_core.wire import format_time

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Tables", "let_go_of_stdout", "say", "write_json"]

_WIDE: Final = 120  # columns, where the stream is no terminal that has some
_STYLES: Final = {"ok": "green", "warn": "yellow", "fail": "bold red", "skip": "dim"}
_HIDDEN: Final = "********"
_INSTANTS: Final = frozenset({"exp", "iat", "nbf"})  # claims in epoch seconds


def write_json(document: Mapping[str, Any], stream: TextIO) -> None:
    """Write one JSON document in ASCII, which every encoding has and no terminal obeys."""
    stream.write(json.dumps(document, indent=2) + "\n")


def say(document: Mapping[str, Any], stream: TextIO) -> None:
    """Write the one line that there is to say of an outcome. Needs no rich."""
    mode, code = document["mode"], document.get("code")
    told = f"{code}: {document['message']}" if code else document["message"]
    _Forgiving(stream).write(f"authsec{f' ({mode.upper()})' if mode else ''}: {plain(told)}\n")


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
        self._stdout, self._stderr = stdout, stderr

    @contextmanager
    def progress(self) -> Iterator[Callable[[str], None]]:
        """Hand out a function that says what is being done: on stderr, and on a terminal only."""
        if not self._err.is_terminal:
            yield lambda _: None
            return
        status = self._err.status("", spinner="line")

        def notify(text: str) -> None:
            status.update(text)
            status.start()  # not before: somebody may be asked for a value first

        try:
            yield notify
        finally:
            status.stop()

    def show(self, outcome: Outcome) -> None:
        """Print: what was asked for on stdout, and what is said of it on stderr."""
        kinds: dict[Kind, Callable[[Mapping[str, Any]], None]] = {
            "doctor": self._doctor,
            "token": self._token,
            "fetch": self._fetch,
            "secret": self._secret,
            "secrets": self._secrets,
            "names": self._names,
            "done": self._done,
            "error": self._error,
        }
        if outcome.shown is None:
            kinds[outcome.kind](outcome.document)
            return
        if not write_value(outcome.shown.value, self._stdout):
            self._err.print("Some of its characters are spelled out here: --out FILE has it as it is.")
        self._done(outcome.document)

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

    def _secret(self, document: Mapping[str, Any]) -> None:
        table = _table("secret", "(hidden)")
        for name, value in document["secret"].items():
            _add(table, name, _metadata(value) if name == "metadata" else "" if value is None else str(value))
        self._out.print(table)
        self._done(document)

    def _secrets(self, document: Mapping[str, Any]) -> None:
        table = _table("secret", "version", "type", "tier", "metadata", "updated", "value")
        for secret in document["secrets"]:
            names = ("path", "version", "secret_type", "access_tier")
            cells = [str(secret[name]) for name in names]
            _add(table, *cells, _metadata(secret["metadata"]), secret["updated_at"] or "", _HIDDEN)
        self._out.print(table)
        self._done(document)

    def _names(self, document: Mapping[str, Any]) -> None:
        for name in document["names"]:
            self._out.print(plain(name), soft_wrap=True)
        self._done(document)

    def _done(self, document: Mapping[str, Any]) -> None:
        say(document, self._stderr)

    def _error(self, document: Mapping[str, Any]) -> None:
        say(document, self._stderr)

    def _say(self, mode: str | None, text: str) -> None:
        say({"mode": mode, "message": text}, self._stderr)


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


def _metadata(metadata: Mapping[str, str]) -> str:
    return " ".join(f"{name}={text}" for name, text in metadata.items())


class _Forgiving:
    """A stream that escapes what its encoding does not have."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        encoding = self._stream.encoding or "utf-8"
        return self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
