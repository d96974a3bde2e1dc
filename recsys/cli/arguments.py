"""Arguments that several commands take, and commands whose help shows a list of the program."""

from abc import abstractmethod
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

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


class ListingCommand(TyperCommand):
    """A command whose help ends with a list that is imported only when the help is shown."""

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401  # click's
        super().__init__(*arguments, **options)
        self.short_help = self._text.partition("\n")[0]

    @abstractmethod
    def describe(self) -> str:
        """The list as text."""

    @property
    def help(self) -> str:
        return f"{self._text}\n\n{self.describe()}"

    @help.setter
    def help(self, text: str | None) -> None:
        self._text = text or ""
