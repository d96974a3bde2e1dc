"""Steps that commands on a run share: devices, signals, scoring, the printed figures."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from recsys.compat.malloc import keep_freed_memory
from recsys.config.run import RunConfig
from recsys.distributed.context import Ranks
from recsys.distributed.launch import launch, needs_launch
from recsys.errors import RecsysError
from recsys.evaluation.score import evaluate_split
from recsys.io.stop_signals import Interrupted
from recsys.metrics import METRICS
from recsys.reports.report import write_report
from recsys.reports.text import fixed, interval
from recsys.training.lightning.signals import StoppedBySignal
from recsys.training.run_folder.folder import check_dataset, load_run_config
from recsys.training.run_folder.record import unfinished_record
from recsys.training.run_folder.trained import TrainedRun, load_trained
from recsys.training.train import ranks_of


def on_devices(config: RunConfig, work: Callable[[Ranks], None], resume_command: str) -> None:
    """Calls `work` in this process, or starts one process per device that will."""
    if needs_launch(config.train.devices, config.train.nodes):
        raise typer.Exit(launch(sys.argv[1:], config.train.devices))
    keep_freed_memory()
    with ranks_of(config) as ranks:
        try:
            work(ranks)
        except StoppedBySignal as stop:
            if ranks.is_first:
                typer.echo(f"{stop}; continue with `{resume_command}`", err=True)
        except Interrupted as stop:
            if ranks.is_first:
                typer.echo(f"{stop}; continue with `{resume_command}`", err=True)
            raise typer.Exit(stop.exit_code) from None


def new_or_resumed(
    command: str,
    config: Path | None,
    overrides: list[str] | None,
    out: Path | None,
    resume: Path | None,
) -> tuple[Path, Path | None, list[str]]:
    """The folder, the config file if one was named, and the overrides."""
    changes = list(overrides or [])
    if resume is not None and config is not None and "=" in str(config):
        changes, config = [str(config), *changes], None
    folder = resume or out
    if folder is None or (config is None and resume is None):
        raise RecsysError(
            f"{command} needs a config and --out, or --resume",
            expected=f"recsys {command} CONFIG --out DIR, or recsys {command} --resume DIR",
        )
    return folder, config, changes


def open_run(run_dir: Path, ranks: Ranks | None = None, data: Path | None = None) -> TrainedRun:
    """The run with its best weights; says which they are if training has not ended.

    `data`: where the dataset is now, if it has moved since the run was started.
    """
    config = load_run_config(run_dir).data
    check_dataset(run_dir, config if data is None else config.model_copy(update={"path": data}))
    trained = load_trained(run_dir, ranks, data)
    if trained.unfinished is not None and trained.ranks.is_first:
        typer.echo(trained.unfinished.describe(run_dir), err=True)
    return trained


def evaluate(
    run_dir: Path, splits: list[str] | None, ranks: Ranks, data: Path | None = None
) -> None:
    """Scores splits, valid and test unless named, writes the report and prints its figures."""
    trained = open_run(run_dir, ranks, data)
    if splits is None:
        splits = [name for name in ("valid", "test") if name in trained.schema.splits]
    for split in splits:
        trained.schema.split(split)
        evaluate_split(trained, split)
    if not ranks.is_first:
        return
    rule = trained.config.report.retrieval
    report = write_report(run_dir, trained.dataset_dir, rule, unfinished_record(trained))
    print_figures(report["splits"])
    for name, facts in report["splits"].items():
        if facts["auc_reason"]:
            typer.echo(f"{name}: {facts['auc_reason']}")
    typer.echo(f"report: {run_dir / 'report.html'}")


def print_figures(splits: Mapping[str, dict[str, Any]]) -> None:
    """A line for each metric that a split has, a column for each split."""
    table = Table("", *splits, box=None)
    table.add_row("rows", *(f"{figures['rows']:,}" for figures in splits.values()))
    for metric in METRICS.values():
        values, intervals, groups = (
            [figures.get(metric.name + suffix) for figures in splits.values()]
            for suffix in ("", "_ci95", "_groups")
        )
        if metric.needs_groups and not any(values + groups):
            continue
        table.add_row(metric.title, *(fixed(value, metric.digits + 1) for value in values))
        if any(intervals):
            table.add_row("  95 % interval", *(interval(ci, metric.digits + 1) for ci in intervals))
    Console().print(table)
