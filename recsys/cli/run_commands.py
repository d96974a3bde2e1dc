"""`recsys train`, `search`, `evaluate`, `compare` and `plan`.

Imports are inside the commands: `recsys --help` loads no library that it does not need.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from recsys.cli.arguments import MovedData, Overrides

if TYPE_CHECKING:
    from recsys.distributed.context import Ranks

console = Console()


def train(
    config: Annotated[
        Path | None, typer.Argument(help="the run's config, a YAML file; not needed with --resume")
    ] = None,
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="the folder of the new run")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="a run folder: continue from its last checkpoint")
    ] = None,
) -> None:
    """Train a model, evaluate it on valid and test, and write the report."""
    from recsys.cli.runs import evaluate, new_or_resumed, on_devices
    from recsys.config.run import load_config, load_stored_config
    from recsys.training.train import train as run_training

    run_dir, file, changes = new_or_resumed("train", config, overrides, out, resume)
    stored = run_dir / "config.yaml"
    resolved = load_config(file, changes) if file else load_stored_config(stored, changes)

    def work(ranks: "Ranks") -> None:
        run_training(resolved, run_dir, resume=resume is not None, ranks=ranks)
        evaluate(run_dir, None, ranks)

    on_devices(resolved, work, f"recsys train --resume {run_dir}")


def search(
    config: Annotated[
        Path | None, typer.Argument(help="a config with a search section; not needed with --resume")
    ] = None,
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="the folder of the new search")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="a search folder: continue where the search stopped")
    ] = None,
) -> None:
    """Search which table rows and columns to keep (optembed, dnis); write an allocation file."""
    from recsys.cli.runs import new_or_resumed, on_devices
    from recsys.config.run import load_config, load_stored_config
    from recsys.search.search import SUPERNET, describe
    from recsys.search.search import search as run_search

    out_dir, file, changes = new_or_resumed("search", config, overrides, out, resume)
    stored = out_dir / SUPERNET / "config.yaml"
    resolved = load_config(file, changes) if file else load_stored_config(stored, changes)

    def work(ranks: "Ranks") -> None:
        found = run_search(resolved, out_dir, resume=resume is not None, ranks=ranks)
        if ranks.is_first:
            typer.echo(describe(found))

    on_devices(resolved, work, f"recsys search --resume {out_dir}")


def evaluate(
    run: Annotated[Path, typer.Argument(help="a run folder")],
    split: Annotated[
        list[str] | None, typer.Option(help="valid, test or train; default: valid and test")
    ] = None,
    data: MovedData = None,
) -> None:
    """Score splits with the best checkpoint; write predictions, report.json and report.html.

    A run that is not finished is scored with its best checkpoint so far or, before the first
    validation, with its last one.
    """
    from recsys.cli import runs
    from recsys.training.run_folder.folder import load_run_config

    runs.on_devices(
        load_run_config(run),
        lambda ranks: runs.evaluate(run, split, ranks, data),
        f"recsys evaluate {run}",
    )


def compare(
    run_a: Annotated[Path, typer.Argument(help="a run folder")],
    run_b: Annotated[Path, typer.Argument(help="a run folder with predictions of the same rows")],
    split: Annotated[str, typer.Option(help="the split whose predictions are compared")] = "test",
) -> None:
    """Compare the AUC of two runs on the same rows: difference, interval, DeLong's p-value.

    If rows have groups, for example users, also the GAUC; its interval is a bootstrap over groups.
    """
    from recsys.reports import compare_runs, compare_runs_by_group
    from recsys.reports.compare import describe_test

    test = compare_runs(run_a, run_b, split)
    typer.echo(f"{split} split; differences are {run_b} minus {run_a}")
    typer.echo(f"AUC {test.auc_a:.5f} and {test.auc_b:.5f}: {describe_test(test)}")
    grouped = compare_runs_by_group(run_a, run_b, split)
    if grouped is not None:
        low, high = grouped.ci95
        typer.echo(
            f"GAUC {grouped.gauc_a:.5f} and {grouped.gauc_b:.5f}: difference "
            f"{grouped.difference:+.5f} (95 % interval {low:+.5f} to {high:+.5f}), from "
            f"{grouped.groups_used:,} of {grouped.groups:,} groups"
        )


def plan(  # noqa: PLR0913  # the options of a command
    config: Annotated[Path, typer.Argument(help="a YAML file")],
    overrides: Overrides = None,
    world_size: Annotated[int, typer.Option(help="total number of devices", min=1)] = 8,
    hbm: Annotated[str, typer.Option(help="memory of one GPU, such as 80GB")] = "80GB",
    devices_per_node: Annotated[
        int | None, typer.Option(help="default: 8, or --world-size if smaller", min=1)
    ] = None,
    device: Annotated[str, typer.Option(help="cuda or cpu")] = "cuda",
    host_memory: Annotated[str, typer.Option(help="memory of the CPUs of one node")] = "1TB",
    out: Annotated[Path | None, typer.Option(help="a file for the plan in JSON")] = None,
) -> None:
    """Plan how tables are placed on devices: memory and estimated step time of each device.

    Needs only the dataset's schema.json: no rows, no GPU, no process group.
    """
    from recsys.distributed.planner.command import plan_file
    from recsys.distributed.planner.plan_text import render

    size = (world_size, devices_per_node or min(8, world_size))
    planned = plan_file(config, overrides or [], size, device, hbm, host_memory)
    for part in render(planned):
        console.print(part)
    if out is not None:
        planned.save(out)
        typer.echo(f"plan: {out}")
