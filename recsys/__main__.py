"""The command line: `recsys COMMAND`, or `python -m recsys COMMAND`.

Exit codes: 0 done, or training stopped by a signal after writing a checkpoint; 2 wrong usage,
config or data, with one readable message; 128 + n ended by signal n; 1 a failure of ours.
"""

import errno
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from recsys.errors import RecsysError
from recsys.io.memory import is_out_of_memory, out_of_memory
from recsys.io.stop_signals import ended_by_signals

if TYPE_CHECKING:
    from recsys.distributed.context import Ranks

app = typer.Typer(
    help="Train and export click-through-rate models; each feature has its own embedding method.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
console = Console()
# The system's reasons, no failures of ours: the disk, quotas, limits, permissions, names.
OUTSIDE_CAUSES = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM),
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO),
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL),
)

Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        help="change a value of the config: section.key=value; may be repeated", metavar="KEY=VALUE"
    ),
]


Moved = Annotated[
    Path | None,
    typer.Option("--data", help="the folder of the run's dataset, if it was moved", metavar="DIR"),
]


@app.command()
def doctor() -> None:
    """Check the installed packages and the device; print the commands that fix what is wrong."""
    from recsys.cli.doctor import diagnose

    findings = diagnose()
    table = Table(box=None, show_header=False, pad_edge=False)
    for finding in findings:
        mark = "[green]ok[/]" if finding.is_good else "[red]no[/]"
        table.add_row(mark, finding.subject, finding.state)
    console.print(table)
    repairs = dict.fromkeys(f.repair for f in findings if f.repair)
    for repair in repairs:
        console.print("\nto fix it, run:", style="bold")
        typer.echo(f"  {repair}")
    if any(not finding.is_good for finding in findings):
        raise typer.Exit(2)


@app.command()
def demo(
    out: Annotated[
        Path, typer.Option(help="the folder for the dataset, the run and the export")
    ] = Path("demo"),
    rows: Annotated[int, typer.Option(help="number of rows to generate", min=10_000)] = 150_000,
) -> None:
    """Run prepare, train, evaluate, export and verify on generated rows."""
    from recsys.cli.demo import run_demo

    run_demo(out, rows)


@app.command()
def prepare(
    name: Annotated[
        str, typer.Argument(help="a built-in dataset, or the path of a recipe in YAML")
    ],
    overrides: Overrides = None,
    raw: Annotated[
        list[Path] | None, typer.Option(help="a raw file or folder; may be repeated")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="the folder of the new dataset")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="replace an existing dataset")
    ] = False,
) -> None:
    """Convert raw files to a dataset: Parquet files, vocabularies and schema.json.

    Built-in datasets: criteo_kaggle, criteo_1tb, avazu, movielens_1m.

    Published splits: criteo_x4_001, criteo_x4_002, avazu_x4_001, avazu_x4_002.

    Event logs, with behavior histories: taobao, amazon_reviews, amazon_lists,
    movielens_1m_history; as published: amazon_electronics_din, taobao_dare, tmall_dare.

    Any other dataset needs a recipe in YAML.
    """
    import data_pipelines
    from recsys.cli.dataset_text import describe_statistics
    from recsys.cli.progress import progress_report

    if not raw or out is None:
        raise RecsysError("prepare needs --raw FILE and --out DIR")
    with progress_report() as report:
        schema = data_pipelines.prepare(name, raw, out, overrides or [], report, overwrite)
    table = Table("split", "rows", "positive rate", box=None)
    for split, facts in schema.splits.items():
        table.add_row(split, f"{facts.rows:,}", f"{facts.positives / max(facts.rows, 1):.4f}")
    console.print(table)
    for part in describe_statistics(schema):
        console.print(part)
    ids = sum(feature.num_ids for feature in schema.sparse)
    typer.echo(f"{len(schema.features)} features, {ids:,} ids; dataset in {out}")


@app.command()
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
    from recsys.cli.commands import evaluate, new_or_resumed, on_devices
    from recsys.config.run import load_config, load_stored_config
    from recsys.training.train import train as run_training

    run_dir, file, changes = new_or_resumed("train", config, overrides, out, resume)
    stored = run_dir / "config.yaml"
    resolved = load_config(file, changes) if file else load_stored_config(stored, changes)

    def work(ranks: "Ranks") -> None:
        run_training(resolved, run_dir, resume=resume is not None, ranks=ranks)
        evaluate(run_dir, None, ranks)

    on_devices(resolved, work, f"recsys train --resume {run_dir}")


@app.command()
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
    from recsys.cli.commands import new_or_resumed, on_devices
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


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="a run folder")],
    split: Annotated[
        list[str] | None, typer.Option(help="valid, test or train; default: valid and test")
    ] = None,
    data: Moved = None,
) -> None:
    """Score splits with the best checkpoint; write predictions, report.json and report.html.

    A run that is not finished is scored with its best checkpoint so far or, before the first
    validation, with its last one.
    """
    from recsys.cli import commands as run_commands
    from recsys.training.run_folder.folder import load_run_config

    run_commands.on_devices(
        load_run_config(run),
        lambda ranks: run_commands.evaluate(run, split, ranks, data),
        f"recsys evaluate {run}",
    )


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="a run folder")],
    out: Annotated[Path, typer.Option(help="the folder of the new export")],
    tables: Annotated[
        Literal["both", "materialized", "native"],
        typer.Option(
            help="materialized: one table id → vector for each feature. native: the tables as "
            "trained, and the rule that computes a vector from them. both: the two, but no "
            "materialized tables of compressed features if they take more than 16 GiB in total"
        ),
    ] = "both",
    data: Moved = None,
) -> None:
    """Write tables, vocabularies and graphs that can be served without this package."""
    from recsys.cli.commands import open_run
    from recsys.export.write import export_run
    from recsys.serving.manifest import load_manifest

    export_run(open_run(run, data=data), out, tables)
    for note in load_manifest(out).notes:
        typer.echo(f"note: {note}")
    typer.echo(f"exported to {out}")


@app.command()
def verify(
    export_dir: Annotated[Path, typer.Argument(metavar="EXPORT", help="an export folder")],
    data: Annotated[
        Path, typer.Option(help="a dataset folder, the folder of one split, or a raw file")
    ],
    run: Annotated[
        Path | None,
        typer.Option(help="the run to compare with; default: the run that was exported"),
    ] = None,
    encoded: Annotated[
        bool | None,
        typer.Option(
            "--encoded/--raw",
            help="whether the data holds ids or raw values; default: as its contents say",
        ),
    ] = None,
) -> None:
    """Score rows with an independent reader of the export and compare with the model's scores.

    Always scored too: the reference rows that the export keeps with the trained model's logits.
    """
    from recsys.cli.verification import describe_parity
    from recsys.cli.verification import verify as run_verification

    typer.echo(describe_parity(run_verification(export_dir, data, run, encoded=encoded)))


@app.command()
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
    from recsys.distributed.planner.command import plan_on_paper
    from recsys.distributed.planner.plan_text import render

    size = (world_size, devices_per_node or min(8, world_size))
    planned = plan_on_paper(config, overrides or [], size, device, hbm, host_memory)
    for part in render(planned):
        console.print(part)
    if out is not None:
        planned.save(out)
        typer.echo(f"plan: {out}")


@app.command()
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
    typer.echo(f"AUC {test.auc_a:.5f} and {test.auc_b:.5f}: {describe_test(test)}")
    grouped = compare_runs_by_group(run_a, run_b, split)
    if grouped is not None:
        low, high = grouped.ci95
        typer.echo(
            f"GAUC {grouped.gauc_a:.5f} and {grouped.gauc_b:.5f}: difference "
            f"{grouped.difference:+.5f} (95 % interval {low:+.5f} to {high:+.5f}), from "
            f"{grouped.groups_used:,} of {grouped.groups:,} groups"
        )


@ended_by_signals()
def main() -> None:
    """Runs a command; a user's mistake becomes one message and exit code 2."""
    try:
        app()
    except RecsysError as error:
        message = error
    except Exception as error:
        _exit_if_rank_lost(error)
        found = _outside_cause(error)
        if found is None:
            raise
        message = found
    else:
        return
    typer.echo(f"error: {message}", err=True)
    sys.exit(2)


def _outside_cause(error: Exception) -> RecsysError | None:
    """The message for what the system refuses; None for failures of ours, which stay tracebacks."""
    if is_out_of_memory(error):
        return out_of_memory(error)
    if isinstance(error, OSError) and error.errno in OUTSIDE_CAUSES:
        return RecsysError(str(error.strerror), where=error.filename or "unknown")
    return None


def _exit_if_rank_lost(error: Exception) -> None:
    if isinstance(error, RuntimeError):
        from recsys.distributed.launch import LOST_CONTACT, is_lost_contact

        if is_lost_contact(error):
            typer.echo("stopped: another rank ended", err=True)
            sys.exit(LOST_CONTACT)


if __name__ == "__main__":
    main()
