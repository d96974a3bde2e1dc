import threading
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from recsys.compat.torchrec import KeyedJaggedTensor
from recsys.data.batch import Cursor
from recsys.data.config import DataConfig
from recsys.data.jagged_ids import JaggedIds
from recsys.data.loader import BatchLoader
from recsys.errors import RecsysError
from recsys.schema import load_schema


@pytest.fixture
def open_loader(tiny_dataset):
    def open_loader(split="train", shuffle=False, size=64, threads=2, **options):
        config = DataConfig(
            path=tiny_dataset, global_batch_size=size, num_workers=threads, prefetch_batches=2
        )
        schema = load_schema(tiny_dataset)
        return BatchLoader(tiny_dataset, schema, split, config, seed=0, shuffle=shuffle, **options)

    return open_loader


def read(folder, column):
    table = pq.read_table([folder / f"train/part-{i:05d}.parquet" for i in range(2)])
    return table[column].to_pylist()


@pytest.fixture
def loading_threads():
    """Names of the loader's threads that a test has started and that are still alive."""
    before = set(threading.enumerate())  # other tests may hold an iterator still

    def names() -> list[str]:
        started = (thread.name for thread in set(threading.enumerate()) - before)
        return [name for name in started if name.startswith("batch-loader")]

    return names


def test_a_batch_has_the_files_values_in_the_shapes_of_its_docstring(open_loader, tiny_dataset):
    batch = next(iter(open_loader(size=100)))
    assert batch.dense.dtype == torch.float32
    assert batch.dense[:, 0].tolist() == read(tiny_dataset, "price")[:100]
    assert batch.dense[:, 1].tolist() == read(tiny_dataset, "age")[:100]
    assert batch.labels.dtype == torch.float32
    assert batch.labels.tolist() == read(tiny_dataset, "label")[:100]
    assert batch.group_ids.dtype == torch.int64
    assert batch.group_ids.tolist() == read(tiny_dataset, "user")[:100]
    assert batch.sparse.keys() == ["color", "shop", "history", "item"]
    assert batch.sparse.values().dtype == torch.int32
    for name in ("color", "shop", "item"):
        assert batch.sparse[name].values().tolist() == read(tiny_dataset, name)[:100]
    history = batch.sparse["history"]
    lists = [ids.tolist() for ids in history.values().split(history.lengths().tolist())]
    assert lists == read(tiny_dataset, "history")[:100]


@pytest.mark.parametrize("kind", [JaggedIds, KeyedJaggedTensor])
def test_sizes_that_the_assembler_gives_are_those_that_follow_from_the_lengths(open_loader, kind):
    given = next(iter(open_loader())).sparse
    computed = kind(given.keys(), given.values(), lengths=given.lengths())
    assert given.stride() == computed.stride()
    assert given.length_per_key() == computed.length_per_key()
    assert given.offset_per_key() == computed.offset_per_key()
    assert torch.equal(given.offsets(), computed.offsets())


def test_an_epoch_keeps_its_length_and_the_start_of_a_resume(open_loader):
    loader = open_loader(shuffle=True)
    assert len(loader) == 10
    loader.start_at(Cursor(epoch=2, batch=7))
    assert [batch.cursor for batch in loader] == [(2, 7), (2, 8), (2, 9)]
    loader.set_epoch(2)
    assert next(iter(loader)).cursor == (2, 7)
    loader.set_epoch(3)
    assert next(iter(loader)).cursor == (3, 0)
    loader.start_at(Cursor(epoch=3, batch=10))
    assert list(loader) == []


def test_the_transform_runs_in_the_threads_of_the_loader(open_loader):
    names = set()

    def count_from_one(batch):
        names.add(threading.current_thread().name)
        return replace(batch, labels=batch.labels + 1)

    labels = torch.cat([batch.labels for batch in open_loader(transform=count_from_one)])
    assert set(labels.tolist()) == {1.0, 2.0}
    assert all(name.startswith("batch-loader") for name in names)


def test_an_error_in_a_thread_reaches_the_consumer_unchanged_and_in_order(
    open_loader, loading_threads
):
    error = RecsysError("the transform does not like this batch")

    def refuse_the_fourth(batch):
        if batch.cursor.batch == 3:
            raise error
        return batch

    batches = iter(open_loader(transform=refuse_the_fourth))
    assert [next(batches).cursor.batch for _ in range(3)] == [0, 1, 2]
    with pytest.raises(RecsysError) as raised:
        next(batches)
    assert raised.value is error
    assert loading_threads() == []


def test_leaving_the_loop_early_leaves_no_thread_behind(open_loader, loading_threads):
    for batch in open_loader(size=8, threads=3):
        assert loading_threads()
        if batch.cursor.batch == 2:
            break
    assert loading_threads() == []


def test_batches_are_not_changed_by_those_that_follow(open_loader):
    batches = list(open_loader(shuffle=True))
    again = list(open_loader(shuffle=True))
    for first, second in zip(batches, again, strict=True):
        assert torch.equal(first.dense, second.dense)
        assert torch.equal(first.sparse.values(), second.sparse.values())


def test_a_split_that_fits_in_the_shuffle_memory_is_decoded_once(open_loader, monkeypatch):
    loader = open_loader(shuffle=True)
    decoded = []
    read_group = loader.reader.row_groups.read

    def count_and_read(number):
        decoded.append(number)
        return read_group(number)

    monkeypatch.setattr(loader.reader.row_groups, "read", count_and_read)
    for epoch in range(3):
        loader.set_epoch(epoch)
        list(loader)
    # Two files of 300 rows in row groups of 64.
    assert sorted(decoded) == list(range(10))


def test_evaluation_ranks_put_end_to_end_give_the_files_order(open_loader, tiny_dataset):
    by_rank = [list(open_loader(size=70, rank=rank, world_size=3)) for rank in range(3)]
    users = [batch.group_ids for shares in zip(*by_rank, strict=True) for batch in shares]
    np.testing.assert_array_equal(torch.cat(users), read(tiny_dataset, "user"))
