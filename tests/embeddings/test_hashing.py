import pytest
import torch

from recsys.embeddings.hashing import hash_rows

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
@pytest.mark.parametrize("num_rows", [1, 2, 1000, 999_983])
def test_hash_equals_unbounded_integer_arithmetic(salt, num_rows):
    ids = [0, 1, 2, 12345, 2**24 + 1, 2**31 - 1]
    rows = hash_rows(torch.tensor(ids, dtype=torch.int32), salt, num_rows)
    assert rows.tolist() == [splitmix_row(i, salt, num_rows) for i in ids]


def test_hash_fills_rows_evenly():
    counts = torch.bincount(hash_rows(torch.arange(100_000), 0, 100), minlength=100).double()
    chi_square = ((counts - 1000) ** 2 / 1000).sum()
    assert chi_square < 150  # 99 degrees of freedom: the 99.9 % point is 148


def test_salts_give_independent_rows():
    ids = torch.arange(100_000)
    equal = (hash_rows(ids, 0, 100) == hash_rows(ids, 1, 100)).double().mean()
    assert abs(equal - 0.01) < 0.002
