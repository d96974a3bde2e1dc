"""AUC by value of a feature."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.config.base import BaseConfig
from recsys.data.readable import readable
from recsys.errors import RecsysError
from recsys.io.paths import file_inside
from recsys.metrics import compute_auc_interval, compute_calibration
from recsys.schema import Schema, VocabularyEncoding

NUM_VALUES = 10
MIN_ROWS = 50  # values with fewer rows are counted with the others


# what the report shows by default: so many features, with so many ids
MAX_SLICES, MIN_SLICE_IDS, MAX_SLICE_IDS = 3, 3, 50


class SliceMetrics(BaseConfig):
    """The rows with one value of a feature; `id` None: the rows of all values not listed.

    `value` is the raw value if the vocabulary is known. AUC is None for one class.
    """

    id: int | None
    value: str | None = None
    rows: int
    positives: int
    auc: float | None
    auc_ci95: tuple[float, float] | None
    calibration: float | None


def compute_slices(
    logits: NDArray[np.floating], labels: NDArray[np.bool_], ids: NDArray[np.integer]
) -> tuple[SliceMetrics, ...]:
    """The most frequent values, most rows first; then one entry for all others, if any."""
    values, rows = np.unique(ids, return_counts=True)
    by_rows = np.argsort(-rows, kind="stable")[:NUM_VALUES]
    frequent = values[by_rows[rows[by_rows] >= MIN_ROWS]]
    slices = [measure_slice(int(value), logits, labels, ids == value) for value in frequent]
    others = ~np.isin(ids, frequent)
    if others.any():
        slices.append(measure_slice(None, logits, labels, others))
    return tuple(slices)


def measure_slice(
    value: int | None,
    logits: NDArray[np.floating],
    labels: NDArray[np.bool_],
    chosen: NDArray[np.bool_],
) -> SliceMetrics:
    interval = compute_auc_interval(logits[chosen], labels[chosen])
    return SliceMetrics(
        id=value,
        rows=int(np.count_nonzero(chosen)),
        positives=int(np.count_nonzero(labels[chosen])),
        auc=interval.auc,
        auc_ci95=interval.ci95,
        calibration=compute_calibration(logits[chosen], labels[chosen]),
    )


def name_slices(
    slices: Mapping[str, tuple[SliceMetrics, ...]], schema: Schema, dataset_dir: Path
) -> dict[str, tuple[SliceMetrics, ...]]:
    """The same slices with raw values from the dataset's vocabularies."""
    named = {}
    for feature, entries in slices.items():
        names = read_names(
            feature, [e.id for e in entries if e.id is not None], schema, dataset_dir
        )
        named[feature] = tuple(
            e.model_copy(update={"value": names.get(e.id)}) if e.id is not None else e
            for e in entries
        )
    return named


def read_names(
    feature: str, ids: list[int], schema: Schema, dataset_dir: Path
) -> dict[int | None, str]:
    """Raw value of each id; empty for a hashed feature or without its vocabulary file."""
    encoding = schema.feature(feature).encoding
    if not isinstance(encoding, VocabularyEncoding) or not (dataset_dir / encoding.file).is_file():
        return {}
    path = dataset_dir / encoding.file
    with readable(path):
        path = file_inside(dataset_dir, encoding.file)
        vocabulary = pl.scan_parquet(path, glob=False).filter(pl.col("id").is_in(ids))
        found = vocabulary.select(pl.col("id"), pl.col("value").cast(pl.String)).collect()
    return dict(found.iter_rows())


def choose_slices(schema: Schema, wanted: tuple[str, ...] | None) -> tuple[str, ...]:
    """The features whose values the report shows: as configured, else the smallest ones."""
    ids = {f.name: f.num_ids for f in schema.of_kind("categorical")}
    for name in wanted or ():
        if schema.feature(name).name not in ids:
            raise RecsysError(
                f"{name!r} cannot be reported by value",
                where="report.slices",
                expected=f"categorical features: {', '.join(ids)}",
                got=f"a {schema.feature(name).kind} feature",
            )
    if wanted is not None:
        return wanted
    small = [name for name, count in ids.items() if MIN_SLICE_IDS <= count <= MAX_SLICE_IDS]
    return tuple(sorted(small, key=lambda name: ids[name])[:MAX_SLICES])
