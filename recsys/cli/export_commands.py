"""`recsys export` and `verify`.

Imports are inside the commands: `recsys --help` loads no library that it does not need.
"""

from pathlib import Path
from typing import Annotated

import typer

from recsys.cli.arguments import ListingCommand, MovedData


class ExportCommand(ListingCommand):
    """The command `export`, whose help lists the table forms."""

    def describe(self) -> str:
        from recsys.serving.table_forms import describe_forms

        return describe_forms()


def export(
    run: Annotated[Path, typer.Argument(help="a run folder")],
    out: Annotated[Path, typer.Option(help="the folder of the new export")],
    tables: Annotated[
        str, typer.Option(help="the form of the tables: both, or one of the list", metavar="FORM")
    ] = "both",
    data: MovedData = None,
) -> None:
    """Write tables, vocabularies and graphs that can be served without this package."""
    from recsys.cli.runs import open_run
    from recsys.export.write import export_run
    from recsys.serving.manifest import load_manifest

    export_run(open_run(run, data=data), out, tables)
    for note in load_manifest(out).notes:
        typer.echo(f"note: {note}")
    typer.echo(f"exported to {out}")


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
