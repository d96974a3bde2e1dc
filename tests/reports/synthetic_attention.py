"""A data set with histories, and the sample of attention that evaluation would leave of it."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.schema import DataFile, Feature, Split, VocabularyEncoding
from tests.metrics.histories import make_histories
from tests.reports.synthetic_run import make_schema

NUM_IDS, MAX_LENGTH = 5, 8
SAMPLED_ROWS = 400


def lists_of(values, lengths):
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, pa.array(values))


def history_schema(rows):
    """The schema of two_cities with a target, its history, and one file of train rows."""
    encoding = VocabularyEncoding(file="vocabularies/city.parquet")
    common = {"encoding": encoding, "cardinality": NUM_IDS}
    schema = make_schema()
    features = (
        *schema.features,
        Feature(name="visit", kind="categorical", column="visit", **common),
        Feature(name="visits", kind="sequence", column="visits", **common),
    )
    file = DataFile(path="train/part-00000.parquet", rows=rows, sha256="0")
    splits = {"train": Split(rows=rows, positives=1, files=(file,))}
    return schema.model_copy(update={"features": features, "splits": splits})


def write_history_data(dataset_dir, behaviors):
    (dataset_dir / "train").mkdir(parents=True)
    table = pa.table(
        {
            "visit": behaviors.targets.astype(np.int32),
            "visits": lists_of(behaviors.ids.astype(np.int32), behaviors.lengths),
            "clicked": behaviors.labels.astype(np.int8),
        }
    )
    pq.write_table(table, dataset_dir / "train" / "part-00000.parquet", row_group_size=700)


def sample_of(behaviors, weights, k=3):
    """The first rows, as evaluation keeps them."""
    rows = min(SAMPLED_ROWS, len(behaviors.targets))
    end = behaviors.ends[rows - 1]
    ranks = behaviors.top_ranks(weights, k)[:rows].astype(np.int32)
    retrieved = pa.FixedSizeListArray.from_arrays(pa.array(ranks.ravel()), k)
    lengths = behaviors.lengths[:rows]
    return pa.table(
        {
            "weights": lists_of(weights[:end].astype(np.float32), lengths),
            "retrieved": retrieved,
            "retrieved_by_feature": retrieved,
            "label": behaviors.labels[:rows].astype(np.int8),
            "target_id": behaviors.targets[:rows].astype(np.int32),
            "history_ids": lists_of(behaviors.ids[:end].astype(np.int32), lengths),
            "target": pa.array(["visit"] * rows).dictionary_encode(),
            "history": pa.array(["visits"] * rows).dictionary_encode(),
        }
    )


def write_attention(run_dir, dataset_dir, rows=6000):
    """A run whose model gives all weight to behaviors of the target's own value, 1 ÷ rank."""
    behaviors = make_histories(rows, NUM_IDS, MAX_LENGTH, seed=7)
    own = behaviors.ids == behaviors.targets[behaviors.rows]
    weights = np.where(own, 1.0, 0.1) / behaviors.ranks
    write_history_data(dataset_dir, behaviors)
    (run_dir / "schema.json").write_text(history_schema(rows).model_dump_json())
    (run_dir / "attention").mkdir()
    sample = sample_of(behaviors, weights)
    pq.write_table(sample, run_dir / "attention" / "test.parquet")
    return behaviors, weights
