"""Tables on disk: any sharding reads what any other wrote, and nothing on disk is believed."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing
from torch.distributed._shard.sharded_tensor import (
    Shard,
    ShardedTensor,
    ShardedTensorMetadata,
    ShardMetadata,
    init_from_local_shards,
)

from recsys.errors import RecsysError
from recsys.training.checkpoint import table_reader, table_storage
from recsys.training.checkpoint.table_storage import load_tables, save_tables

ROWS, COLUMNS = 7, 8
WHOLE = {
    "C1/weight": torch.arange(56.0).reshape(ROWS, COLUMNS),
    "C1/momentum1": torch.tensor([0.5, float("nan"), -0.0, 1e-45, 2.0, 3.0, float("inf")]),
    "C2/weight": torch.arange(12, dtype=torch.bfloat16).reshape(3, 4) / 7,
    "step": torch.tensor(11),
}


def empty_like(state):
    return {name: torch.full_like(tensor, 99) for name, tensor in state.items()}


def bits(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8).tolist()


def assert_equals_whole(state):
    assert {n: bits(t) for n, t in state.items()} == {n: bits(t) for n, t in WHOLE.items()}


@pytest.fixture
def folder(tmp_path):
    save_tables(WHOLE, tmp_path / "tables", None)
    return tmp_path / "tables"


def change_layout(folder, change):
    path = folder / "layout.json"
    layout = json.loads(path.read_text())
    change(layout["tensors"])
    path.write_text(json.dumps(layout))


def test_tensors_come_back_bit_for_bit_into_the_same_memory(folder):
    live = empty_like(WHOLE)
    addresses = [tensor.data_ptr() for tensor in live.values()]
    load_tables(folder, live, None)
    assert_equals_whole(live)
    assert [tensor.data_ptr() for tensor in live.values()] == addresses


def test_only_the_files_that_the_format_names_are_written(folder):
    assert sorted(path.name for path in folder.iterdir()) == [
        "layout.json",
        "rank-00000.safetensors",
    ]


def test_parameters_and_padded_views_are_saved_and_filled_in_place(tmp_path):
    wide = torch.nn.Parameter(torch.arange(12.0).reshape(3, 4))
    save_tables({"C1/weight": wide.data[:, :3]}, tmp_path, None)
    live = torch.nn.Parameter(torch.zeros(3, 4))
    load_tables(tmp_path, {"C1/weight": live.data[:, :3]}, None)
    assert live.tolist() == [[0, 1, 2, 0], [4, 5, 6, 0], [8, 9, 10, 0]]


def test_large_pieces_are_read_some_rows_at_a_time(folder, monkeypatch):
    monkeypatch.setattr(table_reader, "READ_BYTES", 2 * COLUMNS * 4)
    live = empty_like(WHOLE)
    load_tables(folder, live, None)
    assert_equals_whole(live)


def test_a_table_that_the_checkpoint_lacks_is_named(folder):
    live = {**empty_like(WHOLE), "C9/weight": torch.zeros(2, 2)}
    with pytest.raises(RecsysError, match="has no C9/weight"):
        load_tables(folder, live, None)


def test_a_table_that_the_config_lacks_is_named_unless_a_part_is_asked_for(folder):
    live = empty_like({"C1/weight": WHOLE["C1/weight"]})
    with pytest.raises(RecsysError, match="holds C1/momentum1, which this config does not have"):
        load_tables(folder, live, None)
    load_tables(folder, live, None, all_of_it=False)
    assert torch.equal(live["C1/weight"], WHOLE["C1/weight"])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (torch.zeros(9, COLUMNS), r"C1/weight(.|\n)*\(9, 8\)(.|\n)*\(7, 8\)"),
        (torch.zeros(ROWS, COLUMNS, dtype=torch.float64), r"float64(.|\n)*float32"),
    ],
)
def test_another_shape_or_dtype_is_refused(folder, other, message):
    with pytest.raises(RecsysError, match=message):
        load_tables(folder, {**empty_like(WHOLE), "C1/weight": other}, None)


def test_accumulators_of_another_number_of_column_shards_say_what_to_do(folder):
    live = {**empty_like(WHOLE), "C1/momentum1": torch.zeros(2 * ROWS)}
    with pytest.raises(RecsysError, match=r"C1/momentum1(.|\n)*fix:.*column_wise"):
        load_tables(folder, live, None)


def test_a_missing_file_is_named(folder):
    (folder / "rank-00000.safetensors").unlink()
    with pytest.raises(RecsysError, match=r"rank-00000\.safetensors is missing"):
        load_tables(folder, empty_like(WHOLE), None)


def test_a_cut_file_is_refused(folder):
    path = folder / "rank-00000.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RecsysError, match="damaged"):
        load_tables(folder, empty_like(WHOLE), None)


HOSTILE = {
    "a file above the folder": lambda t: t["C1/weight"]["chunks"][0].update(file="../x"),
    "an absolute file": lambda t: t["C1/weight"]["chunks"][0].update(file="/etc/passwd"),
    "a file beside": lambda t: t["C1/weight"]["chunks"][0].update(file="rank-00000.safetensors/x"),
    "a line's end after the name": lambda t: t["C1/weight"]["chunks"][0].update(
        file="rank-00000.safetensors\n"
    ),
    "a negative offset": lambda t: t["C1/weight"]["chunks"][0].update(offsets=[-1, 0]),
    "an offset beyond": lambda t: t["C1/weight"]["chunks"][0].update(offsets=[1, 0]),
    "too few dimensions": lambda t: t["C1/weight"]["chunks"][0].update(sizes=[56]),
    "a huge size": lambda t: t["C1/weight"].update(size=[2**62, 2**62]),
    "a truth value for a size": lambda t: t["C1/weight"].update(size=[True, 56]),
    "no chunks": lambda t: t["C1/weight"].update(chunks=[]),
    "half a tensor": lambda t: t["C1/weight"]["chunks"][0].update(sizes=[3, 8]),
    "a dtype that is a function": lambda t: t["C1/weight"].update(dtype="save"),
    "a key that is not there": lambda t: t["C1/weight"]["chunks"][0].update(key="other"),
    "another tensor's key": lambda t: t["C1/weight"]["chunks"][0].update(key="C2/weight@0,0"),
    "more keys": lambda t: t["C1/weight"].update(code="print()"),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_layout_is_refused(folder, change):
    change_layout(folder, change)
    live = empty_like(WHOLE)
    with pytest.raises(RecsysError):
        load_tables(folder, live, None)


@pytest.mark.parametrize("text", ["", "[]", "{}", "\xff", "[" * 100_000, '{"tensors": 1}', "NaN"])
def test_a_layout_that_is_none_is_refused(folder, text):
    (folder / "layout.json").write_text(text, encoding="latin-1")
    with pytest.raises(RecsysError):
        load_tables(folder, empty_like(WHOLE), None)


def test_a_link_out_of_the_folder_is_not_followed(folder, tmp_path):
    (folder / "rank-00000.safetensors").rename(tmp_path / "elsewhere")
    (folder / "rank-00000.safetensors").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RecsysError, match="missing"):
        load_tables(folder, empty_like(WHOLE), None)


@pytest.mark.parametrize("name", ["rank-00000.safetensors", "layout.json", ".metadata"])
def test_a_pickle_in_the_folder_runs_no_code(folder, tmp_path, name):
    class Hostile:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    (folder / name).write_bytes(pickle.dumps(Hostile()))
    if name == ".metadata":
        load_tables(folder, empty_like(WHOLE), None)
    else:
        with pytest.raises(RecsysError, match="damaged"):
            load_tables(folder, empty_like(WHOLE), None)
    assert not (tmp_path / "ran").exists()


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(table_storage, "save_file", fail)
    with pytest.raises(RecsysError, match="No space left on device"):
        save_tables(WHOLE, tmp_path, None)


# -- several ranks ------------------------------------------------------------------------------

# By layout: the boxes (first row, first column, rows, columns) of C1 that each of two ranks holds.
LAYOUTS = {
    "row_wise": [[(0, 0, 4, 8)], [(4, 0, 3, 8)]],
    "column_wise, two shards on one rank": [[(0, 0, 7, 4), (0, 6, 7, 2)], [(0, 4, 7, 2)]],
    "table_wise": [[], [(0, 0, 7, 8)]],
}


def sharded(whole, boxes, rank):
    """C1's weight in shards, filled from `whole` (7, 8); the others are whole on every rank."""
    shards = [
        Shard(
            whole["C1/weight"][r : r + rows, c : c + columns].clone(),
            ShardMetadata([r, c], [rows, columns], f"rank:{rank}/cpu"),
        )
        for r, c, rows, columns in boxes[rank]
    ]
    weight = init_from_local_shards(shards, ROWS, COLUMNS)
    return {**{name: tensor.clone() for name, tensor in whole.items()}, "C1/weight": weight}


def assert_holds_its_part(state):
    for shard in state["C1/weight"].local_shards():
        (r, c), (rows, columns) = shard.metadata.shard_offsets, shard.metadata.shard_sizes
        assert bits(shard.tensor) == bits(WHOLE["C1/weight"][r : r + rows, c : c + columns])
    assert_equals_whole(
        {n: WHOLE[n] if isinstance(t, ShardedTensor) else t for n, t in state.items()}
    )


def join(rank, work, tmp_path):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=rank, world_size=2)
    try:
        work(rank, tmp_path)
        dist.barrier()
    finally:
        dist.destroy_process_group()


def reshard_every_way(rank, tmp_path):
    group = dist.new_group(backend="gloo")
    for number, first in enumerate(LAYOUTS.values()):
        folder = Path(tmp_path, str(number))
        digests = save_tables(sharded(WHOLE, first, rank), folder, group)
        assert sorted(digests) == (sorted(p.name for p in folder.iterdir()) if rank == 0 else [])
        for second in LAYOUTS.values():
            live = sharded(empty_like(WHOLE), second, rank)
            load_tables(folder, live, group)
            assert_holds_its_part(live)
        alone = empty_like(WHOLE)
        load_tables(folder, alone, None)
        assert_equals_whole(alone)
        dist.barrier()
        if rank == 0:
            save_tables(alone, folder / "by one", None)
        dist.barrier()
        live = sharded(empty_like(WHOLE), first, rank)
        load_tables(folder / "by one", live, group)
        assert_holds_its_part(live)


def names_that_one_rank_knows(rank, tmp_path):
    group, folder = dist.new_group(backend="gloo"), Path(tmp_path, "names")
    mine = {f"C{rank}/momentum1": init_shard_of_all(rank)}
    save_tables(mine, folder, group)
    mine[f"C{rank}/momentum1"].local_shards()[0].tensor.zero_()
    load_tables(folder, mine, group)
    assert mine[f"C{rank}/momentum1"].local_shards()[0].tensor.tolist() == [rank + 1] * 3
    with pytest.raises(RecsysError, match="holds C1/momentum1, which this config does not have"):
        load_tables(folder, mine if rank == 0 else {}, group)
    with pytest.raises(RecsysError, match="has no other"):  # on both, though one lacks it
        load_tables(folder, {**mine, "other": torch.zeros(1)} if rank == 1 else mine, group)


def init_shard_of_all(rank):
    """What torchrec has of a table that one rank holds: the others do not know its state."""
    shard = ShardMetadata([0], [3], f"rank:{rank}/cpu")
    return ShardedTensor._init_from_local_shards_and_global_metadata(
        [Shard(torch.full((3,), rank + 1.0), shard)],
        ShardedTensorMetadata([shard], torch.Size([3])),
    )


def fail_on_the_second_rank(rank, tmp_path):
    def fail(*_):
        raise OSError(28, "No space left on device")

    group = dist.new_group(backend="gloo")
    if rank == 1:
        table_storage.save_file = fail
    state = sharded(WHOLE, LAYOUTS["row_wise"], rank)
    with pytest.raises(RecsysError, match=r"rank-00001(.|\n)*No space left on device"):
        save_tables(state, Path(tmp_path, "tables"), group)


def two_ranks(rank, tmp_path):
    reshard_every_way(rank, tmp_path)
    names_that_one_rank_knows(rank, tmp_path)
    fail_on_the_second_rank(rank, tmp_path)


@pytest.mark.slow
@pytest.mark.distributed
def test_every_sharding_reads_what_every_other_wrote_and_all_ranks_hear_of_a_failure(tmp_path):
    multiprocessing.spawn(join, (two_ranks, str(tmp_path)), nprocs=2)
    # What two ranks wrote is read in the parent as well, where there is no process group.
    for number in range(len(LAYOUTS)):
        alone = empty_like(WHOLE)
        load_tables(tmp_path / str(number), alone, None)
        assert_equals_whole(alone)
    (tmp_path / "1" / "rank-00001.safetensors").unlink()
    with pytest.raises(RecsysError, match=r"rank-00001\.safetensors is missing"):
        load_tables(tmp_path / "1", alone, None)
