"""A heat map as inline SVG: the opacity of a cell is its value's share of the range."""

import math
from collections.abc import Sequence

from markupsafe import Markup

WIDTH, LEFT, GAP = 460, 122, 1.5
LABEL_LETTERS, LETTER_WIDTH, SLANT = 17, 7.0, 55.0


def draw_heat_map(
    cells: Sequence[Sequence[float | None]],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    unit: str,
    label: str,
) -> Markup:
    """One cell for each value, an empty frame for None; the first row is on top.

    Colors range from 0, or the lowest value if it is negative, to the highest.
    """
    low, high = value_range(cells)
    across = (WIDTH - LEFT - 4) / len(columns)
    down = min(across, 17.0)
    parts = []
    for number, (name, line) in enumerate(zip(rows, cells, strict=True)):
        top = round(number * down, 1)
        parts.append(text("tick end", LEFT - 6, top + 0.5 * down + 4, shortened(name)))
        for place, (column, cell) in enumerate(zip(columns, line, strict=True)):
            left = round(LEFT + place * across, 1)
            size = (round(across - GAP, 1), round(down - GAP, 1))
            hint = f"{name}, {column}: " + ("none" if cell is None else f"{cell:.3g} {unit}")
            parts.append(draw_cell(left, top, size, share(cell, low, high), hint))
    base = round(len(rows) * down + 4, 1)
    widest = LETTER_WIDTH * min(LABEL_LETTERS, max(map(len, columns)))
    is_upright = widest <= across
    draw_name = upright if is_upright else slanted
    for place, column in enumerate(columns):
        parts.append(draw_name(LEFT + (place + 0.5) * across, base, shortened(column)))
    height = base + (20 if is_upright else 20 + widest * math.sin(math.radians(SLANT)))
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, round(height), label, Markup("").join(parts)
    )


def value_range(cells: Sequence[Sequence[float | None]]) -> tuple[float, float]:
    """The values of white and of the darkest color."""
    known = [cell for line in cells for cell in line if cell is not None]
    return min([0.0, *known]), max([0.0, *known])


def share(cell: float | None, low: float, high: float) -> float | None:
    return None if cell is None else (cell - low) / ((high - low) or 1.0)


def draw_cell(
    left: float, top: float, size: tuple[float, float], strength: float | None, hint: str
) -> Markup:
    style = "hole" if strength is None else "heat"
    opacity = "" if strength is None else Markup(' fill-opacity="{:.3f}"').format(strength)
    return Markup(
        '<rect class="{}" x="{}" y="{}" width="{}" height="{}"{}><title>{}</title></rect>'
    ).format(style, left, top, *size, opacity, hint)


def text(style: str, x: float, y: float, words: str) -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}">{}</text>').format(style, x, y, words)


def upright(x: float, y: float, words: str) -> Markup:
    """A column's name below its cells, for names narrower than the columns."""
    return text("tick middle", x, y + 12, words)


def slanted(x: float, y: float, words: str) -> Markup:
    """A column's name below its cells, rotated so that neighbors do not overlap."""
    return Markup(
        '<text class="tick end" transform="translate({:.1f} {:.1f}) rotate({})">{}</text>'
    ).format(x + 4, y + 8, -SLANT, words)


def shortened(name: str) -> str:
    return name if len(name) <= LABEL_LETTERS else name[: LABEL_LETTERS - 1].rstrip() + "…"
