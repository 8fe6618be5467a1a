"""How an outcome reaches people and programs: tables by rich, or one JSON document. It decides nothing.

Streams, cells and colours are those of the `authsec` command, with the same care for text of a hostile peer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from authsec_core.cli import _output as core
from authsec_core.cli._outcome import plain
from authsec_server.cli._outcome import Outcome, Sheet

__all__ = ["Printer"]


class Printer(core.Tables):
    """Prints outcomes: what was asked for on stdout, and what is said of it on stderr."""

    def __init__(self, stdout: TextIO, stderr: TextIO, *, as_json: bool) -> None:
        super().__init__(stdout, stderr)
        self._stdout, self._as_json = stdout, as_json

    def print(self, outcome: Outcome) -> None:
        """Print one outcome, for whom it was asked."""
        if self._as_json and outcome.document is not None:
            core.write_json(outcome.document, self._stdout)
        else:
            for sheet in outcome.sheets:
                self._sheet(sheet)
            for line in outcome.lines:
                self._stdout.write(plain(line) + "\n")
            if outcome.said:
                self.say(outcome.said)
        self._stdout.flush()  # here, where a reader that has gone away is still noticed

    def say(self, text: str) -> None:
        """Print one line on stderr."""
        self._err.print(f"authsec-server: {plain(text)}", soft_wrap=True)

    @contextmanager
    def counting(self, what: str) -> Iterator[Callable[[int, int], None]]:
        """Hand out a function that shows how many of how many are done: on stderr, and on a terminal only."""
        if not self._err.is_terminal:
            yield lambda _done, _total: None
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self._err, transient=True) as progress:
            task = progress.add_task(what, total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)

    def _sheet(self, sheet: Sheet) -> None:
        table = core._table(*sheet.columns)
        for row in sheet.rows:
            core._add(table, *row)
        self._out.print(table)
