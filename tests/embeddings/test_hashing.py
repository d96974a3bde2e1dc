import pytest
import torch

from recsys.embeddings.id_mapping.hashing import feature_salt, hash_chunks, hash_rows
from recsys.embeddings.methods.hashed import HashedConfig

MASK = 2**64 - 1


def splitmix_row(value: int, salt: int, num_rows: int) -> int:
    """The published rule in Python's unbounded integers."""
    x = (value + (salt + 1) * 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    x ^= x >> 31
    return (x >> 1) % num_rows


# splitmix64 seeded with 0 is a published sequence: 16294208416658607535 (0xE220A8397B1DCDAF) first,
# then 7960286522194355700 (0x6E789E6AA1B965F4).
@pytest.mark.parametrize(
    ("value", "salt", "first_output"),
    [(0, 0, 0xE220A8397B1DCDAF), (0, 1, 0x6E789E6AA1B965F4)],
)
def test_hash_equals_the_published_splitmix64_sequence(value, salt, first_output):
    rows = hash_rows(torch.tensor([value]), salt, 2**62)
    assert rows.item() == (first_output >> 1) % 2**62


@pytest.mark.parametrize("salt", [0, 1, 7])
@pytest.mark.parametrize("num_rows", [1, 2, 1000, 999_983, 2**31, 2**62])
def test_hash_equals_unbounded_integer_arithmetic(salt, num_rows):
    ids = [0, 1, 2, 12345, 2**24 + 1, 2**31 - 1]
    rows = hash_rows(torch.tensor(ids, dtype=torch.int32), salt, num_rows)
    assert rows.tolist() == [splitmix_row(i, salt, num_rows) for i in ids]


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_graphs_and_devices_hash_as_a_cpu_does(dtype, monkeypatch):
    ids = torch.tensor([0, 1, 12345, 2**31 - 1], dtype=dtype)
    on_cpu = hash_chunks(ids, feature_salt("C1"), 4, 999_983)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert torch.equal(hash_chunks(ids, feature_salt("C1"), 4, 999_983), on_cpu)


def test_hash_fills_rows_evenly():
    counts = torch.bincount(hash_rows(torch.arange(100_000), 0, 100), minlength=100).double()
    chi_square = ((counts - 1000) ** 2 / 1000).sum()
    assert chi_square < 150  # 99 degrees of freedom: the 99.9 % point is 148


def test_salts_give_independent_rows():
    ids = torch.arange(100_000)
    equal = (hash_rows(ids, 0, 100) == hash_rows(ids, 1, 100)).double().mean()
    assert abs(equal - 0.01) < 0.002


# Test vectors of version 1, from Python's hashlib and unbounded integers. Rows of ids 0, 1, 7 and
# 2³¹ - 1 among 1,000,003, for chunks 0 and 1.
SALTS = {"C1": 0x0D4FE9FD026FE522, "user_id": 0x9808E2020C978FC5}
ROWS = {
    "C1": [[429217, 476185, 276689, 648400], [37211, 465075, 821922, 681155]],
    "user_id": [[251055, 654965, 958747, 270061], [730526, 3589, 676333, 843215]],
}


@pytest.mark.parametrize("name", SALTS)
def test_a_features_rows_equal_the_published_vectors(name):
    assert feature_salt(name) == SALTS[name]
    for dtype in (torch.int32, torch.int64):
        ids = torch.tensor([0, 1, 7, 2**31 - 1], dtype=dtype)
        assert hash_chunks(ids, SALTS[name], 2, 1_000_003).tolist() == ROWS[name]


@pytest.mark.parametrize("name", SALTS)
def test_rows_of_a_hashed_feature_equal_the_published_vectors(name):
    config = HashedConfig(embedding_dim=1, num_buckets=1_000_003, num_hashes=2)
    rows = config.build(name, 2**31, name).rows(torch.tensor([0, 1, 7, 2**31 - 1]))
    assert [found.tolist() for found in rows] == ROWS[name]


def test_chunk_k_of_a_salt_is_the_hash_of_salt_plus_k():
    ids, salt = torch.arange(1000), 2**64 - 2  # salts wrap around
    chunks = hash_chunks(ids, salt, 3, 97)
    for k, rows in enumerate(chunks):
        assert rows.tolist() == [splitmix_row(i, salt + k, 97) for i in range(1000)]


def test_no_pair_of_features_or_chunks_has_correlated_rows():
    ids = torch.arange(50_000)
    salts = [feature_salt(name) for name in ("a", "b", "C1", "C2")]
    rows = torch.cat([hash_chunks(ids, salt, 2, 100) for salt in salts])  # (8, L)
    for i in range(len(rows)):
        assert ((torch.bincount(rows[i], minlength=100) - 500) ** 2 / 500).sum() < 160
        for j in range(i):
            pairs = torch.bincount(rows[i] * 100 + rows[j], minlength=10_000).double()
            # 9,999 degrees of freedom: mean 9,999, standard deviation 141
            assert abs(((pairs - 5) ** 2 / 5).sum() - 9_999) < 5 * 141
