"""Charts of what attention does: by rank, and in maps beside what the labels say."""

from collections.abc import Sequence

from recsys.reports.attention import PairAttention, RankAttention
from recsys.reports.attention_map import AttentionMap, MapLabel
from recsys.reports.figures import Figure, rate_text
from recsys.reports.heat_map import draw_heat_map, value_range
from recsys.reports.svg import Axis, Chart, padded, tick_text
from recsys.reports.text import count, fixed, percent, short

FEW_BEHAVIOURS = 20  # a mean of fewer is not drawn
RECENT = 10


def draw_attention(pair: PairAttention) -> list[Figure]:
    figures = [draw_weight_by_rank(pair), draw_share_by_rank(pair)]
    if pair.categories is not None:
        bits, target, behaviour = strongest(pair.categories)
        figures += draw_maps(
            pair.categories,
            f"Most informative pair: {behaviour} before target {target}, {bits:.2g} bits",
            f"target {pair.target} (down) and behaviour {pair.history} (across)",
            "mean over the most recent ranks",
        )
    if pair.positions is not None and pair.positions_target is not None:
        bits, behaviour, rank = strongest(pair.positions)
        target = name_of(pair.positions_target)
        figures += draw_maps(
            pair.positions,
            f"Most informative before target {target}: {behaviour} at rank {rank}, {bits:.2g} bits",
            f"behaviour {pair.history} (down) by rank (across; 1 = the most recent)",
            f"beside the target {target}",
        )
    return [figure for figure in figures if figure is not None]


def draw_weight_by_rank(pair: PairAttention) -> Figure | None:
    ranks = [(r.rank, r) for r in pair.by_rank if r.rank and r.behaviours >= FEW_BEHAVIOURS]
    if len(ranks) < 2:
        return None
    low, high = padded([0.0, *(r.mean_weight for _, r in ranks)])
    low = low if any(r.mean_weight < 0 for _, r in ranks) else 0.0
    chart = rank_chart(ranks[-1][0], Axis("mean weight", low, high, tick_text(low, high)))
    chart.line([(number, r.mean_weight) for number, r in ranks], "curve")
    for number, r in ranks if len(ranks) <= 50 else []:
        hint = f"rank {number}: {r.mean_weight:.4g}, {count(r.behaviours)} behaviours"
        chart.dot((number, r.mean_weight), "dot", hint, radius=2.5)
    return Figure(
        weight_title(ranks[0][1], ranks[-1][1]),
        f"Mean attention weight of a behaviour of {pair.history} by its rank, 1 = the most recent, "
        f"over {count(pair.rows)} rows.",
        chart.svg(),
    )


def weight_title(first: RankAttention, last: RankAttention) -> str:
    if first.mean_weight <= 0 or last.mean_weight <= 0:
        return "How much a behaviour weighs, by how long ago it was"
    ratio = first.mean_weight / last.mean_weight
    if 0.8 < ratio < 1.25:
        return f"The most recent behaviour weighs about as much as that of rank {last.rank}"
    if ratio > 1:
        return f"The most recent behaviour weighs {ratio:.3g} times that of rank {last.rank}"
    return f"The most recent behaviour weighs {ratio:.2g} of that of rank {last.rank}"


def draw_share_by_rank(pair: PairAttention) -> Figure | None:
    listed = [r for r in pair.by_rank if r.rank]
    if len(listed) < 2:
        return None
    total = sum(r.behaviours for r in pair.by_rank)
    chart = rank_chart(len(listed), Axis("share so far", 0.0, 1.0, rate_text))
    points, everyone = [(0.0, 0.0)], [(0.0, 0.0)]
    for r in listed:
        points.append((float(r.rank or 0), points[-1][1] + r.share))
        everyone.append((float(r.rank or 0), everyone[-1][1] + r.behaviours / total))
    chart.area(points, "area")
    chart.line(everyone, "reference")
    chart.line(points, "curve")
    chart.text(everyone[len(everyone) // 2], "of the behaviours", "note", dy=18)
    recent = min(RECENT, len(listed) // 2)
    words = "last behaviour gets" if recent == 1 else f"last {recent} behaviours get"
    return Figure(
        f"The {words} {percent(points[recent][1])} of the attention",
        "Share of all (absolute) weights that goes to behaviours up to this rank; dashed: their "
        "share of all behaviours, which even weights would give.",
        chart.svg(),
    )


def rank_chart(last: int, y: Axis) -> Chart:
    title = "rank of the behaviour, 1 = the most recent"
    return Chart(Axis(title, 0.0, 1.02 * last, short), y, f"{y.title} by rank", height=260)


def strongest(found: AttentionMap) -> tuple[float, str, str]:
    """The cell that tells most: bits, row, column."""
    return max(
        (cell, name_of(row), name_of(column))
        for row, line in zip(found.rows, found.information, strict=True)
        for column, cell in zip(found.columns, line, strict=True)
    )


def draw_maps(found: AttentionMap, title: str, axes: str, where: str) -> list[Figure]:
    rows, columns = ([name_of(each) for each in side] for side in (found.rows, found.columns))
    told = Figure(
        title,
        f"Mutual information between the label and a behaviour being there, {where}: {axes}. "
        f"{colours(found.information, 'bits')}",
        draw_heat_map(found.information, rows, columns, unit="bits", label="Information"),
    )
    given = Figure(
        weight_map_title(found),
        f"Mean attention weight of such behaviours in the sample, {where}; an empty frame: "
        f"none there. By ranks of the cells the correlation is {fixed(found.rank_correlation, 2)}. "
        f"{colours(found.weight, '')}",
        draw_heat_map(found.weight, rows, columns, unit="mean weight", label="Mean weight"),
    )
    return [told, given]


def colours(cells: Sequence[Sequence[float | None]], unit: str) -> str:
    low, high = value_range(cells)
    return f"White is {low:.3g}, the darkest {high:.3g} {unit}".rstrip() + "."


def weight_map_title(found: AttentionMap) -> str:
    if found.correlation is None:
        return "The attention"
    return f"The attention: its correlation with what the labels say is {found.correlation:.2f}"


def name_of(label: MapLabel) -> str:
    return str(label.id) if label.value is None else label.value
