"""Arguments that several commands take."""

from pathlib import Path
from typing import Annotated

import typer

Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        help="change a value of the config: section.key=value; may be repeated", metavar="KEY=VALUE"
    ),
]
MovedData = Annotated[
    Path | None,
    typer.Option("--data", help="the folder of the run's dataset, if it was moved", metavar="DIR"),
]
