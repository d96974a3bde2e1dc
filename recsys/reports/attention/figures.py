"""Charts of attention: by rank, and as maps beside the information in the labels."""

from collections.abc import Sequence
from operator import itemgetter

from recsys.reports.attention.contents import PairAttention, RankAttention
from recsys.reports.attention.map import AttentionMap, MapLabel
from recsys.reports.charts.figures import Figure, rate_text
from recsys.reports.charts.heat_map import draw_heat_map, value_range
from recsys.reports.charts.svg import Axis, Chart, padded, tick_text
from recsys.reports.text import count, fixed, percent, short

FEW_BEHAVIORS = 20  # means of fewer are not drawn
RECENT = 10


def draw_attention(pair: PairAttention) -> list[Figure]:
    figures = [draw_weight_by_rank(pair), draw_share_by_rank(pair)]
    if pair.categories is not None:
        bits, target, behavior = most_informative(pair.categories)
        figures += draw_maps(
            pair.categories,
            f"Most informative pair: {pair.target} {name_of(behavior)} in the history of target "
            f"{pair.target} {name_of(target)} ({bits:.2g} bits)",
            f"Down: target {pair.target}; across: behavior in {pair.history}; mean over the most "
            "recent ranks.",
        )
    if pair.positions is not None and pair.positions_target is not None:
        bits, behavior, rank = most_informative(pair.positions)
        beside = name_of(pair.positions_target)
        figures += draw_maps(
            pair.positions,
            f"Most informative for target {pair.target} {beside}: {pair.target} "
            f"{name_of(behavior)} at rank {rank.id} ({bits:.2g} bits)",
            f"Rows with target {pair.target} {beside}. Down: behavior in {pair.history}; across: "
            "its rank, 1 = the most recent.",
            columns=[str(each.id) for each in pair.positions.columns],
        )
    return [figure for figure in figures if figure is not None]


def draw_weight_by_rank(pair: PairAttention) -> Figure | None:
    ranks = [(r.rank, r) for r in pair.by_rank if r.rank and r.behaviours >= FEW_BEHAVIORS]
    if len(ranks) < 2:
        return None
    low, high = padded([0.0, *(r.mean_weight for _, r in ranks)])
    low = low if any(r.mean_weight < 0 for _, r in ranks) else 0.0
    chart = rank_chart(ranks[-1][0], Axis("mean weight", low, high, tick_text(low, high)))
    chart.line([(number, r.mean_weight) for number, r in ranks], "curve")
    for number, r in ranks if len(ranks) <= 50 else []:
        hint = f"rank {number}: {r.mean_weight:.4g}, {count(r.behaviours)} behaviors"
        chart.dot((number, r.mean_weight), "dot", hint, radius=2.5)
    return Figure(
        weight_title(ranks[0][1], ranks[-1][1]),
        f"Mean attention weight of a behavior of {pair.history} by its rank, 1 = the most recent, "
        f"over {count(pair.rows)} rows.",
        chart.svg(),
    )


def weight_title(first: RankAttention, last: RankAttention) -> str:
    if first.mean_weight <= 0 or last.mean_weight <= 0:
        return "Mean attention weight by rank"
    ratio = first.mean_weight / last.mean_weight
    if 0.8 < ratio < 1.25:
        return f"The weights of rank 1 and rank {last.rank} are about equal"
    digits = 3 if ratio > 1 else 2
    return f"The weight of rank 1 is {ratio:.{digits}g} times that of rank {last.rank}"


def draw_share_by_rank(pair: PairAttention) -> Figure | None:
    listed = [r for r in pair.by_rank if r.rank]
    if len(listed) < 2:
        return None
    total = sum(r.behaviours for r in pair.by_rank)
    chart = rank_chart(len(listed), Axis("cumulative share", 0.0, 1.0, rate_text))
    points, everyone = [(0.0, 0.0)], [(0.0, 0.0)]
    for r in listed:
        points.append((float(r.rank or 0), points[-1][1] + r.share))
        everyone.append((float(r.rank or 0), everyone[-1][1] + r.behaviours / total))
    chart.area(points, "area")
    chart.line(everyone, "reference")
    chart.line(points, "curve")
    chart.text(everyone[len(everyone) // 2], "share of the behaviors", "note", dy=18)
    recent = min(RECENT, len(listed) // 2)
    words = "most recent behavior gets"
    if recent > 1:
        words = f"{recent} most recent behaviors get"
    return Figure(
        f"The {words} {percent(points[recent][1])} of the attention",
        "Cumulative share of the absolute attention weights by rank. Dashed: cumulative share of "
        "the behaviors, which equal weights would give.",
        chart.svg(),
    )


def rank_chart(last: int, y: Axis) -> Chart:
    title = "rank of the behavior, 1 = the most recent"
    return Chart(Axis(title, 0.0, 1.02 * last, short), y, f"{y.title} by rank", height=260)


def most_informative(found: AttentionMap) -> tuple[float, MapLabel, MapLabel]:
    """The most informative cell, the first of equals: bits, row, column."""
    cells = (
        (cell, row, column)
        for row, line in zip(found.rows, found.information, strict=True)
        for column, cell in zip(found.columns, line, strict=True)
    )
    return max(cells, key=itemgetter(0))


def draw_maps(
    found: AttentionMap, title: str, axes: str, columns: Sequence[str] | None = None
) -> list[Figure]:
    """Information and mean weight side by side; `columns`: names that replace the values."""
    rows = [name_of(each) for each in found.rows]
    columns = columns or [name_of(each) for each in found.columns]
    told = Figure(
        title,
        f"Mutual information between the label and the presence of a behavior. {axes} "
        f"{color_scale(found.information, 'bits')}",
        draw_heat_map(found.information, rows, columns, unit="bits", label="Information"),
    )
    given = Figure(
        weight_map_title(found),
        f"Mean attention weight of the same behaviors. {axes} Empty frame: no such behavior in "
        f"the sample. Spearman's correlation of both maps: {fixed(found.rank_correlation, 2)}. "
        f"{color_scale(found.weight, '')}",
        draw_heat_map(found.weight, rows, columns, unit="mean weight", label="Mean weight"),
    )
    return [told, given]


def color_scale(cells: Sequence[Sequence[float | None]], unit: str) -> str:
    low, high = value_range(cells)
    return f"White is {low:.3g}, the darkest {high:.3g} {unit}".rstrip() + "."


def weight_map_title(found: AttentionMap) -> str:
    if found.correlation is None:
        return "Mean attention weight"
    return f"Mean attention weight: correlation {found.correlation:.2f} with the information"


def name_of(label: MapLabel) -> str:
    """The raw value, or "id …" if it is not known."""
    return f"id {label.id}" if label.value is None else label.value or "(empty)"
