"""Statistics of a dataset: counts of ids, lengths of sequences, read from its files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import torch
from torch import Tensor

from recsys.data.readable import readable
from recsys.errors import RecsysError
from recsys.io.paths import file_inside
from recsys.schema import Feature, Schema, VocabularyEncoding


def count_ids(schema: Schema, dataset_dir: Path) -> dict[str, Tensor]:
    """Occurrences of each id, (V,) by sparse feature.

    A vocabulary of one categorical feature says so itself; for sequences, hashed features and
    shared vocabularies the train rows are read once.
    """
    files = [f.encoding.file for f in schema.sparse if isinstance(f.encoding, VocabularyEncoding)]
    known = [
        feature
        for feature in schema.of_kind("categorical")
        if isinstance(feature.encoding, VocabularyEncoding)
        and files.count(feature.encoding.file) == 1
    ]
    counts = {feature.name: _from_vocabulary(feature, schema, dataset_dir) for feature in known}
    others = [feature for feature in schema.sparse if feature.name not in counts]
    return counts | (_from_rows(others, schema, dataset_dir) if others else {})


def _from_vocabulary(feature: Feature, schema: Schema, dataset_dir: Path) -> Tensor:
    table = read_vocabulary(dataset_dir, feature)
    total = torch.zeros(feature.num_ids)
    total[torch.from_numpy(table["id"].to_numpy().astype("int64"))] = torch.from_numpy(
        table["count"].to_numpy().astype("float32")
    )
    # Id 0 stands for every other occurrence in the train rows.
    total[0] = max(schema.split("train").rows - float(total.sum()), 1.0)
    return total


def _from_rows(features: Sequence[Feature], schema: Schema, dataset_dir: Path) -> dict[str, Tensor]:
    for feature in features:
        if isinstance(feature.encoding, VocabularyEncoding):
            read_vocabulary(dataset_dir, feature)  # refuses one of other ids
    names = [feature.name for feature in features]
    counts = {feature.name: np.zeros(feature.num_ids, np.int64) for feature in features}
    for file in schema.split("train").files:
        path = dataset_dir / file.path
        with readable(path):
            path = file_inside(dataset_dir, file.path)
        with readable(path), pq.ParquetFile(path) as parquet:
            for batch in parquet.iter_batches(columns=names):
                for feature in features:
                    column = batch.column(feature.name)
                    ids = column.flatten() if feature.kind == "sequence" else column
                    found = np.bincount(ids.to_numpy(), minlength=feature.num_ids)
                    counts[feature.name] += found[: feature.num_ids]
    return {name: torch.from_numpy(total).float() for name, total in counts.items()}


def mean_lengths(schema: Schema, dataset_dir: Path) -> dict[str, float]:
    """Ids that a train row has, by sequence feature; nothing for files that are not there.

    From the files' footers: a row without any counts as one id.
    """
    names = {feature.name for feature in schema.of_kind("sequence")}
    counts = dict.fromkeys(names, 0)
    rows = 0
    for file in schema.split("train").files if names else ():
        path = dataset_dir / file.path
        if not path.exists():
            return {}
        with readable(path):
            footer = pq.read_metadata(file_inside(dataset_dir, file.path))
        rows += footer.num_rows
        for group in range(footer.num_row_groups):
            for number in range(footer.num_columns):
                column = footer.row_group(group).column(number)
                name = column.path_in_schema.split(".")[0]
                if name in names:
                    counts[name] += column.num_values
    return {name: count / rows for name, count in counts.items() if rows}


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
            f"the vocabulary of {feature.name!r} does not belong to this dataset",
            where=path,
            expected=f"the ids 1 to {values}, once each",
            got=f"{len(table)} ids, {extremes[0]!r} to {extremes[1]!r}",
            fix="prepare the dataset again",
        )
    return table
