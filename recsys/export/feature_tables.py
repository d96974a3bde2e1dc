"""The vectors of an export's features, read from either form with numpy and safetensors alone."""

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from recsys.errors import RecsysError
from recsys.export.decoder import Array, Decoder, Floats, Ids
from recsys.export.manifest import (
    VECTOR_TOLERANCE,
    ExportedFeature,
    Form,
    Manifest,
    PhysicalTable,
)

COMPARED_IDS = 1 << 20  # of each feature, spread evenly
IDS_AT_ONCE = 1 << 16


class FeatureTables:
    """Ids → vectors; files are read when they are first needed, and once."""

    def __init__(self, export_dir: Path, manifest: Manifest) -> None:
        self.export_dir, self.manifest = export_dir, manifest
        self._tensors = cache(self._load_tensors)
        self._decoder = cache(self._build_decoder)

    def vectors(self, feature: ExportedFeature, ids: Ids, form: Form) -> Floats:
        """Ids (L,) → (L, D) from this form, or from the other where the feature lacks it."""
        if len(ids) and not 0 <= ids.min() <= ids.max() < feature.num_ids:
            raise RecsysError(
                f"{feature.name}: an id is outside the feature's table",
                expected=f"0 … {feature.num_ids - 1}",
                got=f"{ids.min()} … {ids.max()}",
                fix="give rows of the data set that the model was trained on",
            )
        if form not in feature.forms:
            form = next(iter(feature.forms), form)
        if form == "native":
            return self._decoder(feature.name).vectors(ids)
        shape = (feature.num_ids, feature.dim)
        return self._table(str(feature.table), shape)[ids]

    def check_forms_agree(self, feature: ExportedFeature) -> None:
        """Compares the vectors of up to a million ids, where the feature has two forms."""
        if len(feature.forms) < 2 or self._is_same_file(feature):
            return
        count = min(feature.num_ids, COMPARED_IDS)
        ids = np.linspace(0, feature.num_ids - 1, count, dtype=np.int64)
        for start in range(0, count, IDS_AT_ONCE):
            block = ids[start : start + IDS_AT_ONCE]
            plain, native = (self.vectors(feature, block, form) for form in feature.forms)
            differs = np.flatnonzero(vector_differences(native, plain) > VECTOR_TOLERANCE)
            if len(differs):
                row = int(differs[0])
                raise RecsysError(
                    f"{feature.name}: the two forms of the vector of id {block[row]} differ",
                    where=self.export_dir,
                    expected=f"as in {feature.table}: {plain[row]}",
                    got=f"by its rule: {native[row]}",
                    fix="export the run again",
                )

    def _is_same_file(self, feature: ExportedFeature) -> bool:
        lookups = feature.native.rule.lookups if feature.native is not None else ()
        files = {t.file for k in lookups if (t := self.manifest.tables.get(k.table)) is not None}
        return files == {feature.table}

    def _build_decoder(self, name: str) -> Decoder:
        feature = next(f for f in self.manifest.sparse if f.name == name)
        native = feature.native
        assert native is not None  # `forms` says so
        where = f"{self.export_dir}: the rule of {name}"
        tables = {
            look.table: self._physical(self.manifest.tables[look.table])
            for look in native.rule.lookups
            if look.table in self.manifest.tables
        }
        tensors = {} if native.tensors is None else self._tensors(native.tensors)
        decoder = Decoder(native.rule, tables, tensors, where)
        width = decoder.vectors(np.zeros(1, np.int64)).shape[1]
        if width != feature.dim:
            raise RecsysError(
                "the rule makes vectors of another width",
                where=where,
                expected=feature.dim,
                got=width,
            )
        return decoder

    def _physical(self, table: PhysicalTable) -> Floats:
        return self._table(table.file, (table.num_rows, table.dim))

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
            return dict(load_file(self.export_dir / file))
        except (SafetensorError, OSError) as error:
            raise RecsysError(
                "the table is damaged", where=self.export_dir / file, got=error
            ) from None


def vector_differences(got: Floats, expected: Floats) -> NDArray[np.float64]:
    """Largest difference in each row (L,), relative to the largest entry of all where above 1."""
    difference = np.abs(got.astype(np.float64) - expected)
    difference[np.isnan(difference)] = np.inf
    scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
    return np.asarray(difference.max(axis=1, initial=0.0) / scale)
