"""Two scores of the same rows: how far apart they are, and where they first differ."""

import os
from collections.abc import Mapping
from typing import Literal, NamedTuple, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.errors import RecsysError
from recsys.export.checks.search_check import SearchTies
from recsys.metrics import compute_auc
from recsys.serving.features import ExportedFeature, Form
from recsys.serving.manifest import TOLERANCE, VECTOR_TOLERANCE, Manifest, Parity, now
from recsys.serving.reader import ExportReader
from recsys.serving.tables import vector_differences

Floats = NDArray[np.float32]
Vectors = Mapping[str, Floats]
COMPARED_VECTOR_ROWS = 4096
ROWS_PER_TIE = 1000  # of so many rows one may differ by what its search happens to find


# What may cause a difference, by what was compared with.
CAUSES = {
    "run": "if the run was trained on after the export, export it again; if not, look for another "
    "run in this folder, or another build of torch or onnxruntime than manifest.json names",
    "stored": "the files here do not score as they did where they were exported: is onnxruntime "
    "another version than manifest.json names? if not, copy the export again from its source",
    "form": "the two forms of the tables do not belong together: copy the export from its source",
}


REFERENCES = {
    "run": "the trained run",
    "stored": "the trained model's logits, stored at export",
    "form": "the export's other form of tables",
}


class Reference(Protocol):
    """Scores that the export must give."""

    @property
    def name(self) -> Literal["run", "stored", "form"]:
        """As the manifest calls it."""

    def vectors(self, encoded: pl.DataFrame) -> Mapping[str, NDArray[np.float32]]:
        """Each embedding's vectors, (B, D), of histories (L, D), as far as they can be seen."""


class KnownScores:
    """A reference of which nothing is known but scores."""

    def __init__(self, name: Literal["stored", "form"]) -> None:
        self.name: Literal["stored", "form"] = name

    def vectors(self, encoded: pl.DataFrame) -> Vectors:
        """None are known."""
        return {}


class VectorFailure(NamedTuple):
    """The first vector that differs: its embedding, row, and both sides' entries."""

    embedding: str
    row: int
    expected: Floats
    got: Floats


class Comparison:
    """Collects the logits of both sides, chunk by chunk, and compares the first rows' vectors."""

    def __init__(
        self,
        candidate: Literal["dense", "whole", "reader"],
        reference: Reference | None,
        data: str,
        manifest: Manifest,
        form: Form | None = None,
        ties: SearchTies | None = None,
    ) -> None:
        """`ties`: of rows that differ, those that it knows are counted apart, if they are few.

        Without a reference rows are counted and scored, and cannot differ.
        """
        self.candidate, self.reference, self.data = candidate, reference, data
        self.form, self.ties, self.num_ties = form, ties, 0
        self.label = manifest.label
        self.embeddings, self.histories = manifest.embeddings, manifest.histories
        self.max_vector_difference: float | None = None
        self.vector_failure: VectorFailure | None = None
        self.rows = self.num_differing = 0
        self.max_difference = 0.0
        self.first_failure: tuple[int, pl.DataFrame, float, float] | None = None
        self.logits: tuple[list[Floats], list[Floats]] = ([], [])
        self.labels: list[NDArray[np.int8]] = []

    def add(self, encoded: pl.DataFrame, candidate: Floats, reference: Floats) -> None:
        """More rows; logits (B,) of both sides."""
        got, expected = _sigmoid(candidate), _sigmoid(reference)
        differences = np.abs(got - expected)
        differences[np.isnan(differences)] = np.inf
        for row in map(int, np.flatnonzero(differences > TOLERANCE)):
            if self.first_failure is None:
                one = encoded[row : row + 1]
                if self._is_tie(one):
                    differences[row] = 0.0
                    continue
                both = float(expected[row]), float(got[row])
                self.first_failure = (self.rows + row, one, *both)
            self.num_differing += 1
        self.max_difference = max(self.max_difference, float(differences.max(initial=0.0)))
        self.rows += len(encoded)
        for logits, more in zip(self.logits, (candidate, reference), strict=True):
            logits.append(more)
        if self.label in encoded.columns:
            self.labels.append(encoded[self.label].to_numpy())

    def _is_tie(self, encoded: pl.DataFrame) -> bool:
        allowed = 1 + (self.rows + len(encoded)) // ROWS_PER_TIE
        if self.ties is None or self.num_ties >= allowed or not self.ties.is_tie(encoded):
            return False
        self.num_ties += 1
        return True

    def add_vectors(self, encoded: pl.DataFrame, candidate: Vectors, reference: Vectors) -> None:
        """The first rows, and their vectors by embedding as far as the reference has them."""
        for embedding, feature in self.embeddings:
            name = embedding.name
            if name not in reference:
                continue
            got, expected = candidate[name], reference[name]
            differences = vector_differences(got, expected)
            worst = min(float(differences.max(initial=0.0)), np.finfo(np.float64).max)
            self.max_vector_difference = max(self.max_vector_difference or 0.0, worst)
            failed = np.flatnonzero(differences > VECTOR_TOLERANCE)
            if len(failed) and self.vector_failure is None:
                first = int(failed[0])
                row = self._row_of(first, feature, encoded)
                self.vector_failure = VectorFailure(name, row, expected[first], got[first])

    def _row_of(self, vector: int, feature: ExportedFeature, encoded: pl.DataFrame) -> int:
        """The row that a vector belongs to: of histories there are as many as behaviours."""
        if feature.name not in self.histories:
            return vector
        ends = encoded[feature.name].list.len().cum_sum().to_numpy()
        return int(np.searchsorted(ends, vector, side="right"))

    def result(self) -> Parity:
        """What goes into the manifest."""
        candidate_auc, reference_auc = (self._auc(logits) for logits in self.logits)
        return Parity(
            candidate=self.candidate,
            form=self.form,
            reference=None if self.reference is None else self.reference.name,
            data=self.data,
            rows=self.rows,
            cores=len(os.sched_getaffinity(0)),
            max_abs_difference=None if self.reference is None else min(self.max_difference, 1.0),
            max_vector_difference=self.max_vector_difference,
            search_ties=self.num_ties,
            candidate_auc=candidate_auc,
            reference_auc=None if self.reference is None else reference_auc,
            passed=self.first_failure is None and self.vector_failure is None,
            at=now(),
        )

    def _auc(self, logits: list[Floats]) -> float | None:
        if not self.labels or sum(map(len, self.labels)) != self.rows:
            return None
        scores = np.concatenate(logits)
        return None if np.isnan(scores).any() else compute_auc(scores, np.concatenate(self.labels))

    def raise_if_failed(self, reader: ExportReader) -> None:
        """Names the first row that differs, and the first feature whose vector does."""
        if self.reference is None:
            return
        name = self.reference.name
        if self.first_failure is not None:
            row, encoded, expected, got = self.first_failure
            raise RecsysError(
                f"row {row}: {self._subject} and {REFERENCES[name]} give different scores; "
                f"{self._culprit(reader, encoded)}",
                where=f"{self.data}, row {row} (counted from 0)",
                expected=f"probability {expected:.7f} ± {TOLERANCE}, from {REFERENCES[name]}",
                got=f"{got:.7f}; {self.num_differing} of {self.rows} rows differ, "
                f"by {self.max_difference:.3g} at most",
                fix=CAUSES[name],
            )
        if self.vector_failure is not None:
            feature, row, expected_vector, got_vector = self.vector_failure
            raise RecsysError(
                f"row {row}: the vector of feature {feature} differs from the model's",
                where=f"{self.data}, row {row} (counted from 0), {self._subject}",
                expected=f"{expected_vector} ± {VECTOR_TOLERANCE}",
                got=got_vector,
                fix=CAUSES[name],
            )

    @property
    def _subject(self) -> str:
        """What was exported, in words."""
        if self.candidate == "whole":
            return "the .pt2 graph"
        cores = len(os.sched_getaffinity(0))
        return f"the export ({self.form} tables, ONNX graph on {cores} cores)"

    def _culprit(self, reader: ExportReader, encoded: pl.DataFrame) -> str:
        assert self.reference is not None  # nothing differs from none
        vectors = self.reference.vectors(encoded)
        for name, exported in reader.vectors(encoded, self.form or "materialized").items():
            if name not in vectors:
                return "vectors cannot be compared without the run"
            if vector_differences(exported, vectors[name]).max(initial=0.0) > VECTOR_TOLERANCE:
                return f"the vector of feature {name} differs"
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
                f"{feature.name}: the export and the data pipeline encode a raw value differently",
                where=f"row {first_row + row} (counted from 0), column {feature.column!r}",
                expected=f"{raw[feature.column][row]!r} → {expected[row]!r}, by the data pipeline",
                got=f"{got[row]!r}, by the export's reader",
                fix="are the export's schema.json, manifest.json and vocabularies those of one "
                "export, and recsys the version that manifest.json names?",
            )
