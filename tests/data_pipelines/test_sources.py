"""The list of data sources: one entry is enough to prepare, to name and to show a source."""

import re

import polars as pl
import pytest
from typer.testing import CliRunner

import data_pipelines
from data_pipelines import __main__ as command
from data_pipelines import builtin_datasets, find_recipe, prepare, sources
from data_pipelines.recipe import Recipe
from data_pipelines.rules.columns import Categorical
from data_pipelines.rules.splits import ByTime
from data_pipelines.source import DataSource
from recsys.cli.main import app
from recsys.errors import RecsysError


class ToySource:
    """Lines of "label color", such as "1 red"."""

    def files(self, raw):
        return raw

    def columns(self, recipe, path):
        return ["label", "color"]

    def read(self, recipe, path, dtypes):
        rows = [line.split() for line in path.read_text().splitlines()]
        yield 1, pl.DataFrame(rows, schema=["label", "color"], orient="row").select(list(dtypes))


TOY = DataSource(
    datasets=(
        Recipe(
            name="toy_colors",
            source="toy_lines",
            categorical=Categorical(columns=("color",)),
            min_count=1,
            split=ByTime(fractions=(0.5, 0.25, 0.25)),
        ),
    ),
    readers={"toy_lines": ToySource()},
)


@pytest.fixture
def toy(monkeypatch, tmp_path):
    """The raw file of a source that the list has, and nothing else."""
    monkeypatch.setattr("data_pipelines.sources.SOURCES", (*sources.SOURCES, TOY))
    raw = tmp_path / "toy.txt"
    raw.write_text("1 red\n0 blue\n1 red\n0 green\n")
    return raw


def test_a_dataset_of_the_list_is_prepared_and_read_again(toy, tmp_path):
    schema = prepare("toy_colors", [toy], tmp_path / "out")
    assert schema.splits["train"].rows == 2
    assert schema.recipe["source"] == "toy_lines"
    (chunk,) = data_pipelines.read_raw(schema, [toy])
    assert chunk["color"].to_list() == ["red", "blue", "red", "green"]


def test_a_recipe_may_name_a_source_of_the_list(toy, tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("{source: toy_lines, categorical: {columns: [color]}, min_count: 1}")
    split = "split={method: by_time, fractions: [0.5, 0.25, 0.25]}"
    assert prepare(str(recipe), [toy], tmp_path / "out", [split]).name == "mine"


def test_both_commands_show_a_dataset_of_the_list(toy, tmp_path, monkeypatch, capsys):
    shown = CliRunner().invoke(app, ["prepare", "--help"])
    assert "toy_colors" in shown.output
    monkeypatch.setattr("sys.argv", ["data_pipelines", "--help"])
    with pytest.raises(SystemExit):
        command.main()
    assert "toy_colors" in capsys.readouterr().out
    arguments = ["prepare", "toy_colors", "--raw", str(toy), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out/schema.json").exists()


def test_messages_name_the_datasets_and_sources_of_the_list(toy, tmp_path):
    with pytest.raises(RecsysError, match=r"(?s)expected: .*toy_colors.*did you mean 'toy_colors'"):
        find_recipe("toy_colours")
    with pytest.raises(RecsysError) as error:
        prepare("toy_colors", [toy], tmp_path / "out", ["source=toy_line"])
    assert "unknown source 'toy_line'" in str(error.value)
    assert "table, avazu, movielens_1m, amazon_reviews, item_lists, toy_lines" in str(error.value)
    assert "did you mean 'toy_lines'" in str(error.value)


def test_every_name_of_the_list_is_there_once():
    datasets = [recipe.name for source in sources.SOURCES for recipe in source.datasets]
    readers = [name for source in sources.SOURCES for name in source.readers]
    assert len(set(datasets)) == len(datasets)
    assert len(set(readers)) == len(readers)
    assert {recipe.source for recipe in builtin_datasets().values()} <= set(readers)


def test_the_documentation_has_a_row_for_every_built_in_dataset(pytestconfig):
    page = (pytestconfig.rootpath / "docs/own_table.md").read_text()
    _, _, section = page.partition("## Built-in datasets\n")
    rows = [
        line.split("|")[1] for line in section.partition("\n## ")[0].splitlines() if "|" in line
    ]
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == set(builtin_datasets())


def test_the_general_help_does_not_ask_for_the_list(monkeypatch):
    monkeypatch.setattr("data_pipelines.describe_datasets", lambda: pytest.fail("asked"))
    shown = CliRunner().invoke(app, ["--help"])
    assert shown.exit_code == 0
    assert "Convert raw files" in shown.output
