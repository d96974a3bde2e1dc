"""The vocabularies of a prepared data set, checked as they are read."""

from pathlib import Path

import polars as pl

from recsys.data.readable import readable
from recsys.errors import RecsysError
from recsys.io.paths import file_inside
from recsys.schema import Feature, VocabularyEncoding


def read_vocabulary(dataset_dir: Path, feature: Feature) -> pl.DataFrame:
    """`id` and `count` of every value of a feature; raises RecsysError for another file's ids."""
    if not isinstance(feature.encoding, VocabularyEncoding):
        raise ValueError(f"{feature.name} has no vocabulary")
    path = dataset_dir / feature.encoding.file
    with readable(path):
        path = file_inside(dataset_dir, feature.encoding.file)
        table = pl.read_parquet(path, columns=["id", "count"], glob=False)
    values = feature.num_ids - 1
    extremes = (table["id"].min(), table["id"].max())
    if len(table) != values or (values and extremes != (1, values)):
        raise RecsysError(
            f"the vocabulary of {feature.name!r} does not belong to this data set",
            where=path,
            expected=f"the ids 1 to {values}, once each",
            got=f"{len(table)} ids, {extremes[0]!r} to {extremes[1]!r}",
            fix="prepare the data set again",
        )
    return table
