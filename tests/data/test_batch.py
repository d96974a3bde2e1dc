"""Ids of our own, and records whose tensors move together."""

from dataclasses import dataclass

import torch

from recsys.compat.torchrec import KeyedJaggedTensor
from recsys.data.batch import Batch, Cursor, RowLookups
from recsys.data.jagged_ids import JaggedIds, KeyedIds
from recsys.data.tensor_record import TensorRecord
from recsys.embeddings.tables.torchrec_collection import keyed_jagged_tensor

LENGTHS = torch.tensor([1, 2, 0, 3, 0, 1], dtype=torch.int32)  # two keys, three rows
VALUES = torch.arange(7, dtype=torch.int32)


def ids(kind=JaggedIds):
    return kind(["a", "b"], VALUES, lengths=LENGTHS)


def test_ids_read_as_torchrecs_do():
    ours, theirs = ids(), ids(KeyedJaggedTensor)
    assert isinstance(ours, KeyedIds)
    assert isinstance(theirs, KeyedIds)
    assert ours.keys() == theirs.keys()
    assert ours.stride() == theirs.stride()
    assert ours.length_per_key() == theirs.length_per_key()
    assert ours.offset_per_key() == theirs.offset_per_key()
    for mine, other in ((ours, theirs), (ours["a"], theirs["a"]), (ours["b"], theirs["b"])):
        assert torch.equal(mine.values(), other.values())
        assert torch.equal(mine.lengths(), other.lengths())
        assert torch.equal(mine.offsets(), other.offsets())


def test_the_ids_of_a_key_are_views():
    ours = ids()
    assert ours["b"].values().data_ptr() == ours.values()[3:].data_ptr()


def test_torchrecs_tensor_is_made_without_a_copy_and_with_its_sizes():
    offsets = torch.tensor([0, 1, 3, 3, 6, 6, 7], dtype=torch.int32)
    given = JaggedIds(["a", "b"], VALUES, LENGTHS, offsets)
    made = keyed_jagged_tensor(given)
    for ours, theirs in (
        (given.values(), made.values()),
        (given.lengths(), made.lengths()),
        (offsets, made.offsets_or_none()),
    ):
        assert ours.data_ptr() == theirs.data_ptr()
    assert made.length_per_key_or_none() == [3, 4]
    assert made.offset_per_key_or_none() == [0, 3, 7]
    assert keyed_jagged_tensor(made) is made
    assert keyed_jagged_tensor(ids()).offsets_or_none() is None  # torchrec computes them if asked


def test_ids_without_keys_or_rows_are_empty():
    none = JaggedIds([], VALUES[:0], LENGTHS[:0], stride=0)
    assert none.keys() == none.length_per_key() == []
    assert none.offsets().tolist() == [0]
    empty = JaggedIds(["a"], VALUES[:0], LENGTHS[:0], stride=0)
    assert empty.length_per_key() == [0]
    assert empty["a"].values().numel() == 0


@dataclass(frozen=True)
class Moved(TensorRecord):
    tensor: torch.Tensor
    ids: JaggedIds
    keyed: KeyedJaggedTensor
    named: dict[str, RowLookups]
    absent: torch.Tensor | None = None
    count: int = 7


def test_every_tensor_of_a_record_moves_once_and_the_rest_stays():
    record = Moved(
        torch.ones(2), ids(), ids(KeyedJaggedTensor).sync(), {"x": RowLookups(ids(), LENGTHS)}
    )
    moved = record.to(torch.device("meta"))
    lookups = moved.named["x"]
    for tensor in (moved.tensor, lookups.lengths):
        assert tensor.is_meta
    for rows in (moved.ids, moved.keyed, lookups.rows):
        assert rows.values().is_meta
        assert rows.lengths().is_meta
        assert rows.length_per_key() == [3, 4]
    assert (moved.absent, moved.count) == (None, 7)
    assert type(moved) is Moved
    assert not record.tensor.is_meta


def test_streams_are_told_of_every_tensor(monkeypatch):
    told = []
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: told.append(tensor))
    batch = Batch(
        torch.ones(3, 1),
        ids(),
        torch.ones(3),
        Cursor(0, 0),
        3,
        None,
        {"x": RowLookups(ids(), LENGTHS)},
    )
    batch.record_stream(object())
    assert len(told) == 7  # dense, labels, lengths, and values and lengths of two sets of ids
