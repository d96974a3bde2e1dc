"""Raw files → Parquet + schema.json; docs/data_contract.md is the contract. polars, never torch."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from data_pipelines.encoding.encoders import load_encoders
from data_pipelines.encoding.staging import read_chunks, stage_chunk
from data_pipelines.events.leakage import check_dataset
from data_pipelines.events.tables import read_event_rows
from data_pipelines.pipeline import encode_staged, run_pipeline
from data_pipelines.plan import make_plan
from data_pipelines.reading.blocks import Progress
from data_pipelines.reading.times import timed_source
from data_pipelines.recipe import Recipe, load_recipe, override_recipe
from data_pipelines.sources import amazon, avazu, criteo, movielens, taobao
from data_pipelines.sources.joined import joined_source
from data_pipelines.sources.table import Source, TableSource
from recsys.config.base import validate
from recsys.errors import RecsysError, did_you_mean
from recsys.schema import Schema, load_schema

DATASETS: dict[str, Recipe] = {
    "criteo_kaggle": criteo.KAGGLE,
    "criteo_1tb": criteo.ONE_TERABYTE,
    "avazu": avazu.AVAZU,
    "movielens_1m": movielens.MOVIELENS_1M,
    "criteo_x4_001": criteo.X4_001,
    "criteo_x4_002": criteo.X4_002,
    "avazu_x4_001": avazu.X4_001,
    "avazu_x4_002": avazu.X4_002,
    "movielens_1m_history": movielens.MOVIELENS_1M_HISTORY,
    "taobao": taobao.TAOBAO,
    "amazon_reviews": amazon.AMAZON_REVIEWS,
    "amazon_lists": amazon.AMAZON_LISTS,
    "amazon_electronics_din": amazon.AMAZON_ELECTRONICS_DIN,
    "taobao_dare": taobao.TAOBAO_DARE,
    "tmall_dare": taobao.TMALL_DARE,
}

SOURCES: dict[str, Source] = {
    "table": TableSource(),
    "avazu": avazu.AvazuSource(),
    "movielens_1m": movielens.MovieLensSource(),
    "amazon_reviews": amazon.AmazonReviewsSource(),
    "item_lists": amazon.ItemListsSource(),
}


def find_recipe(name_or_recipe: str) -> Recipe:
    """A built-in data set's recipe, or the one in a YAML file."""
    if name_or_recipe in DATASETS:
        return DATASETS[name_or_recipe]
    if name_or_recipe.endswith((".yaml", ".yml")):
        return load_recipe(Path(name_or_recipe))
    raise RecsysError(
        f"there is no data set {name_or_recipe!r}",
        expected=f"{', '.join(DATASETS)}, or the path of a recipe (*.yaml)",
        fix=did_you_mean(name_or_recipe, DATASETS),
    )


def prepare(
    name_or_recipe: str,
    raw: Sequence[Path],
    out: Path,
    overrides: Sequence[str] = (),
    progress: Progress | None = None,
    overwrite: bool = False,
) -> Schema:
    """Prepares a data set: Parquet parts, vocabularies and schema.json in the new folder `out`.

    Args:
        name_or_recipe: one of DATASETS, or the path of a recipe in YAML.
        raw: the raw files, or folders of them.
        out: must not exist, be empty, or (with `overwrite`) be a data set.
        overrides: `key.sub=value` changes of the recipe, the values YAML.
        progress: called with (stage, rows done, rows in all or None).
        overwrite: replace the data set at `out` once the new one is whole.
    """
    recipe = override_recipe(find_recipe(name_or_recipe), overrides)
    report = progress or (lambda stage, done, total: None)
    return run_pipeline(
        recipe, open_source(recipe, raw), list(raw), Path(out).absolute(), report, overwrite
    )


def open_source(recipe: Recipe, raw: Sequence[Path], may_be_joined: bool = False) -> Source:
    """What reads the recipe's raw files, with the tables that it joins."""
    joined = joined_source(SOURCES[recipe.source], recipe, raw, may_be_joined)
    return timed_source(joined, recipe)


def read_raw(schema: Schema, raw: Sequence[Path]) -> Iterator[pl.DataFrame]:
    """The canonical raw columns of raw files, in chunks, before any transform or vocabulary.

    Labelled files also give `label` (int8; rows that the label's rule drops are left out). Of a
    data set made of an event log these are samples: `raw` is a log, whose samples are made again,
    or a table that holds them (a column for each feature, histories as text).
    """
    recipe = validate(Recipe, schema.recipe, f"the schema of {schema.name!r}")
    source = open_source(recipe, raw, may_be_joined=True)
    if recipe.events:
        yield from read_event_rows(schema, recipe, source, list(raw))
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
    """Whether the data set's raw files are Parquet."""
    return validate(Recipe, schema.recipe, schema.name).file.format == "parquet"


def check_leakage(dataset_dir: Path, raw: Sequence[Path] = (), max_events: int = 1 << 24) -> None:
    """Raises RecsysError where a data set holds what a model must not have seen (leakage.py).

    Without the raw log only the vocabularies can be checked. Of logs longer than `max_events`, the
    rows of a share of the users are looked at; an event takes 24 bytes.
    """
    schema = load_schema(dataset_dir)
    recipe = validate(Recipe, schema.recipe, str(dataset_dir))
    source = open_source(recipe, raw) if raw else SOURCES[recipe.source]
    check_dataset(schema, dataset_dir, source, raw, max_events)


class FrameEncoder:
    """Encodes canonical chunks as `prepare` did: load the vocabularies once, encode many."""

    def __init__(self, schema: Schema, dataset_dir: Path) -> None:
        self.recipe = validate(Recipe, schema.recipe, str(dataset_dir))
        self.encoders = load_encoders(schema.features, dataset_dir)

    def encode(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Ids int32, numbers float32, sequences list<int32>; `label`, `group_id` where known."""
        return encode_staged(self.encoders, stage_chunk(self.recipe, self.encoders, frame))


def encode(schema: Schema, dataset_dir: Path, frame: pl.DataFrame) -> pl.DataFrame:
    """`FrameEncoder(schema, dataset_dir).encode(frame)`, for one chunk."""
    return FrameEncoder(schema, dataset_dir).encode(frame)
