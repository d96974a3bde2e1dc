"""The vectors of an export's features, read from either form with numpy and safetensors alone."""

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from recsys.errors import RecsysError
from recsys.io.file_sizes import check_size
from recsys.io.memory import check_memory
from recsys.io.paths import file_inside
from recsys.serving.decoder import Array, Decoder, Floats, Ids
from recsys.serving.features import ExportedEmbedding, Form, PhysicalTable
from recsys.serving.manifest import VECTOR_TOLERANCE, Manifest

COMPARED_IDS = 1 << 20  # of each feature, spread evenly
IDS_AT_ONCE = 1 << 16


class FeatureTables:
    """Ids → vectors; files are read when they are first needed, and once."""

    def __init__(self, export_dir: Path, manifest: Manifest) -> None:
        self.export_dir, self.manifest = export_dir, manifest
        self._tensors = cache(self._load_tensors)
        self._decoder = cache(self._build_decoder)

    def vectors(self, embedding: ExportedEmbedding, ids: Ids, form: Form) -> Floats:
        """Ids (L,) → (L, D) from this form, or from the other where the embedding lacks it."""
        if len(ids) and not 0 <= ids.min() <= ids.max() < embedding.num_ids:
            raise RecsysError(
                f"{embedding.name}: an id is outside the feature's table",
                expected=f"0 … {embedding.num_ids - 1}",
                got=f"{ids.min()} … {ids.max()}",
                fix="give rows of the data set that the model was trained on",
            )
        if form not in embedding.forms:
            form = next(iter(embedding.forms), form)
        if form == "native":
            return self._decoder(embedding.name).vectors(ids)
        shape = (embedding.num_ids, embedding.dim)
        return self._table(str(embedding.table), shape)[ids]

    def check_forms_agree(self, embedding: ExportedEmbedding) -> None:
        """Compares the vectors of up to a million ids, where the embedding has two forms."""
        if len(embedding.forms) < 2 or self._is_same_file(embedding):
            return
        count = min(embedding.num_ids, COMPARED_IDS)
        ids = np.linspace(0, embedding.num_ids - 1, count, dtype=np.int64)
        for start in range(0, count, IDS_AT_ONCE):
            block = ids[start : start + IDS_AT_ONCE]
            plain, native = (self.vectors(embedding, block, form) for form in embedding.forms)
            differs = np.flatnonzero(vector_differences(native, plain) > VECTOR_TOLERANCE)
            if len(differs):
                row = int(differs[0])
                raise RecsysError(
                    f"{embedding.name}: the two forms of the vector of id {block[row]} differ",
                    where=self.export_dir,
                    expected=f"as in {embedding.table}: {plain[row]}",
                    got=f"by its rule: {native[row]}",
                    fix="export the run again",
                )

    def physical(self, table: PhysicalTable) -> Floats:
        """A table as it was trained, (num_rows, dim)."""
        return self._table(table.file, (table.num_rows, table.dim))

    def _is_same_file(self, embedding: ExportedEmbedding) -> bool:
        lookups = embedding.native.rule.lookups if embedding.native is not None else ()
        files = {t.file for k in lookups if (t := self.manifest.tables.get(k.table)) is not None}
        return files == {embedding.table}

    def _build_decoder(self, name: str) -> Decoder:
        embedding = next(e for e, _ in self.manifest.embeddings if e.name == name)
        native = embedding.native
        assert native is not None  # `forms` says so
        where = f"{self.export_dir}: the rule of {name}"
        tables = {
            look.table: self.physical(self.manifest.tables[look.table])
            for look in native.rule.lookups
            if look.table in self.manifest.tables
        }
        tensors = {} if native.tensors is None else self._tensors(native.tensors)
        decoder = Decoder(native.rule, tables, tensors, where)
        width = decoder.vectors(np.zeros(1, np.int64)).shape[1]
        if width != embedding.dim:
            raise RecsysError(
                "the rule makes vectors of another width",
                where=where,
                expected=embedding.dim,
                got=width,
            )
        return decoder

    def _table(self, file: str, shape: tuple[int, int]) -> Floats:
        table = self._tensors(file).get("vectors")
        if table is None or table.shape != shape or table.dtype != np.float32:
            raise RecsysError(
                "the table is damaged",
                where=self.export_dir / file,
                expected=f"float32 vectors, {shape[0]} × {shape[1]}",
                got=None if table is None else f"{table.dtype} {table.shape}",
            )
        return table  # type: ignore[return-value]  # float32, as was just checked

    def _load_tensors(self, file: str) -> dict[str, Array]:
        try:
            path = file_inside(self.export_dir, file)
            check_size(path)
            check_memory(path.stat().st_size, "a table", where=path)
            return dict(load_file(path))
        except (SafetensorError, OSError, KeyError, TypeError) as error:  # KeyError: its dtype
            raise RecsysError(
                "the table is damaged", where=self.export_dir / file, got=error
            ) from None


def vector_differences(got: Floats, expected: Floats) -> NDArray[np.float64]:
    """Largest difference in each row (L,), relative to the largest entry of all where above 1."""
    difference = np.abs(got.astype(np.float64) - expected)
    difference[np.isnan(difference)] = np.inf
    scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
    return np.asarray(difference.max(axis=1, initial=0.0) / scale)
