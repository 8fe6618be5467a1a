"""Draws a report as one SVG: a panel for each comparison with other clients. It needs nothing but a report.

Bars where length can be compared; dots on a line where the scale is logarithmic, on which a length means nothing. The
colours follow the reader's light or dark scheme, on a ground of the picture's own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape

from benchmarks.report import Report, Row, Section, number

__all__ = ["to_svg"]

_PLOTTED = ("P1", "P2", "P4", "P9")
_WIDTH, _MARGIN, _LABELS, _VALUES = 920, 32, 318, 96  # the last two are columns' widths
_LEFT, _RIGHT = _MARGIN + _LABELS + 14, _WIDTH - _MARGIN - _VALUES
_LINE, _HEAD, _FOOT = 24, 58, 40
_LONGEST = 42  # characters of a label

_STYLE = """
  .ground { fill: #ffffff } .text { fill: #1e293b } .dim { fill: #64748b } .grid { stroke: #e2e8f0 }
  .ours { fill: #0f766e } .floor { fill: #d97706 } .reference { fill: #94a3b8 }
  .ours-line { stroke: #0f766e } .floor-line { stroke: #d97706 } .reference-line { stroke: #cbd5e1 }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0f172a } .text { fill: #e2e8f0 } .dim { fill: #94a3b8 } .grid { stroke: #1e293b }
    .ours { fill: #2dd4bf } .floor { fill: #fbbf24 } .reference { fill: #64748b }
    .ours-line { stroke: #2dd4bf } .floor-line { stroke: #fbbf24 } .reference-line { stroke: #475569 }
  }
"""


def to_svg(report: Report) -> str:
    """Return the picture. Rows without a figure are named, too."""
    sections = [section for section in report.sections if section.id in _PLOTTED]
    heights = [_HEAD + _LINE * len(section.rows) + _FOOT for section in sections]
    height = 92 + sum(heights)
    parts = [_opening(height), *_legend()]
    top = 80
    for section, own in zip(sections, heights, strict=True):
        parts += _panel(section, top)
        top += own
    parts.append(f'<text class="dim" x="{_MARGIN}" y="{height - 14}" font-size="12">{_told(report)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _told(report: Report) -> str:
    return escape("Medians of one run on " + ", ".join(report.machine.values()))


def _opening(height: int) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" aria-labelledby="t d"'
        ' font-family="ui-sans-serif, system-ui, sans-serif" font-size="13">\n'
        '<title id="t">authsec beside other clients</title>\n'
        '<desc id="d">Four comparisons, smaller is better in each: a held token, cold callers, imports, memory. '
        "The tables on the same page have the figures.</desc>\n"
        f"<style>{_STYLE}</style>\n"
        f'<rect class="ground" width="{_WIDTH}" height="{height}" rx="10"/>'
    )


def _legend() -> Iterator[str]:
    title = "authsec beside other clients"
    yield f'<text class="text" x="{_MARGIN}" y="44" font-size="19" font-weight="650">{title}</text>'
    x = 470
    for kind, label in (("ours", "authsec"), ("floor", "floor"), ("reference", "others")):
        yield f'<circle class="{kind}" cx="{x}" cy="39" r="6"/>'
        yield f'<text class="text" x="{x + 13}" y="44">{label}</text>'
        x += 30 + 8 * len(label) + 12
    yield f'<text class="dim" x="{_WIDTH - _MARGIN}" y="44" text-anchor="end">smaller is better</text>'


def _panel(section: Section, top: int) -> Iterator[str]:
    scale = _Scale(section)
    unit = f"{section.unit}, logarithmic scale" if section.log else section.unit
    bottom = top + _HEAD - 18 + _LINE * len(section.rows)
    yield f'<text class="text" x="{_MARGIN}" y="{top + 18}" font-size="15" font-weight="600">{section.id}'
    yield f'  <tspan>{escape(section.title)}</tspan> <tspan class="dim" font-weight="400">({unit})</tspan></text>'
    for mark in scale.marks:
        x = scale.x(mark)
        yield f'<path class="grid" d="M{x:.1f} {top + _HEAD - 22}V{bottom + 2}"/>'
        place = f'x="{x:.1f}" y="{bottom + 16}"'
        yield f'<text class="dim" {place} font-size="11" text-anchor="middle">{number(mark)}</text>'
    for line, row in enumerate(section.rows):
        yield from _row(row, section, scale, top + _HEAD - 8 + _LINE * line)


def _row(row: Row, section: Section, scale: _Scale, y: int) -> Iterator[str]:
    weight = ' font-weight="600"' if row.kind == "ours" else ""
    what = row.what if len(row.what) <= _LONGEST else row.what[: _LONGEST - 1] + "…"
    yield f'<text class="text" x="{_LEFT - 14}" y="{y + 4}" text-anchor="end"{weight}>{escape(what)}</text>'
    if row.value is None:
        yield f'<text class="dim" x="{_LEFT}" y="{y + 4}" font-size="12">not measured</text>'
        return
    x = scale.x(row.value)
    if section.log:
        yield f'<path class="{row.kind}-line" stroke-width="2" d="M{_LEFT} {y}H{x:.1f}"/>'
        yield f'<circle class="{row.kind}" cx="{x:.1f}" cy="{y}" r="6"/>'
    else:
        yield f'<rect class="{row.kind}" x="{_LEFT}" y="{y - 7}" width="{x - _LEFT:.1f}" height="14" rx="3"/>'
    yield f'<text class="text" x="{_WIDTH - _MARGIN}" y="{y + 4}" text-anchor="end"{weight}>{number(row.value)}</text>'


class _Scale:
    """Where a figure lies between the left and the right edge, and which round figures to mark."""

    def __init__(self, section: Section) -> None:
        values = [row.value for row in section.rows if row.value] or [1.0]
        self._log = section.log
        if self._log:
            self._low, self._high = math.log10(min(values)) - 0.15, math.log10(max(values)) + 0.05
            decades = range(math.ceil(self._low), math.floor(self._high) + 1)
            self.marks = [10.0**decade for decade in decades]
        else:
            self._low, self._high = 0.0, max(values)
            step = 10 ** math.floor(math.log10(self._high))
            step = step if self._high / step >= 4 else step / 2
            self.marks = [step * count for count in range(int(self._high / step) + 1)]

    def x(self, value: float) -> float:
        """Return the place on the picture."""
        placed = math.log10(value) if self._log else value
        return _LEFT + (_RIGHT - _LEFT) * (placed - self._low) / (self._high - self._low)
