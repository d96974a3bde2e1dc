"""How often each id occurs in the train rows."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor

from recsys.data.readable import readable
from recsys.data.vocabularies import read_vocabulary
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
