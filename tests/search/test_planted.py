"""Searches find what was planted: ids without meaning lose their rows, the others keep theirs."""

import numpy as np
import pyarrow as pa
import pytest

from recsys.embeddings.allocation import load_allocation
from recsys.schema import Feature, VocabularyEncoding
from recsys.search.search import search
from tests.search.test_search import config_of
from tests.tiny_dataset import write_dataset, write_vocabulary

pytestmark = pytest.mark.slow

ROWS = {"train": 12_000, "valid": 4_000, "test": 100}
# the label depends on `useful`, and on the first 20 ids of `head`
CARDINALITIES = {"useful": 20, "head": 200, "useless": 400}
SECTIONS = {
    "optembed": [
        "embeddings.default.method=optembed",
        "search={name: optembed, generations: 3, regularizer: 0.03, budget_share: 0.5}",
        "search.threshold_learning_rate=0.1",
    ],
    "dnis": [
        "embeddings.default={method: dnis, embedding_dim: 8, bands: [0.1, 0.9]}",
        "search={name: dnis, budget_share: 0.5, tolerance: 0.002, warm_up_steps: 90}",
    ],
}
TRAINING = [
    "data.global_batch_size=256",
    "train.epochs=6",
    "train.checkpoint_every_steps=null",
    "train.embedding_optimizer={name: rowwise_adagrad, learning_rate: 0.1, eps: 1.0e-3, l2: 0.002}",
]


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted") / "data"
    rng = np.random.default_rng(0)
    weights = {"useful": rng.normal(0, 1.5, 20), "head": rng.normal(0, 1.5, 200)}
    weights["head"][20:] = 0.0
    tables = {split: draw(rng, rows, weights) for split, rows in ROWS.items()}
    features = []
    for name, cardinality in CARDINALITIES.items():
        write_vocabulary(folder, name, cardinality, tables["train"][name].to_numpy())
        encoding = VocabularyEncoding(file=f"vocabularies/{name}.parquet")
        features.append(
            Feature(
                name=name,
                kind="categorical",
                column=name,
                encoding=encoding,
                cardinality=cardinality,
            )
        )
    write_dataset(folder, features, {s: [t] for s, t in tables.items()}, row_group_rows=1000)
    return folder


def draw(rng, rows, weights) -> pa.Table:
    ids = {
        name: (np.exp(rng.random(rows) * np.log(size + 1)) - 1).astype(np.int32)
        for name, size in CARDINALITIES.items()
    }
    logits = sum(weights[name][ids[name]] for name in weights)
    label = (rng.random(rows) < 1 / (1 + np.exp(-logits))).astype(np.int8)
    return pa.table({**ids, "label": label})


@pytest.mark.parametrize("name", SECTIONS)
def test_what_has_no_meaning_is_dropped_and_what_has_some_is_kept(planted, tmp_path, name):
    config = config_of(planted, *TRAINING, *SECTIONS[name])
    allocation, _ = load_allocation(search(config, tmp_path / "search"))
    features = allocation.features
    assert features["useless"].bytes <= 0.05 * features["useless"].full_bytes
    assert features["head"].bytes <= 0.3 * features["head"].full_bytes
    assert features["useful"].kept_rows >= 15
    assert features["head"].kept_rows >= 15
    assert allocation.chosen.auc >= allocation.supernet.auc - 0.003
