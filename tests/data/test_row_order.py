"""Which rows a batch holds, over random layouts; every row carries its number as an id."""

import tempfile
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.data.batch import Cursor
from recsys.data.config import DataConfig
from recsys.data.loader import BatchLoader
from recsys.errors import RecsysError
from recsys.schema import Feature
from tests.tiny_dataset import write_dataset


def numbered_dataset(folder: Path, file_rows: list[int], row_group_rows: int):
    """Row i has id i, the list [i] * (i % 3), the number i, and group i."""
    bounds = [0, *np.cumsum(file_rows).tolist()]
    cardinality = bounds[-1] + 1
    features = [
        Feature(name="list", kind="sequence", column="list", cardinality=cardinality),
        Feature(name="id", kind="categorical", column="id", cardinality=cardinality),
        Feature(name="number", kind="numerical", column="number"),
    ]
    tables = [numbered_rows(np.arange(start, stop)) for start, stop in pairwise(bounds)]
    return write_dataset(folder, features, {"train": tables}, row_group_rows, group="group")


def numbered_rows(rows: np.ndarray) -> pa.Table:
    offsets = np.concatenate([[0], np.cumsum(rows % 3)]).astype(np.int32)
    return pa.table(
        {
            "id": rows.astype(np.int32),
            "number": rows.astype(np.float32),
            "label": (rows % 2).astype(np.int8),
            "list": pa.ListArray.from_arrays(offsets, np.repeat(rows, rows % 3).astype(np.int32)),
            "group": rows.astype(np.int64),
        }
    )


def rows_of(batch) -> list[int]:
    """The numbers of the batch's rows, the same in every column."""
    rows = batch.sparse["id"].values().numpy()
    assert batch.dense.shape == (len(rows), 1)
    np.testing.assert_array_equal(batch.dense[:, 0], rows)
    np.testing.assert_array_equal(batch.labels, rows % 2)
    np.testing.assert_array_equal(batch.group_ids, rows)
    np.testing.assert_array_equal(batch.sparse["list"].lengths(), rows % 3)
    np.testing.assert_array_equal(batch.sparse["list"].values(), np.repeat(rows, rows % 3))
    return rows.tolist()


layouts = st.fixed_dictionaries(
    {
        "file_rows": st.lists(st.integers(0, 40), min_size=1, max_size=4).filter(sum),
        "row_group_rows": st.integers(1, 20),
        "global_batch_size": st.integers(1, 50),
        "num_shards": st.integers(1, 9),
        "shuffle_rows": st.integers(1, 150),
        "num_workers": st.integers(1, 3),
        "prefetch_batches": st.integers(1, 4),
        "ranks": st.integers(1, 9),
        "seed": st.integers(0, 3),
        "epoch": st.integers(0, 3),
        "resume_at": st.floats(0, 1),
        "shuffle": st.booleans(),
    }
)


@settings(max_examples=100, deadline=None)
@given(layouts)
def test_any_layout_gives_every_row_once_in_batches_that_ranks_and_workers_cannot_change(layout):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        schema = numbered_dataset(folder, layout["file_rows"], layout["row_group_rows"])
        fields = {key: layout[key] for key in DataConfig.model_fields if key in layout}
        config = DataConfig(path=folder, **fields)
        one_thread = config.model_copy(update={"num_workers": 1, "prefetch_batches": 1})
        ranks = min(layout["ranks"], layout["num_shards"])

        def batches(config, rank=0, world_size=1, first=0):
            loader = BatchLoader(
                folder, schema, "train", config,
                seed=layout["seed"], shuffle=layout["shuffle"], rank=rank, world_size=world_size,
            )  # fmt: skip
            loader.start_at(Cursor(layout["epoch"], first))
            return list(loader)

        alone = batches(one_thread)
        whole = [rows_of(batch) for batch in alone]
        total, size = sum(layout["file_rows"]), layout["global_batch_size"]
        assert sorted(chain(*whole)) == list(range(total))
        assert [len(rows) for rows in whole] == [
            min(size, total - start) for start in range(0, total, size)
        ]
        assert [batch.cursor for batch in alone] == [
            (layout["epoch"], k) for k in range(len(whole))
        ]
        if not layout["shuffle"]:
            assert list(chain(*whole)) == list(range(total))

        by_rank = [
            [rows_of(batch) for batch in batches(config, rank, ranks)] for rank in range(ranks)
        ]
        # The ranks' shares laid end to end are the global batch.
        assert [list(chain(*shares)) for shares in zip(*by_rank, strict=True)] == whole

        first = int(layout["resume_at"] * len(whole))
        assert [rows_of(batch) for batch in batches(config, first=first)] == whole[first:]


@pytest.fixture
def shuffled(tmp_path):
    """1,000 rows in row groups of 50, 4 shards, windows of 100 rows."""
    schema = numbered_dataset(tmp_path, [500, 500], row_group_rows=50)
    config = DataConfig(path=tmp_path, global_batch_size=40, num_shards=4, shuffle_rows=400)

    def load(epoch=0, seed=0, **options):
        loader = BatchLoader(tmp_path, schema, "train", config, seed=seed, shuffle=True, **options)
        loader.set_epoch(epoch)
        return [rows_of(batch) for batch in loader]

    return load


def test_epochs_and_seeds_differ_and_each_repeats(shuffled):
    assert shuffled(epoch=1) == shuffled(epoch=1)
    assert shuffled(epoch=1) != shuffled(epoch=2)
    assert shuffled(seed=1) != shuffled(seed=2)
    assert set(shuffled(epoch=1)[0]) != set(shuffled(epoch=2)[0])


def test_a_batch_mixes_rows_of_many_row_groups(shuffled):
    groups_per_batch = [len({row // 50 for row in rows}) for rows in shuffled()]
    # 4 shards, and at least two row groups in each window.
    assert min(groups_per_batch) == 8
    neighbours = [b - a == 1 for rows in shuffled() for a, b in pairwise(rows)]
    assert np.mean(neighbours) < 0.05


def test_a_rank_reads_only_its_own_part_of_the_files(shuffled):
    assert set(chain(*shuffled(rank=1, world_size=4))) == set(range(250, 500))


def test_ranks_with_an_empty_share_of_the_last_batch_still_get_a_batch(tmp_path):
    schema = numbered_dataset(tmp_path, [9], row_group_rows=4)
    config = DataConfig(path=tmp_path, global_batch_size=8, num_shards=4)
    last = [
        list(BatchLoader(
            tmp_path, schema, "train", config, seed=0, shuffle=True, rank=rank, world_size=4
        ))[-1]
        for rank in range(4)
    ]  # fmt: skip
    assert sorted(len(batch) for batch in last) == [0, 0, 0, 1]
    empty = min(last, key=len)
    assert empty.sparse.stride() == 0
    assert empty.sparse["id"].values().numel() == 0
    assert empty.sparse.length_per_key() == [0, 0]
    assert empty.dense.shape == (0, 1)


def test_more_ranks_than_shards_is_an_error(shuffled):
    with pytest.raises(RecsysError, match=r"raise data\.num_shards to 5"):
        shuffled(rank=0, world_size=5)
