"""Prepares datasets: raw files → Parquet and schema.json, with polars and without torch.

README.md in this folder describes recipes, raw files and the written dataset.
"""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from data_pipelines.encoding.encoders import load_encoders
from data_pipelines.encoding.staging import encode_staged, read_chunks, stage_chunk
from data_pipelines.events.leakage import check_rows, check_vocabularies
from data_pipelines.events.pipeline import (
    EventSamples,
    build_events,
    no_progress,
    read_log,
    read_samples,
)
from data_pipelines.events.tables import is_sample_table, read_sample_table
from data_pipelines.pipeline import build_rows
from data_pipelines.plan import make_plan
from data_pipelines.recipe import Recipe, load_recipe, override_recipe
from data_pipelines.source import Source
from data_pipelines.sources import builtin_datasets, describe_datasets, find_recipe, open_source
from data_pipelines.sources.joined import joined_part
from data_pipelines.writing import Progress, new_folder, readable_os_errors, save_schema
from recsys.config.base import validate
from recsys.schema import Schema, load_schema

__all__ = [
    "FrameEncoder",
    "builtin_datasets",
    "check_leakage",
    "describe_datasets",
    "encode",
    "find_recipe",
    "load_recipe",
    "prepare",
    "read_raw",
    "reads_parquet",
]


def prepare(
    name_or_recipe: str,
    raw: Sequence[Path],
    out: Path,
    overrides: Sequence[str] = (),
    progress: Progress | None = None,
    overwrite: bool = False,
) -> Schema:
    """Makes a dataset of raw files: Parquet files, vocabularies and schema.json.

    Args:
        name_or_recipe: the name of a built-in dataset, or the path of a recipe in YAML.
        raw: the raw files, or folders of them.
        out: the new folder; it must not exist or be empty, unless `overwrite` is set.
        overrides: `key.sub=value` changes of the recipe, the values in YAML.
        progress: called with (stage, rows done, all rows or None).
        overwrite: replaces the dataset at `out` when the new one is complete.

    Returns:
        The schema, which is also written to schema.json.

    Raises:
        RecsysError: for an invalid recipe or invalid raw files; then nothing is left at `out`.
    """
    recipe = override_recipe(find_recipe(name_or_recipe), overrides)
    source, out = open_source(recipe, raw), Path(out).absolute()
    with readable_os_errors(out), new_folder(out, overwrite) as folder:
        (folder / "staged").mkdir()
        schema = _build(recipe, source, list(raw), folder, progress or no_progress)
        shutil.rmtree(folder / "staged")
        save_schema(schema, folder)
    return schema


def _build(
    recipe: Recipe, source: Source, raw: list[Path], folder: Path, progress: Progress
) -> Schema:
    samples: EventSamples | None = None
    if recipe.events:
        written, samples = build_events(recipe, source, raw, folder, progress)
    else:
        written = build_rows(recipe, source, raw, folder, progress)
    for one in written.statistics:
        one.encoder.save(folder)
    schema = written.schema(recipe)
    if joined := joined_part(source):
        warnings = (*joined.warnings(), *schema.warnings)
        schema = schema.model_copy(update={"joins": joined.counts(), "warnings": warnings})
    if samples is not None and samples.rules.check_leakage:
        check_rows(schema, folder, samples.log, (e.frame for e, _ in samples.buckets()))
        progress("check", samples.rows, samples.rows)
    return schema


def read_raw(schema: Schema, raw: Sequence[Path]) -> Iterator[pl.DataFrame]:
    """Yields the canonical raw columns of raw files, before transforms and vocabularies.

    Args:
        schema: of the prepared dataset whose recipe describes the files.
        raw: the raw files, or folders of them. For a dataset that was made of an event log: a log,
            of which samples are made again, or a table of samples, with a column for each feature
            and histories as text.

    Yields:
        Chunks of rows: text or float64, null if missing; `label` (int8) if the files have labels.
        Rows that `label.rule` drops are left out.

    Raises:
        RecsysError: for invalid raw files.
    """
    recipe = _recipe_of(schema)
    source = open_source(recipe, raw, may_be_joined=True)
    if recipe.events:
        if is_sample_table(schema, recipe, list(raw)):
            yield from read_sample_table(schema, recipe, list(raw))
        else:
            yield from read_samples(recipe, source, list(raw))
        return
    for path in source.files(list(raw)):
        columns = source.columns(recipe, path)
        dtypes = {
            name: dtype
            for name, dtype in make_plan(recipe, columns).dtypes.items()
            if name in columns or name != recipe.label.column
        }
        for chunk in read_chunks(source, recipe, [path], dtypes):
            yield chunk.frame


def reads_parquet(schema: Schema) -> bool:
    """Whether the raw files of the dataset are Parquet."""
    return _recipe_of(schema).file.format == "parquet"


def check_leakage(dataset_dir: Path, raw: Sequence[Path] = (), max_events: int = 1 << 24) -> None:
    """Checks a prepared dataset for leakage (`events/leakage.py`).

    Args:
        dataset_dir: the folder of the dataset.
        raw: the event log that it was made of; without it only vocabularies are checked.
        max_events: in longer logs, only the rows of a share of the users are checked; each event
            needs 24 bytes of memory.

    Raises:
        RecsysError: names the first row, or the first value, with leakage.
    """
    schema = load_schema(dataset_dir)
    recipe = _recipe_of(schema)
    if not recipe.events or not raw:
        check_vocabularies(schema, dataset_dir)
        return
    with tempfile.TemporaryDirectory() as folder:
        source = open_source(recipe, raw)
        _, log = read_log(recipe, source, list(raw), Path(folder), no_progress)
        frames = (log.read_bucket(number) for number in range(log.num_buckets))
        check_rows(schema, dataset_dir, log, frames, max_events)


class FrameEncoder:
    """Encodes canonical raw columns in the same way as `prepare`."""

    def __init__(self, schema: Schema, dataset_dir: Path) -> None:
        """Loads the vocabularies.

        Args:
            schema: of the dataset.
            dataset_dir: the folder of its vocabularies.
        """
        self.recipe = _recipe_of(schema)
        self.encoders = load_encoders(schema.features, dataset_dir)

    def encode(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Encodes a chunk of `read_raw`.

        Args:
            frame: the canonical raw columns, text or float64.

        Returns:
            Ids as int32, numbers as float32, sequences as list<int32>, and `label` and `group_id`
            if the frame has their columns.
        """
        return encode_staged(self.encoders, stage_chunk(self.recipe, self.encoders, frame))


def encode(schema: Schema, dataset_dir: Path, frame: pl.DataFrame) -> pl.DataFrame:
    """Returns `FrameEncoder(schema, dataset_dir).encode(frame)`."""
    return FrameEncoder(schema, dataset_dir).encode(frame)


def _recipe_of(schema: Schema) -> Recipe:
    return validate(Recipe, schema.recipe, f"the recipe in the schema of {schema.name!r}")
