"""`recsys doctor`, `demo` and `prepare`.

Imports are inside the commands: `recsys --help` loads no library that it does not need.
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from recsys.cli.arguments import ListingCommand, Overrides
from recsys.errors import RecsysError

console = Console()


def doctor() -> None:
    """Check what is installed, whether versions match, and the device; print commands to fix it."""
    from recsys.cli.doctor import diagnose

    findings = diagnose()
    table = Table(box=None, show_header=False, pad_edge=False)
    marks = {True: "[green]ok[/]", False: "[red]no[/]", None: "[dim]--[/]"}
    for finding in findings:
        table.add_row(marks[finding.is_good], finding.subject, finding.state)
    console.print(table)
    for finding in findings:
        if finding.repair and not finding.is_good:
            verb = "install" if finding.is_good is None else "fix"
            console.print(f"\nto {verb} {finding.subject}, run:", style="bold")
            typer.echo(f"  {finding.repair}")
    if any(finding.is_good is False for finding in findings):
        raise typer.Exit(2)


def demo(
    out: Annotated[
        Path, typer.Option(help="the folder for the dataset, the run and the export")
    ] = Path("demo"),
    rows: Annotated[int, typer.Option(help="number of rows to generate", min=10_000)] = 150_000,
) -> None:
    """Run prepare, train, evaluate, export and verify on generated rows."""
    from recsys.cli.demo import run_demo

    run_demo(out, rows)


class PrepareCommand(ListingCommand):
    """The command `prepare`, whose help lists the built-in datasets."""

    def describe(self) -> str:
        from data_pipelines import describe_datasets

        return describe_datasets()


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

    A dataset that is not built in needs a recipe in YAML.
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
