"""Compares two scores of the same rows: how far apart they are, and where they first differ."""

from collections.abc import Mapping
from typing import Literal, NamedTuple, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.errors import RecsysError
from recsys.io.process import count_cores
from recsys.metrics.auc import compute_auc
from recsys.serving.features import ExportedFeature
from recsys.serving.manifest import Manifest, Parity, now
from recsys.serving.reader import ExportReader
from recsys.serving.table_forms import get_form
from recsys.serving.table_forms.base import PROBABILITY_TOLERANCE, VECTOR_TOLERANCE, Floats
from recsys.serving.tables import vector_differences
from recsys.verification.search_ties import SearchTies

Vectors = Mapping[str, Floats]
ROWS_PER_TIE = 1000  # one of so many rows may have a tie in its search


# What to do about a difference, by what was compared with.
FIXES = {
    "run": "if the run was trained further after the export, export it again; if not, check that "
    "this folder has the exported run, and that torch and onnxruntime are the versions that "
    "manifest.json names",
    "stored": "install the onnxruntime that manifest.json names; if it is installed, copy the "
    "export again from its source",
    "form": "the forms of the tables belong to different exports: copy the export from its source",
}
REFERENCES = {
    "run": "the trained run",
    "stored": "the trained model's logits, stored at export",
    "form": "another form of the export's tables",
}


class Reference(Protocol):
    """The scores that an export must reproduce."""

    @property
    def name(self) -> Literal["run", "stored", "form"]:
        """Its name in the manifest."""

    def vectors(self, encoded: pl.DataFrame) -> Mapping[str, NDArray[np.float32]]:
        """Vectors by embedding, (B, D), of histories (L, D); none if only scores are known."""


class ModelReference(Reference, Protocol):
    """A trained model, which can score any rows."""

    def logits(self, encoded: pl.DataFrame) -> Floats:
        """Logits (B,) of encoded rows."""


class KnownScores:
    """A reference with scores alone."""

    def __init__(self, name: Literal["stored", "form"]) -> None:
        self.name: Literal["stored", "form"] = name

    def vectors(self, encoded: pl.DataFrame) -> Vectors:
        """No vectors are known."""
        return {}


class VectorFailure(NamedTuple):
    """The first vector that differs: its embedding, row, and both sides' entries."""

    embedding: str
    row: int
    expected: Floats
    got: Floats


class Comparison:
    """Collects the logits of both sides, chunk by chunk; compares the vectors of the first rows."""

    def __init__(
        self,
        candidate: Literal["dense", "whole", "reader"],
        reference: Reference | None,
        data: str,
        manifest: Manifest,
        form: str | None = None,
        ties: SearchTies | None = None,
    ) -> None:
        """Judges by the form's own tolerances; without a form, by those of float32.

        Args:
            candidate: what was exported.
            reference: without one, rows are scored and cannot differ.
            data: the rows' origin, for messages.
            manifest: of the export.
            form: the table form that the candidate reads.
            ties: finds rows that differ because of a tie; these are counted apart, if few.
        """
        self.candidate, self.reference, self.data = candidate, reference, data
        self.form, self.ties, self.num_ties = form, ties, 0
        self.tolerance = PROBABILITY_TOLERANCE if form is None else get_form(form).tolerance
        self.vector_tolerance = (
            VECTOR_TOLERANCE if form is None else get_form(form).vector_tolerance
        )
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
        """Adds rows and the logits (B,) of both sides."""
        got, expected = _sigmoid(candidate), _sigmoid(reference)
        differences = np.abs(got - expected)
        differences[np.isnan(differences)] = np.inf
        for row in map(int, np.flatnonzero(differences > self.tolerance)):
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
        """Compares vectors of the first rows, for the embeddings that the reference has."""
        for embedding, feature in self.embeddings:
            name = embedding.name
            if name not in reference:
                continue
            got, expected = candidate[name], reference[name]
            differences = vector_differences(got, expected)
            worst = min(float(differences.max(initial=0.0)), np.finfo(np.float64).max)
            self.max_vector_difference = max(self.max_vector_difference or 0.0, worst)
            failed = np.flatnonzero(differences > self.vector_tolerance)
            if len(failed) and self.vector_failure is None:
                first = int(failed[0])
                row = self._row_of(first, feature, encoded)
                self.vector_failure = VectorFailure(name, row, expected[first], got[first])

    def _row_of(self, vector: int, feature: ExportedFeature, encoded: pl.DataFrame) -> int:
        """The row that a vector belongs to; a history has a vector for each behavior."""
        if feature.name not in self.histories:
            return vector
        ends = encoded[feature.name].list.len().cum_sum().to_numpy()
        return int(np.searchsorted(ends, vector, side="right"))

    def result(self) -> Parity:
        """The certificate for the manifest."""
        candidate_auc, reference_auc = (self._auc(logits) for logits in self.logits)
        return Parity(
            candidate=self.candidate,
            form=self.form,
            reference=None if self.reference is None else self.reference.name,
            data=self.data,
            rows=self.rows,
            cores=count_cores(),
            max_abs_difference=None if self.reference is None else min(self.max_difference, 1.0),
            tolerance=self.tolerance,
            max_vector_difference=self.max_vector_difference,
            vector_tolerance=self.vector_tolerance,
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
        """Raises RecsysError with the first row that differs, and the first vector that does."""
        if self.reference is None:
            return
        name = self.reference.name
        if self.first_failure is not None:
            row, encoded, expected, got = self.first_failure
            raise RecsysError(
                f"row {row}: {self._subject} and {REFERENCES[name]} give different scores; "
                f"{self._culprit(reader, encoded)}",
                where=f"{self.data}, row {row} (counted from 0)",
                expected=f"probability {expected:.7f} ± {self.tolerance:g}, by {REFERENCES[name]}",
                got=f"{got:.7f}; {self.num_differing} of {self.rows} rows differ, "
                f"by at most {self.max_difference:.3g}",
                fix=FIXES[name],
            )
        if self.vector_failure is not None:
            feature, row, expected_vector, got_vector = self.vector_failure
            raise RecsysError(
                f"row {row}: the vector of feature {feature} differs from the model's",
                where=f"{self.data}, row {row} (counted from 0), {self._subject}",
                expected=f"{expected_vector} ± {self.vector_tolerance:g}",
                got=got_vector,
                fix=FIXES[name],
            )

    @property
    def _subject(self) -> str:
        """The candidate, for messages."""
        if self.candidate == "whole":
            return "the .pt2 graph"
        cores = count_cores()
        return f"the export ({self.form} tables, ONNX graph on {cores} cores)"

    def _culprit(self, reader: ExportReader, encoded: pl.DataFrame) -> str:
        assert self.reference is not None  # nothing differs from none
        vectors = self.reference.vectors(encoded)
        for name, exported in reader.vectors(encoded, self.form).items():
            if name not in vectors:
                return "vectors can only be compared with a run"
            if vector_differences(exported, vectors[name]).max(initial=0.0) > self.vector_tolerance:
                return f"the vector of feature {name} differs"
        return "every feature's vector agrees, so the dense part differs"


def _sigmoid(logits: Floats) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):
        return np.asarray(1.0 / (1.0 + np.exp(-logits.astype(np.float64))))
