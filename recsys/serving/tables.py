"""The vectors of an export's embeddings, in any of its table forms; needs numpy and safetensors."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys.errors import RecsysError
from recsys.serving.features import ExportedEmbedding
from recsys.serving.table_forms import get_form
from recsys.serving.table_forms.base import Floats, Ids, Lookup, TableReader

COMPARED_IDS = 1 << 20  # of each feature, spread evenly
IDS_AT_ONCE = 1 << 16


class FeatureTables:
    """Ids → vectors; files are read when they are first needed, and once."""

    def __init__(self, export_dir: Path, embeddings: Iterable[ExportedEmbedding]) -> None:
        self.files = TableReader(export_dir)
        self.embeddings = {embedding.name: embedding for embedding in embeddings}
        self._lookup = cache(self._open)

    def vectors(self, embedding: ExportedEmbedding, ids: Ids, form: str | None = None) -> Floats:
        """Returns the vectors of ids.

        Args:
            embedding: one of the manifest's.
            ids: (L,), each in [0, embedding.num_ids).
            form: a table form; another one is read if it is None or the embedding lacks it.

        Returns:
            (L, D) float32.

        Raises:
            RecsysError: for an id outside the table, an unknown form, or a damaged file.
        """
        if len(ids) and not 0 <= ids.min() <= ids.max() < embedding.num_ids:
            raise RecsysError(
                f"{embedding.name}: an id is outside the feature's table",
                expected=f"0 … {embedding.num_ids - 1}",
                got=f"{ids.min()} … {ids.max()}",
                fix="give rows of the dataset that the model was trained on",
            )
        return self._lookup(embedding.name, _stored_form(embedding, form))(ids)

    def check_forms_agree(self, embedding: ExportedEmbedding) -> None:
        """Compares every form of an embedding with its first one, for up to a million ids.

        Raises:
            RecsysError: if the vectors of an id differ by more than the less exact form may.
        """
        count = min(embedding.num_ids, COMPARED_IDS)
        ids = np.linspace(0, embedding.num_ids - 1, count, dtype=np.int64)
        first, *others = embedding.forms
        for form in others:
            if not self._is_same_file(embedding, first, form):
                for start in range(0, count, IDS_AT_ONCE):
                    self._compare(embedding, ids[start : start + IDS_AT_ONCE], (first, form))

    def _compare(self, embedding: ExportedEmbedding, ids: Ids, forms: tuple[str, str]) -> None:
        expected, got = (self.vectors(embedding, ids, form) for form in forms)
        tolerance = max(get_form(form).vector_tolerance for form in forms)
        differs = np.flatnonzero(vector_differences(got, expected) > tolerance)
        if len(differs):
            row = int(differs[0])
            raise RecsysError(
                f"{embedding.name}: the {forms[0]} and {forms[1]} forms of the vector of id "
                f"{ids[row]} differ",
                where=self.files.export_dir,
                expected=f"{forms[0]}: {expected[row]} ± {tolerance:g}",
                got=f"{forms[1]}: {got[row]}",
                fix="export the run again",
            )

    def _is_same_file(self, embedding: ExportedEmbedding, first: str, second: str) -> bool:
        tables = embedding.forms[second].tables.values()
        return {table.file for table in tables} == {embedding.forms[first].file}

    def _open(self, name: str, form: str) -> Lookup:
        embedding = self.embeddings[name]
        stored = embedding.forms[form]
        return get_form(form).open(embedding, stored, self.files)


def _stored_form(embedding: ExportedEmbedding, form: str | None) -> str:
    """The form itself if the embedding has it, otherwise the first that it has."""
    if form in embedding.forms:
        return str(form)
    if form is not None:
        get_form(form)
    return next(iter(embedding.forms))


def vector_differences(got: Floats, expected: Floats) -> NDArray[np.float64]:
    """The largest difference in each row, (L,), relative to the largest entry if that is above 1.

    NaN counts as infinity.

    >>> vector_differences(np.array([[4.0, 2.0]]), np.array([[4.0, 1.0]])).tolist()
    [0.25]
    """
    difference = np.abs(got.astype(np.float64) - expected)
    difference[np.isnan(difference)] = np.inf
    scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
    return np.asarray(difference.max(axis=1, initial=0.0) / scale)
