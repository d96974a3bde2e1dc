import itertools

from recsys.data.batch import Cursor
from recsys.data.config import DataConfig
from recsys.data.loader import BatchLoader
from recsys.schema import load_schema
from recsys.training.lightning.resumable_loader import EpochStream


def build_stream(dataset) -> EpochStream:
    config = DataConfig(path=dataset, global_batch_size=100)
    loader = BatchLoader(dataset, load_schema(dataset), "train", config, seed=0, shuffle=True)
    return EpochStream(loader)


def test_each_iteration_is_the_next_epoch_even_when_nobody_asks_past_its_last_batch(tiny_dataset):
    stream = build_stream(tiny_dataset)
    epochs = [list(itertools.islice(stream, len(stream))) for _ in range(3)]
    assert [batch.cursor for batch in epochs[2]] == [Cursor(2, k) for k in range(6)]
    items = [[batch.sparse["item"].values().tolist() for batch in epoch] for epoch in epochs]
    assert items[0] != items[1]


def test_continuing_starts_with_the_batch_after_the_trained_one(tiny_dataset):
    stream = build_stream(tiny_dataset)
    stream.continue_after(Cursor(1, 3))
    assert [batch.cursor for batch in stream] == [Cursor(1, 4), Cursor(1, 5)]
    assert next(iter(stream)).cursor == Cursor(2, 0)


def test_continuing_after_the_last_batch_starts_the_next_epoch(tiny_dataset):
    stream = build_stream(tiny_dataset)
    stream.continue_after(Cursor(0, 5))
    assert next(iter(stream)).cursor == Cursor(1, 0)
