"""The record of the GPU benchmark as Markdown: what ran, and what could not."""

from benchmarks.tables import table

COLUMNS = {
    "steps": (
        "store", "rows", "model", "precision", "batch_size",
        "samples_per_second", "step_milliseconds", "peak_memory_bytes",
    ),
    "lookups": (
        "rows", "dim", "batch_size", "bag", "forward_milliseconds", "forward_of_copy_bandwidth",
        "update_milliseconds", "update_of_copy_bandwidth", "both_through_our_store_milliseconds",
    ),
    "precision": ("data", "precision", "seed", "test_auc", "log_loss"),
    "from_parquet": (
        "store", "model", "process_group", "pipeline", "batch_size", "steps", "samples_per_second",
    ),
}  # fmt: skip
TITLES = {
    "tests": "Tests marked `gpu`",
    "steps": "Training steps: model, tables and optimizers; batches from page-locked memory",
    "lookups": "Fused lookup and update against the copy bandwidth, uniform ids, 26 tables",
    "precision": "bf16 against fp32 on the same rows",
    "from_parquet": "`recsys train` from Parquet",
}


def to_markdown(results: dict[str, dict], note: str | None) -> str:
    lines = [note, ""] if note else []
    for name, result in results.items():
        lines += [f"## {TITLES[name]}", "", *section(name, result), ""]
        if result["failed"]:
            lines += ["Did not end well:", "", f"    {short(result['failed'])}", ""]
    return "\n".join(lines)


def section(name: str, result: dict) -> list[str]:
    if name == "tests":
        return [result["summary"], "", *(f"- `{line}`" for line in result["lines"])]
    good = [point for point in result["points"] if "failed" not in point]
    bad = [point for point in result["points"] if "failed" in point]
    columns = COLUMNS[name]
    rows = [point for point in good if columns[-1] in point]
    lines = [plain(point) for point in good if columns[-1] not in point]
    if rows:
        heads = [column.replace("_", " ") for column in columns]
        lines += ["", table(heads, [[cell(point.get(c)) for c in columns] for point in rows])]
    lines += ["", f"Took {result['seconds']} s."]
    if bad:
        lines += ["", "Could not run:", "", *(f"- {plain(point)}" for point in bad)]
    return lines


def plain(point: dict) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {cell(value)}" for key, value in point.items())


def cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.5g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "–" if value is None else str(value)


def short(failure: str) -> str:
    return " / ".join(failure.strip().splitlines()[-6:])
