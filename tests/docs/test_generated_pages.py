"""The generated pages: every command, key, config and record, with what the code says of it."""

import inspect
import json
from typing import Annotated, Literal

import pytest
import typer
from pydantic import Field, PositiveInt

import data_pipelines
import recsys
from data_pipelines.recipe import Recipe
from recsys.cli.main import app
from recsys.config.base import AbsolutePath, BaseConfig
from recsys.config.run import RunConfig
from recsys.metrics import METRICS, compute_auc
from tests.docs.pages import ROOT
from tools.docs.config_reference import classes_in, config_reference, described_fields
from tools.docs.pages import HIDDEN_KEYS, generated_pages, page_of, source_of


class Small(BaseConfig):
    """One choice."""

    kind: Literal["small"] = "small"
    size: PositiveInt = 3  # rows


class Large(BaseConfig):
    """Another choice."""

    kind: Literal["large"] = "large"
    # rows, in
    # thousands
    size: Annotated[int, Field(ge=1, lt=10)]


class Inner(BaseConfig):
    """A section.

    Attributes:
        names: several
            names.
    """

    names: tuple[str, ...] = ()
    path: AbsolutePath | None = None
    """a folder,
    relative or not"""


class Whole(BaseConfig):
    """A file."""

    seed: int = Field(0, description="of random numbers")
    color: Literal["red", "blue"] | None = None
    part: Annotated[Small | Large, Field(discriminator="kind")] = Small()
    inner: dict[str, Inner] = {}
    hidden: int = 0


@pytest.fixture(scope="module")
def pages():
    return generated_pages(ROOT)


def rows(text):
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return {line[0].strip("`"): line[1:] for line in lines}


def test_a_key_has_its_type_limits_default_and_description():
    text = config_reference(Whole, frozenset({"hidden"}))
    table = rows(text)
    assert table["seed"] == ["integer", "`0`", "of random numbers"]
    assert table["color"][:2] == ["`red` \\| `blue` or null", "`null`"]
    assert table["names"] == ["list of text", "`[]`", "several names."]
    assert table["path"] == ["path or null", "`null`", "a folder, relative or not"]
    assert described_fields(Whole)["inner"] == "A section"
    assert "| `size` | integer > 0 | `3` | rows |" in text
    assert "| `size` | integer ≥ 1, < 10 | **required** | rows, in thousands |" in text
    assert "hidden" not in text


def test_a_choice_has_a_section_for_each_of_its_classes():
    text = config_reference(Whole)
    assert "## `part` {: #small-or }" in text
    assert "### `kind: small` {: #small }\n\nOne choice." in text
    assert "### `kind: large` {: #large }\n\nAnother choice." in text
    assert "`kind`" not in rows(text)


def test_a_description_of_the_parent_is_inherited():
    class Child(Small):
        """More."""

        other: int = 0  # another

    assert described_fields(Child) == {"kind": "", "size": "rows", "other": "another"}


@pytest.mark.parametrize("config", [RunConfig, Recipe], ids=["run", "recipe"])
def test_every_key_has_a_description(config):
    lacking = [
        f"{owner.__name__}.{key}"
        for owner in classes_in(config, HIDDEN_KEYS)
        for key, text in described_fields(owner).items()
        if not text and key not in tag_keys(owner) and key not in HIDDEN_KEYS
    ]
    assert lacking == []


def tag_keys(config):
    """Keys of one possible value, by which a choice is made."""
    return {k for k, v in config.model_json_schema()["properties"].items() if "const" in v}


@pytest.mark.parametrize(
    ("page", "config"), [("reference/config.md", RunConfig), ("reference/recipe.md", Recipe)]
)
def test_every_key_is_on_its_page(page, config, pages):
    shown = rows(pages[page]).keys()
    for owner in classes_in(config, HIDDEN_KEYS):
        keys = set(owner.model_fields) - HIDDEN_KEYS - tag_keys(owner)
        simple = keys if owner is not config else set()
        assert simple <= shown, owner.__name__
        assert all(f"`{key}`" in pages[page] for key in keys), owner.__name__


def test_every_command_and_option_is_on_its_page(pages):
    for name, command in typer.main.get_command(app).commands.items():
        _, _, section = pages["reference/commands.md"].partition(f"## `recsys {name}`")
        section, _, _ = section.partition("\n## ")
        options = {o for p in command.params for o in p.opts if o.startswith("--")}
        assert all(option in section for option in options - {"--help"}), name


def test_public_functions_are_shown_with_arguments_and_docstring(pages):
    _, _, section = pages["reference/python.md"].partition("### `compute_auc`\n")
    assert (
        "compute_auc(\n    logits: ArrayLike,\n    labels: ArrayLike,\n) -> float | None" in section
    )
    assert inspect.getdoc(compute_auc) in section
    for name in (*recsys.__all__, *data_pipelines.__all__, "ExportReader.score_raw"):
        assert f"# `{name}`\n" in pages["reference/python.md"]


def test_every_metric_is_on_its_page(pages):
    shown = rows(pages["reference/metrics.md"])
    assert {name: cells[0] for name, cells in shown.items()} == {
        name: metric.definition for name, metric in METRICS.items()
    }


def test_every_config_and_record_is_shown(pages):
    for config in ROOT.glob("configs/**/*.yaml"):
        assert config.read_text() in pages["reference/shipped.md"]
    for record in ROOT.glob("benchmarks/results/*.md"):
        assert pages[f"reference/records/{record.name}"] == record.read_text()
        assert f"records/{record.name}" in pages["reference/records.md"]


def test_a_file_and_the_page_that_shows_it_name_each_other():
    for file in ("CONTRIBUTING.md", "benchmarks/README.md", "docs/install.md"):
        assert source_of(page_of(file)) == file
    record = "benchmarks/results/a.md"
    assert source_of(page_of(record)) == record
    assert page_of("configs/taobao/din.yaml") == "reference/shipped.md#configs-taobao-din"
    assert page_of("recsys/schema.py") is None


def test_defaults_are_json(pages):
    for key, (_, default, *_) in rows(pages["reference/config.md"]).items():
        if default not in ("**required**", "as below"):
            json.loads(default.strip("`").replace("\\|", "|")), key
