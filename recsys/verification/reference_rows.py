"""Reference rows: kept in the export with the trained model's logits, which it must reproduce.

They are generated, not taken from the data: ids from the whole range of each feature, histories of
every length up to the longest. With them an export can be verified without anything else.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.errors import RecsysError
from recsys.schema import Feature
from recsys.serving.features import ExportedPair
from recsys.serving.manifest import LOGITS_FILE, ROWS_FILE, Manifest

Range = tuple[float, float]
NUM_ROWS, FEWEST_ROWS = 2048, 64
BEHAVIORS = 1 << 18  # of a history in all rows, approximately
POOLED_LENGTH = 50  # of a sequence without max_length
LARGEST_FILE = 1 << 28  # bytes of values


def count_rows(features: Sequence[Feature], pairs: Sequence[ExportedPair]) -> int:
    """The number of rows to generate: fewer if histories may be very long."""
    groups = _length_groups(features, pairs).values()
    longest = max((most for _, most in groups), default=1)
    return min(NUM_ROWS, max(FEWEST_ROWS, 2 * BEHAVIORS // longest))


def generate_rows(manifest: Manifest, ranges: Mapping[str, Range], seed: int = 0) -> pl.DataFrame:
    """Encoded rows of the manifest's features, with numbers in the `ranges`."""
    rng, rows = np.random.default_rng(seed), manifest.reference_rows
    lengths: dict[str, NDArray[np.int64]] = {}
    for names, most in _length_groups(manifest.features, manifest.pairs).values():
        lengths |= dict.fromkeys(names, _lengths(rng, rows, most))
    columns = []
    for feature in manifest.features:
        if feature.kind == "numerical":
            low, high = ranges[feature.name]
            values = rng.uniform(low, high, rows)
            columns.append(pl.Series(feature.name, values, pl.Float32))
        elif feature.kind == "categorical":
            columns.append(pl.Series(feature.name, _ids(rng, rows, feature.num_ids), pl.Int32))
        else:
            columns.append(_bags(rng, feature, lengths[feature.name]))
    return pl.DataFrame(columns)


def write_reference(folder: Path, rows: pl.DataFrame, logits: NDArray[np.float32]) -> None:
    """Writes the rows, and the trained model's logits (B,) beside them."""
    (folder / ROWS_FILE).parent.mkdir(exist_ok=True)
    pq.write_table(rows.to_arrow(), folder / ROWS_FILE, compression="zstd")
    table = pa.table({"logits": pa.array(logits, pa.float32())})
    pq.write_table(table, folder / LOGITS_FILE, compression="zstd")


def read_reference(folder: Path, manifest: Manifest) -> tuple[pl.DataFrame, NDArray[np.float32]]:
    """Reads what `write_reference` wrote; refuses damaged files."""
    rows = _read(folder / ROWS_FILE, manifest.reference_rows)
    logits = _read(folder / LOGITS_FILE, manifest.reference_rows)
    names = [feature.name for feature in manifest.features]
    numbers = logits["logits"] if logits.columns == ["logits"] else None
    if rows.columns != names or numbers is None or numbers.dtype != pl.Float32:
        raise RecsysError(
            "the reference rows are damaged",
            where=folder / ROWS_FILE,
            expected=f"columns {names}, and logits",
            got=f"{rows.columns} and {logits.schema}",
        )
    return rows, numbers.to_numpy()


def _read(path: Path, expected_rows: int) -> pl.DataFrame:
    try:
        with pq.ParquetFile(path) as file:
            groups = (file.metadata.row_group(i) for i in range(file.metadata.num_row_groups))
            size = sum(group.total_byte_size for group in groups)
            if file.metadata.num_rows != expected_rows or size > LARGEST_FILE:
                raise RecsysError(
                    "the reference rows are damaged",
                    where=path,
                    expected=f"{expected_rows} rows, at most {LARGEST_FILE:,} bytes",
                    got=f"{file.metadata.num_rows} rows, {size:,} bytes",
                )
            return pl.DataFrame(pl.from_arrow(file.read()))
    except (OSError, pa.ArrowException) as error:
        raise RecsysError(
            "the reference rows are damaged", where=path, got=str(error).splitlines()[0]
        ) from None


def _length_groups(
    features: Sequence[Feature], pairs: Sequence[ExportedPair]
) -> dict[str, tuple[list[str], int]]:
    """Groups of sequences of equal length in every row, and their largest length."""
    groups: dict[str, tuple[list[str], int]] = {}
    leaders = {name: pair.lengths for pair in pairs for name in pair.history}
    for feature in features:
        if feature.kind != "sequence":
            continue
        leader = leaders.get(feature.name, f"{feature.name} alone")
        names, most = groups.get(leader, ([], feature.max_length or POOLED_LENGTH))
        groups[leader] = [*names, feature.name], min(most, feature.max_length or POOLED_LENGTH)
    return groups


def _lengths(rng: np.random.Generator, rows: int, most: int) -> NDArray[np.int64]:
    """(rows,): 0, 1, 2 and the longest first, then random ones."""
    first = np.minimum([0, 1, 2, most - 1, most, most], most)
    return np.concatenate([first, rng.integers(0, most + 1, rows - len(first))]).astype(np.int64)


def _ids(rng: np.random.Generator, count: int, num_ids: int) -> NDArray[np.int32]:
    """(count,): id 0 and the last first, then half from the whole range, half frequent ones."""
    ids = rng.integers(0, num_ids, count)
    frequent = rng.random(count) < 0.5  # a power of a uniform number: low ids, which are frequent
    ids[frequent] = (num_ids * rng.random(int(frequent.sum())) ** 4).astype(np.int64)
    ids[:2] = (0, num_ids - 1)[:count]
    return ids.astype(np.int32)


def _bags(rng: np.random.Generator, feature: Feature, lengths: NDArray[np.int64]) -> pl.Series:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    ids = _ids(rng, int(offsets[-1]), feature.num_ids)
    return pl.Series(feature.name, pl.from_arrow(pa.ListArray.from_arrays(offsets, pa.array(ids))))
