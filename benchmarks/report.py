"""What a run found, as values, as JSON, and as tables for a terminal and for the docs. Pure: it measures nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

__all__ = ["Goal", "Group", "Report", "Row", "Section", "from_json", "number", "to_json", "to_markdown", "to_text"]

Kind = Literal["ours", "floor", "reference"]
Group = Literal["clients", "authority"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure, or why there is none.

    Attributes:
        what: Which client or operation.
        value: In the unit of its section, unless the row has its own.
        ratio: To the floor or reference that the section's `ratio_to` names.
        why: Why there is no value.
        note: What else to know, in a few words.
    """

    what: str
    kind: Kind
    value: float | None = None
    unit: str | None = None
    ratio: float | None = None
    why: str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What was to be reached, and what was.

    Attributes:
        text: The goal in words, without the figures.
        figure: What was measured; None where it could not be.
        limit: The most, or with `at_least` the least, that reaches it.
        unit: Of both; `×` for ratios.
    """

    text: str
    figure: float | None
    limit: float
    unit: str
    at_least: bool = False

    @property
    def reached(self) -> bool | None:
        """Whether it was reached; None where nothing was measured."""
        if self.figure is None:
            return None
        return self.figure >= self.limit if self.at_least else self.figure <= self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What was measured for one of the goals P1 to P9.

    Attributes:
        ratio_to: What the rows' ratios are to.
        how: How it was measured, in a sentence or two.
        log: Whether the figures are better compared on a logarithmic scale.
        group: What was measured: each has its own place in the docs.
    """

    id: str
    title: str
    unit: str
    ratio_to: str
    how: str
    rows: tuple[Row, ...]
    goals: tuple[Goal, ...]
    log: bool = False
    group: Group = "clients"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A run.

    Attributes:
        machine: What it ran on, by name.
        versions: Of everything that was measured; where it could not be installed, why.
    """

    machine: dict[str, str]
    versions: dict[str, str]
    sections: tuple[Section, ...]

    def of(self, group: Group) -> Report:
        """Return what it says of one group."""
        return replace(self, sections=tuple(section for section in self.sections if section.group == group))


def to_json(report: Report) -> dict[str, Any]:
    """Return the report as JSON's types, each goal with its verdict."""
    value = asdict(report)
    for section, told in zip(report.sections, value["sections"], strict=True):
        for goal, goal_told in zip(section.goals, told["goals"], strict=True):
            goal_told["reached"] = goal.reached
    return value


def from_json(value: dict[str, Any]) -> Report:
    """Return the report that `to_json` told, so that tables and plot can be made again without measuring."""
    sections = tuple(
        Section(
            **{
                **told,
                "rows": tuple(Row(**row) for row in told["rows"]),
                "goals": tuple(Goal(**{k: v for k, v in goal.items() if k != "reached"}) for goal in told["goals"]),
            }
        )
        for told in value["sections"]
    )
    return Report(machine=value["machine"], versions=value["versions"], sections=sections)


def to_text(report: Report) -> str:
    """Return what a person reads in a terminal."""
    lines = [", ".join(report.machine.values()), ""]
    for section in report.sections:
        lines.append(f"{section.id}  {section.title}")
        cells = [_cells(row, section) for row in section.rows]
        widths = [max(len(line[column]) for line in cells) for column in range(3)]
        for row, (what, value, ratio, note) in zip(section.rows, cells, strict=True):
            mark = {"ours": "▸", "floor": "·", "reference": " "}[row.kind]
            padded = f"  {mark} {what:<{widths[0]}}  {value:>{widths[1]}}  {ratio:>{widths[2]}}  {note}"
            lines.append(padded.rstrip())
        lines += [f"  {_verdict(goal)}  {_goal(goal)}" for goal in section.goals]
        lines.append("")
    return "\n".join(lines)


def to_markdown(report: Report) -> str:
    """Return the tables of the docs: the goals, then the figures of each."""
    return "\n".join(_markdown(report)) + "\n"


def number(value: float) -> str:
    """Return three significant digits, and groups of thousands.

    >>> number(1.0), number(1.046), number(97.26), number(14500.2)
    ('1', '1.046', '97.3', '14\u202f500')
    """
    if abs(value) >= 100:
        return f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    digits = 1 if abs(value) >= 10 else 2
    if 1 < value < 1.1:  # ratios near one, where the third digit is what matters
        digits = 3
    return f"{value:.{digits}f}".rstrip("0").rstrip(".") if value != int(value) else f"{value:.0f}"


def _markdown(report: Report) -> Iterator[str]:
    yield f"Measured on {', '.join(report.machine.values())}. Medians; smaller is better unless a goal says otherwise."
    yield ""
    yield "| | goal | measured | |\n| --- | --- | ---: | --- |"
    for section in report.sections:
        for goal in section.goals:
            yield f"| {section.id} | {goal.text}: {_limit(goal)} | {_figure(goal)} | {_verdict(goal)} |"
    for section in report.sections:
        yield f"\n### {section.id}: {section.title}\n\n{section.how}\n"
        ratio_to = f"× {section.ratio_to}" if section.ratio_to else ""
        yield f"| | {section.unit} | {ratio_to} | |\n| --- | ---: | ---: | --- |"
        for row in section.rows:
            what, value, ratio, note = _cells(row, section)
            what = f"**{what}**" if row.kind == "ours" else f"*{what}*" if row.kind == "floor" else what
            yield f"| {what} | {value} | {ratio.removeprefix('× ')} | {note} |"
    if not report.versions:
        return
    yield "\n### Versions\n"
    yield ", ".join(f"{name} {version}" for name, version in sorted(report.versions.items())) + "."


def _cells(row: Row, section: Section) -> tuple[str, str, str, str]:
    if row.value is None:
        return row.what, "–", "", f"not measured: {row.why}"
    ratio = "" if row.ratio is None else f"× {number(row.ratio)}"
    return row.what, f"{number(row.value)} {row.unit or section.unit}", ratio, row.note


def _goal(goal: Goal) -> str:
    return f"{goal.text}: {_figure(goal)} ({_limit(goal)})"


def _figure(goal: Goal) -> str:
    if goal.figure is None:
        return "not measured"
    shown = f"{goal.figure:.3f}" if goal.unit.startswith("×") else number(goal.figure)  # 1.502 is not 1.5
    return f"{shown} {goal.unit}"


def _limit(goal: Goal) -> str:
    return f"{'at least' if goal.at_least else 'at most'} {number(goal.limit)} {goal.unit}"


def _verdict(goal: Goal) -> str:
    return {True: "reached", False: "missed", None: "not measured"}[goal.reached]
