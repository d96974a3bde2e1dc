"""allocation.html: the score of each candidate against its size, and what was kept."""

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup, escape

from recsys.embeddings.allocation import Allocation, FeatureAllocation
from recsys.io.atomic import write_text
from recsys.reports.charts.svg import Axis, Chart, padded, tick_text
from recsys.reports.text import count, percent, size
from recsys.search.candidates import Candidate

STYLE = """
body { margin: 0 auto; max-width: 960px; padding: 32px; color: #16202c; background: #fff;
  font: 15px/1.5 "Inter", "Segoe UI", "Helvetica Neue", Arial, "Liberation Sans", sans-serif;
  font-variant-numeric: tabular-nums; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 8px; }
p { color: #5b6775; margin: 0 0 8px; max-width: 100ch; }
svg { display: block; width: 100%; max-width: 720px; margin: 16px 0; }
svg text { font-size: 12px; fill: #16202c; }
svg .tick, svg .title, svg .note { fill: #5b6775; }
svg .big { font-size: 14px; font-weight: 600; fill: #1b5e9e; }
svg .end { text-anchor: end; } svg .middle { text-anchor: middle; }
svg .rule { stroke: #e1e6eb; fill: none; } svg .axis { stroke: #5b6775; fill: none; }
svg .reference { stroke: #5b6775; stroke-dasharray: 4 4; fill: none; }
svg .dot { fill: #1b5e9e; } svg .faint { fill: #a9c8e6; }
svg .curve { stroke: #1b5e9e; stroke-width: 2; fill: none; }
table { border-collapse: collapse; width: 100%; font-size: 14px; margin-top: 24px; }
th { text-align: left; color: #5b6775; font-weight: 500; }
th, td { padding: 5px 14px 5px 0; border-bottom: 1px solid #e1e6eb; vertical-align: top; }
.number { text-align: right; white-space: nowrap; }
.kicker { margin: 0; } .scroll { overflow-x: auto; }
@media (max-width: 900px) { body { padding: 24px 16px; } }
@media print {
  @page { size: A4; margin: 14mm; }
  body { padding: 0; max-width: none; font-size: 11px; print-color-adjust: exact; }
  h1 { font-size: 20px; } table { font-size: 10.5px; }
  th, td { padding-top: 3px; padding-bottom: 3px; }
  tr, svg { break-inside: avoid; } .scroll { overflow: visible; }
}
"""


def write_page(allocation: Allocation, candidates: Sequence[Candidate], path: Path) -> None:
    """Writes one file without scripts or network access."""
    what = f"{allocation.method} for {allocation.model['name']} on {allocation.dataset}"
    share = allocation.bytes / allocation.full_bytes
    lost = allocation.supernet.auc - allocation.chosen.auc
    title = f"{percent(share)} of the table bytes: AUC {abs(lost):.4f} "
    title += "below the whole supernet" if lost > 0 else "above the whole supernet"
    page = Markup(
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{}</title>'
        '<style>{}</style></head>\n<body><p class="kicker">{}</p><h1>{}</h1>{}{}{}</body></html>\n'
    ).format(
        what,
        Markup(STYLE),
        f"recsys search · {what}",
        title,
        _facts(allocation),
        _chart(allocation, candidates),
        _table(allocation),
    )
    write_text(path, str(page))


def _facts(allocation: Allocation) -> Markup:
    return Markup("<p>{}</p>").format(
        f"Every candidate (light dot) is the trained supernet without some rows or columns of its "
        f"tables, scored on the architecture rows ({allocation.chosen.rows}) without retraining. "
        f"Chosen (dark dot): AUC {allocation.chosen.auc:.5f} at {size(allocation.bytes)} of "
        f"{size(allocation.full_bytes)}."
    )


def _chart(allocation: Allocation, candidates: Sequence[Candidate]) -> Markup:
    points = [(c.bytes, c.auc) for c in candidates]
    aucs = [auc for _, auc in points] + [allocation.supernet.auc]
    low, high = padded(aucs, share=0.1)
    most = 1.05 * max([weight for weight, _ in points] + [allocation.full_bytes])
    chart = Chart(
        x=Axis("bytes of the searched tables", 0, most, size),
        y=Axis("AUC, architecture rows", low, high, tick_text(low, high)),
        label="AUC against bytes",
        width=720,
    )
    chart.line([(0, allocation.supernet.auc), (most, allocation.supernet.auc)], "reference")
    chart.text((most, allocation.supernet.auc), "whole supernet", "note end", dy=-6)
    for weight, auc in points:
        chart.dot((weight, auc), "dot faint", f"{size(weight)}: AUC {auc:.5f}")
    chosen = (allocation.chosen.bytes, allocation.chosen.auc)
    chart.dot(chosen, "dot", f"chosen: {size(chosen[0])}, AUC {chosen[1]:.5f}", radius=6)
    chart.text(chosen, "chosen", "big", dy=-12)
    return chart.svg()


def _table(allocation: Allocation) -> Markup:
    rows = [
        _row(name, feature)
        for name, feature in sorted(
            allocation.features.items(), key=lambda item: -item[1].full_bytes
        )
    ]
    head = Markup("").join(
        Markup('<th class="{}">{}</th>').format("" if name == "feature" else "number", name)
        for name in ("feature", "rows", "rows kept", "columns kept", "bytes", "of full table")
    )
    return Markup('<div class="scroll"><table><tr>{}</tr>{}</table></div>').format(
        head, Markup("").join(rows)
    )


def _row(name: str, feature: FeatureAllocation) -> Markup:
    number = Markup('<td class="number">{}</td>')
    columns = ", ".join(map(str, feature.dims)) or "none"
    return Markup('<tr><td>{}</td>{}{}<td class="number">{}</td>{}{}</tr>').format(
        escape(name),
        number.format(count(feature.cardinality)),
        number.format(count(feature.kept_rows)),
        columns,
        number.format(size(feature.bytes)),
        number.format(percent(feature.bytes / feature.full_bytes)),
    )
