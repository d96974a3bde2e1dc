"""A line chart as inline SVG: axes with round ticks, lines, bands, intervals, labels.

Colors and fonts come from the page's style sheet, by class name.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

LEFT, RIGHT, TOP, BOTTOM = 58, 26, 30, 44  # margins for the tick labels and axis titles
Points = Sequence[tuple[float, float]]


def round_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` multiples of 1, 2 or 5 · 10ᵏ between low and high."""
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if raw <= power * m * (1 + 1e-9))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def tick_text(low: float, high: float) -> Callable[[float], str]:
    """Formats ticks between low and high with as many digits as their step needs."""
    ticks = round_ticks(low, high)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else high - low
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return lambda value: f"{value:.{digits}f}"


def padded(values: Iterable[float], share: float = 0.06) -> tuple[float, float]:
    """The range of the values with a margin; never empty."""
    known = list(values)
    low, high = min(known), max(known)
    air = (high - low) * share or abs(high) * share or 1.0
    return low - air, high + air


@dataclass(frozen=True)
class Axis:
    """One axis: its title with the unit, its range, the format of its ticks."""

    title: str
    low: float
    high: float
    text: Callable[[float], str]

    def share(self, value: float) -> float:
        return (value - self.low) / (self.high - self.low)


@dataclass
class Chart:
    """A chart whose elements are drawn in the order of the calls, in data coordinates."""

    x: Axis
    y: Axis
    label: str
    width: int = 460
    height: int = 340
    parts: list[Markup] = field(default_factory=list)

    def at(self, x: float, y: float) -> tuple[float, float]:
        plot_width, plot_height = self.width - LEFT - RIGHT, self.height - TOP - BOTTOM
        return (
            round(LEFT + self.x.share(x) * plot_width, 1),
            round(TOP + (1 - self.y.share(y)) * plot_height, 1),
        )

    def add(self, template: str, *values: object) -> None:
        self.parts.append(Markup(template).format(*values))

    def line(self, points: Points, style: str) -> None:
        path = " ".join(f"{px},{py}" for px, py in (self.at(*point) for point in points))
        self.add('<polyline class="{}" points="{}"/>', style, path)

    def area(self, points: Points, style: str) -> None:
        """The area between the points and the lower axis."""
        ends = [(points[-1][0], self.y.low), (points[0][0], self.y.low)]
        path = " ".join(f"{px},{py}" for px, py in (self.at(*p) for p in [*points, *ends]))
        self.add('<polygon class="{}" points="{}"/>', style, path)

    def dot(self, point: tuple[float, float], style: str, hint: str, radius: float = 3.5) -> None:
        px, py = self.at(*point)
        self.add(
            '<circle class="{}" cx="{}" cy="{}" r="{}"><title>{}</title></circle>',
            style, px, py, radius, hint,
        )  # fmt: skip

    def interval(self, x: float, low: float, high: float, style: str) -> None:
        (px, bottom), (_, top) = self.at(x, low), self.at(x, high)
        self.add('<path class="{}" d="M{} {}V{}"/>', style, px, bottom, top)

    def text(self, point: tuple[float, float], words: str, style: str = "", dy: float = 0) -> None:
        px, py = self.at(*point)
        self.add('<text class="{}" x="{}" y="{}">{}</text>', style, px, py + dy, words)

    def axes(self) -> Markup:
        """Horizontal rules at the y ticks, small marks at the x ticks, titles."""
        left, right, bottom = LEFT, self.width - RIGHT, self.height - BOTTOM
        parts = []
        for tick in round_ticks(self.y.low, self.y.high):
            _, py = self.at(self.x.low, tick)
            parts.append(Markup('<path class="rule" d="M{} {}H{}"/>').format(left, py, right))
            parts.append(label("tick end", left - 8, py + 4, self.y.text(tick)))
        for tick in round_ticks(self.x.low, self.x.high):
            px, _ = self.at(tick, self.y.low)
            parts.append(Markup('<path class="axis" d="M{} {}v5"/>').format(px, bottom))
            parts.append(label("tick middle", px, bottom + 18, self.x.text(tick)))
        parts.append(Markup('<path class="axis" d="M{} {}H{}"/>').format(left, bottom, right))
        parts.append(label("title end", right, self.height - 6, self.x.title))
        parts.append(label("title", 0, 12, self.y.title))
        return Markup("").join(parts)

    def svg(self) -> Markup:
        return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}{}</svg>').format(
            self.width, self.height, self.label, self.axes(), Markup("").join(self.parts)
        )


def label(style: str, x: float, y: float, words: str) -> Markup:
    return Markup('<text class="{}" x="{}" y="{}">{}</text>').format(style, x, y, escape(words))
