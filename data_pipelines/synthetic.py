"""Generates files in Criteo's format with a planted model, for tests, the demo and benchmarks.

The planted logit is the sum of a weight for each value of each column, smooth functions of the
integers, and weights for pairs of values of a few pairs of columns, which a linear model cannot
learn. Missing values have weights, too; no model can be better than the planted probabilities.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from data_pipelines.encoding.splits import SPLITS, random_split
from data_pipelines.sources.criteo import CATEGORIES, INTEGERS
from recsys.errors import RecsysError
from recsys.schema import Schema

CHUNK_ROWS = 1 << 17
BIAS = -1.6
# Most values are frequent in 160,000 rows; the sizes of the tables differ.
CARDINALITIES = (
    *(300, 200, 500, 400, 100, 16, 350, 150, 3, 300, 250, 450, 200, 24, 250),
    *(400, 10, 220, 150, 4, 450, 14, 12, 180, 60, 200),
)
MISSING_SHARE = {
    **dict.fromkeys(("I1", "I10"), 0.45),
    **dict.fromkeys(("I3", "I4", "I6", "I13"), 0.2),
    **dict.fromkeys(("I5", "I7", "I9", "I11", "C3", "C12"), 0.035),
    "I12": 0.76,
    **dict.fromkeys(("C19", "C26"), 0.44),
    "C22": 0.76,
}
PAIRS = (("C6", "C14"), ("C17", "C22"), ("C9", "C23"), ("C20", "C6"))


@dataclass(frozen=True)
class PlantedTruth:
    """The planted logits and the labels drawn from them, (rows,), in the order of the file."""

    logits: NDArray[np.float64]
    labels: NDArray[np.int8]

    def auc(self, rows: NDArray[np.bool_] | None = None) -> float:
        """The exact AUC of the true probabilities on all or selected rows: the best possible."""
        logits, labels = (
            (self.logits, self.labels) if rows is None else (self.logits[rows], self.labels[rows])
        )
        ranks = pl.Series(logits).rank().to_numpy()  # ties have their mean rank
        positives = int(labels.sum())
        negatives = len(labels) - positives
        return float(
            (ranks[labels == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives)
        )

    def log_loss(self) -> float:
        """The mean log loss of the true probabilities, in nats."""
        return float(
            np.logaddexp(0.0, np.where(self.labels == 1, -self.logits, self.logits)).mean()
        )

    def split_auc(self, schema: Schema, split: str) -> float:
        """The AUC on a split of a dataset that was prepared with a random split."""
        rule = schema.recipe["split"]
        if not isinstance(rule, dict) or rule["method"] != "random":
            raise RecsysError(
                "the planted AUC is only for datasets with split.method random", got=rule
            )
        train, valid, test = rule["fractions"]
        codes = random_split(len(self.labels), rule["seed"], (train, valid, test))
        return self.auc(codes == SPLITS.index(split))

    def save(self, path: Path) -> None:
        """Writes the logit and the label of each row as Parquet."""
        pl.DataFrame({"logit": self.logits, "label": self.labels}).write_parquet(path)

    @classmethod
    def load(cls, path: Path) -> "PlantedTruth":
        """Reads a file of `save`."""
        table = pl.read_parquet(path, glob=False)
        return cls(table["logit"].to_numpy(), table["label"].to_numpy())


def truth_path(path: Path) -> Path:
    """The path of the truth of a generated file, in the same folder."""
    return path.with_name(path.name + ".truth.parquet")


def generate_criteo(
    path: Path, rows: int, seed: int = 0, cardinalities: tuple[int, ...] = CARDINALITIES
) -> PlantedTruth:
    """Generates a file in Criteo's format, and its truth; equal seeds give equal bytes.

    Args:
        path: the new TSV file; the truth is written to `truth_path(path)`.
        rows: the number of rows.
        seed: of the model and the rows.
        cardinalities: the number of values of each of the 26 categorical columns.
    """
    model = _PlantedModel(np.random.default_rng([seed, 0]), cardinalities)
    logits, labels = [], []
    with path.open("wb") as file:
        for index, first in enumerate(range(0, rows, CHUNK_ROWS)):
            generator = np.random.default_rng([seed, 1, index])
            frame, chunk_logits = model.draw(generator, min(CHUNK_ROWS, rows - first))
            frame.write_csv(file, separator="\t", include_header=False)
            logits.append(chunk_logits)
            labels.append(frame["label"].to_numpy())
    truth = PlantedTruth(np.concatenate(logits), np.concatenate(labels))
    truth.save(truth_path(path))
    return truth


class _PlantedModel:
    """The weights and the texts of values; id 0 of a column is its missing value."""

    def __init__(self, generator: np.random.Generator, cardinalities: tuple[int, ...]) -> None:
        self.sizes = dict(zip(CATEGORIES, cardinalities, strict=True))
        self.names = {c: _hex_names(i, size) for i, (c, size) in enumerate(self.sizes.items())}
        shares = {c: _zipf_shares(size) for c, size in self.sizes.items()}
        self.weights = {
            c: _centered(generator.normal(0.0, 0.25, size + 1), shares[c])
            for c, size in self.sizes.items()
        }
        self.pair_weights = {
            (a, b): _centered(
                generator.normal(0.0, 0.5, (self.sizes[a] + 1, self.sizes[b] + 1)),
                np.outer(shares[a], shares[b]),
            )
            for a, b in PAIRS
        }
        self.slopes = dict(zip(INTEGERS, generator.normal(0.0, 0.15, len(INTEGERS)), strict=True))
        self.missing_weights = generator.normal(0.0, 0.15, len(INTEGERS))

    def draw(
        self, generator: np.random.Generator, rows: int
    ) -> tuple[pl.DataFrame, NDArray[np.float64]]:
        """Returns rows of the file and their logits, (rows,)."""
        logits = np.full(rows, BIAS)
        columns = list(self._integers(generator, rows, logits))
        ids = {}
        for column, size in self.sizes.items():
            ids[column] = _draw_ids(generator, rows, size, MISSING_SHARE.get(column, 0.0))
            logits += self.weights[column][ids[column]]
            columns.append(self.names[column].gather(ids[column]).alias(column))
        for (a, b), weights in self.pair_weights.items():
            logits += weights[ids[a], ids[b]]
        labels = (generator.random(rows) < 1 / (1 + np.exp(-logits))).astype(np.int8)
        return pl.DataFrame([pl.Series("label", labels), *columns]), logits

    def _integers(
        self, generator: np.random.Generator, rows: int, logits: NDArray[np.float64]
    ) -> Iterator[pl.Series]:
        """Yields the integer columns; adds their terms to the logits in place."""
        for index, (column, slope) in enumerate(self.slopes.items()):
            level = 0.5 + index % 4
            counts = np.floor(generator.lognormal(level, 1.2, rows)).astype(np.int64)
            counts -= int(column == "I2")  # I2 of Criteo can be negative
            missing = generator.random(rows) < MISSING_SHARE.get(column, 0.0)
            effect = slope * (np.log1p(np.maximum(counts, 0)) - level)
            logits += np.where(missing, self.missing_weights[index], effect)
            yield (
                pl.DataFrame({"x": counts, "m": missing})
                .select(pl.when(~pl.col("m")).then(pl.col("x")).alias(column))
                .to_series()
            )


def _draw_ids(
    generator: np.random.Generator, rows: int, size: int, missing_share: float
) -> NDArray[np.int64]:
    """Ids 1..size with frequencies nearly proportional to 1/id (Zipf), 0 if missing."""
    ids = np.exp(generator.random(rows) * np.log(size + 1)).astype(np.int64).clip(1, size)
    if missing_share:
        ids[generator.random(rows) < missing_share] = 0
    return ids


def _zipf_shares(size: int) -> NDArray[np.float64]:
    """The shares of ids 0..size that `_draw_ids` draws without missing values, (size + 1,)."""
    edges = np.log(np.arange(1, size + 2))
    return np.concatenate([[0.0], np.diff(edges) / edges[-1]])


def _centered(weights: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weights minus their mean over rows, so that the click rate hardly depends on the seed."""
    return weights - (weights * shares).sum()


def _hex_names(column: int, size: int) -> pl.Series:
    """null, then `size` distinct texts of 8 hex digits: an odd factor permutes 32-bit numbers."""
    numbers = np.arange(1, size + 1, dtype=np.uint32) * np.uint32(2654435761)
    digits = (numbers + np.uint32(column * 0x9E3779B)).astype(">u4").tobytes().hex()
    return pl.Series([None, *(digits[i : i + 8] for i in range(0, len(digits), 8))])
