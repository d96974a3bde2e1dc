"""How often ids occur: from vocabularies where they say it, from the rows where they do not."""

import numpy as np
import pyarrow.parquet as pq

from recsys.data.statistics import count_ids
from tests.tiny_dataset import write_tiny_dataset


def test_counts_are_those_of_the_train_rows(tmp_path):
    schema = write_tiny_dataset(tmp_path)
    counts = count_ids(schema, tmp_path)
    rows = [pq.read_table(tmp_path / file.path) for file in schema.split("train").files]
    for name in ("color", "shop", "item"):
        ids = np.concatenate([table[name].to_numpy() for table in rows])
        expected = np.bincount(ids, minlength=len(counts[name]))
        assert counts[name][1:].tolist() == expected[1:].tolist()


def test_a_sequence_counts_each_of_its_occurrences(tmp_path):
    schema = write_tiny_dataset(tmp_path)
    counts = count_ids(schema, tmp_path)["history"]
    rows = [pq.read_table(tmp_path / file.path) for file in schema.split("train").files]
    behaviours = [item for table in rows for bag in table["history"].to_pylist() for item in bag]
    assert counts.sum() == len(behaviours)
    assert counts[7] == behaviours.count(7)
