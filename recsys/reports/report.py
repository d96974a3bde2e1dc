"""Run folder → report.json, and report.html drawn from it."""

from pathlib import Path
from typing import Any

from recsys.errors import RecsysError
from recsys.io.atomic import write_text
from recsys.metrics import SupportRule
from recsys.reports.attention.contents import PairAttention, measure_attention
from recsys.reports.contents import Report, choose_main_split, describe_dataset
from recsys.reports.page import render_page
from recsys.reports.run_folder import RunFolder, TrainingRecord, load_run
from recsys.reports.slices import name_slices
from recsys.reports.split_metrics import SplitMetrics, evaluate_predictions


def write_report(
    run_dir: Path,
    dataset_dir: Path | None = None,
    rule: SupportRule | None = None,
    record: TrainingRecord | None = None,
) -> dict[str, Any]:
    """Measures every split in `run_dir`/predictions and writes report.json and report.html.

    Args:
        run_dir: run folder with predictions, as `recsys evaluate` writes them.
        dataset_dir: the run's dataset, for raw values of slices instead of ids, and to compare
            attention with the labels; None: without them.
        rule: rows that retrieval is measured on; None: `SupportRule()`.
        record: facts of the training of a run that has not ended; None: read training.json.

    Returns:
        The content of report.json.

    Raises:
        RecsysError: a file of the run is missing or damaged, or the report cannot be written.
    """
    report = build_report(load_run(run_dir, record), dataset_dir, rule or SupportRule())
    files = {
        "report.json": report.model_dump_json(indent=1) + "\n",
        "report.html": render_page(report),
    }
    for name, text in files.items():
        try:
            write_text(run_dir / name, text)
        except OSError as error:
            path = run_dir / name
            raise RecsysError("the report cannot be written", where=path, got=error) from None
    return report.model_dump(mode="json")


def build_report(run: RunFolder, dataset_dir: Path | None, rule: SupportRule) -> Report:
    return Report(
        run=run.name,
        model=run.record.model,
        seed=run.record.seed,
        monitor=run.record.monitor,
        best_epoch=run.record.best_epoch,
        splits={
            split: measure_split(path, run, dataset_dir) for split, path in run.predictions.items()
        },
        attention=find_attention(run, dataset_dir, rule),
        embeddings=run.record.embeddings,
        allocation=run.record.allocation,
        training=run.record.training,
        dataset=describe_dataset(run.dataset, dataset_dir.resolve().name if dataset_dir else None),
        learning_curves=run.curves,
        environment=run.environment,
        config=run.config,
    )


def measure_split(path: Path, run: RunFolder, dataset_dir: Path | None) -> SplitMetrics:
    metrics = evaluate_predictions(path)
    if dataset_dir is None:
        return metrics
    named = name_slices(metrics.slices, run.dataset, dataset_dir)
    return metrics.model_copy(update={"slices": named})


def find_attention(
    run: RunFolder, dataset_dir: Path | None, rule: SupportRule
) -> tuple[PairAttention, ...]:
    path = run.attention.get(choose_main_split(run.predictions))
    return () if path is None else measure_attention(path, run.dataset, dataset_dir, rule)
