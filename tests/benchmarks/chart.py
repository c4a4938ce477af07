"""A chart as SVG, written by hand: lines over one logarithmic axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import log10

__all__ = ["Line", "Panel", "chart"]

_WIDTH, _HEIGHT = 460, 280  # of a panel, with its margins
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 20, 36, 44
_TICKS = 5
_HEADROOM = 1.1
_COLORS = ("#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df")


@dataclass(frozen=True, slots=True)
class Line:
    """Points (x, y) under one name."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes; x is logarithmic, y begins at 0."""

    title: str
    x_name: str
    lines: Sequence[Line]


def chart(panels: Sequence[Panel]) -> str:
    """The panels side by side, as a document of its own."""
    width = _WIDTH * len(panels)
    body = "".join(
        f'<g transform="translate({index * _WIDTH} 0)">{_panel(panel)}</g>' for index, panel in enumerate(panels)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_HEIGHT}" width="{width}" height="{_HEIGHT}" '
        f'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="white"/>{body}</svg>\n'
    )


def _panel(panel: Panel) -> str:
    points = [point for line in panel.lines for point in line.points]
    low, high = log10(min(x for x, _ in points)), log10(max(x for x, _ in points))
    top = max(y for _, y in points) * _HEADROOM or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        share = (log10(x) - low) / (high - low) if high > low else 0.5
        return (
            _LEFT + share * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - y / top * (_HEIGHT - _TOP - _BOTTOM),
        )

    drawn = [_text(_WIDTH / 2, 18, panel.title, "middle", 'font-weight="bold"')]
    drawn.append(_text(_WIDTH / 2, _HEIGHT - 8, panel.x_name, "middle"))
    for tick in range(_TICKS + 1):
        value = top * tick / _TICKS
        _, y = place(10**low, value)
        drawn.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>')
        drawn.append(_text(_LEFT - 6, y + 4, f"{value:,.4g}", "end"))
    for x in sorted({x for x, _ in points}):
        drawn.append(_text(place(x, 0)[0], _HEIGHT - _BOTTOM + 16, f"{x:,.0f}", "middle"))
    for index, line in enumerate(panel.lines):
        drawn += _line(line, index, [place(*point) for point in line.points])
    return "".join(drawn)


def _line(line: Line, index: int, places: Sequence[tuple[float, float]]) -> list[str]:
    color = _COLORS[index % len(_COLORS)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>' for x, y in places]
    name = _text(_LEFT + 8, _TOP + 12 + 14 * index, line.name, "start", f'fill="{color}"')
    return [f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>', *dots, name]


def _text(x: float, y: float, text: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{escape(text)}</text>'
