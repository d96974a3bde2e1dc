"""Two scores of the same rows: how far apart they are, and where they first part."""

from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.errors import RecsysError
from recsys.export.manifest import TOLERANCE, Manifest, Parity, now
from recsys.export.reader import ExportReader
from recsys.export.reference import Reference
from recsys.metrics import compute_auc

Floats = NDArray[np.float32]
VECTOR_TOLERANCE = 1e-5


class Comparison:
    """Collects the logits of both sides, chunk by chunk."""

    def __init__(
        self,
        candidate: Literal["dense", "whole", "reader"],
        reference: Reference,
        data: str,
        manifest: Manifest,
    ) -> None:
        self.candidate, self.reference, self.data = candidate, reference, data
        self.label = manifest.label
        self.rows = 0
        self.max_difference = 0.0
        self.first_failure: tuple[int, pl.DataFrame, float, float] | None = None
        self.logits: tuple[list[Floats], list[Floats]] = ([], [])
        self.labels: list[NDArray[np.int8]] = []

    def add(self, encoded: pl.DataFrame, candidate: Floats, reference: Floats) -> None:
        """More rows; logits (B,) of both sides."""
        got, expected = _sigmoid(candidate), _sigmoid(reference)
        differences = np.abs(got - expected)
        differences[np.isnan(differences)] = np.inf
        failed = np.flatnonzero(differences > TOLERANCE)
        if len(failed) and self.first_failure is None:
            row = int(failed[0])
            self.first_failure = (
                self.rows + row,
                encoded[row : row + 1],
                float(expected[row]),
                float(got[row]),
            )
        self.max_difference = max(self.max_difference, float(differences.max(initial=0.0)))
        self.rows += len(encoded)
        for logits, more in zip(self.logits, (candidate, reference), strict=True):
            logits.append(more)
        if self.label in encoded.columns:
            self.labels.append(encoded[self.label].to_numpy())

    def result(self) -> Parity:
        """What goes into the manifest."""
        candidate_auc, reference_auc = (self._auc(logits) for logits in self.logits)
        return Parity(
            candidate=self.candidate,
            reference=self.reference.name,
            data=self.data,
            rows=self.rows,
            max_abs_difference=min(self.max_difference, 1.0),
            candidate_auc=candidate_auc,
            reference_auc=reference_auc,
            passed=self.first_failure is None,
            at=now(),
        )

    def _auc(self, logits: list[Floats]) -> float | None:
        if not self.labels or sum(map(len, self.labels)) != self.rows:
            return None
        scores = np.concatenate(logits)
        return None if np.isnan(scores).any() else compute_auc(scores, np.concatenate(self.labels))

    def raise_if_failed(self, reader: ExportReader) -> None:
        """Names the first row that differs, and the first feature whose vector does."""
        if self.first_failure is None:
            return
        row, encoded, expected, got = self.first_failure
        raise RecsysError(
            f"row {row}: the export and the model disagree; {self._culprit(reader, encoded)}",
            where=f"{self.data}, row {row} (counted from 0)",
            expected=f"probability {expected:.7f} ± {TOLERANCE}",
            got=f"{got:.7f}; the largest difference of {self.rows} rows is "
            f"{self.max_difference:.3g}",
            fix="was the run trained on after it was exported? then export it again",
        )

    def _culprit(self, reader: ExportReader, encoded: pl.DataFrame) -> str:
        vectors = self.reference.vectors(encoded)
        for feature in reader.manifest.sparse:
            if feature.name not in vectors:
                return "the run is not here to compare each feature's vector with"
            exported, own = reader.vectors(feature, encoded), vectors[feature.name]
            if not np.allclose(exported, own, rtol=VECTOR_TOLERANCE, atol=VECTOR_TOLERANCE):
                return f"the vector of feature {feature.name} differs"
        return "every feature's vector agrees, so the dense part differs"


def _sigmoid(logits: Floats) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):
        return np.asarray(1.0 / (1.0 + np.exp(-logits.astype(np.float64))))


def check_encoding(
    manifest: Manifest, raw: pl.DataFrame, own: pl.DataFrame, encoded: pl.DataFrame, first_row: int
) -> None:
    """Refuses raw rows that the reader and the data pipeline encode differently."""
    for feature in manifest.features:
        got, expected = own[feature.name], encoded[feature.name]
        if feature.kind == "numerical":
            same = np.isclose(got.to_numpy(), expected.to_numpy(), rtol=1e-5, atol=1e-6)
            differs = ~same
        else:
            differs = (got != expected.cast(got.dtype)).to_numpy()
        if differs.any():
            row = int(np.flatnonzero(differs)[0])
            raise RecsysError(
                f"{feature.name}: the export encodes a raw value otherwise than the data pipeline",
                where=f"row {first_row + row} (counted from 0), column {feature.column!r}",
                expected=f"{raw[feature.column][row]!r} → {expected[row]!r}",
                got=repr(got[row]),
                fix="does the export belong to this data set? else export the run again",
            )
