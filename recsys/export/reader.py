"""The independent reader: an export scored with numpy, polars, safetensors and onnxruntime.

torch is never imported here, nor anything of the training side: what this reads, a serving stack
can read. It is also the reference for writing one in another language.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import polars as pl
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as onnx_errors

from recsys.errors import RecsysError
from recsys.export.encoders import RawEncoder
from recsys.export.feature_tables import FeatureTables
from recsys.export.manifest import ExportedFeature, Form, check_export, load_manifest

Floats = NDArray[np.float32]
GRAPH_ERRORS = (
    onnx_errors.Fail,
    onnx_errors.InvalidGraph,
    onnx_errors.InvalidProtobuf,
    onnx_errors.InvalidArgument,
    onnx_errors.NoSuchFile,
    onnx_errors.NotImplemented,
)
CHUNK_ROWS = 1 << 12  # rows scored at once: bounds the memory of attention


class Scores(NamedTuple):
    """logits and probabilities, (B,) each."""

    logits: Floats
    probabilities: Floats


class ExportReader:
    """Scores raw rows, or rows that are encoded already, by either form of the tables."""

    def __init__(self, export_dir: Path, *, check: bool = True) -> None:
        self.manifest = check_export(export_dir) if check else load_manifest(export_dir)
        self.tables = FeatureTables(export_dir, self.manifest)
        self.session = _load_graph(export_dir / self.manifest.model.dense.file)
        self.encoder = RawEncoder(self.manifest.features, export_dir)

    def score_raw(self, raw: pl.DataFrame, form: Form = "materialised") -> Scores:
        """Raw columns, as the data set's reader gives them → scores."""
        return self.score(self.encoder.encode(raw), form)

    def score(self, encoded: pl.DataFrame, form: Form = "materialised") -> Scores:
        """Columns of ids and numbers, as a data set's splits have them → scores."""
        empty = np.empty(0, np.float32)
        parts = [(empty, empty), *(self._score_chunk(chunk, form) for chunk in chunks(encoded))]
        logits, probabilities = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return Scores(logits, probabilities)

    def inputs(self, encoded: pl.DataFrame, form: Form = "materialised") -> dict[str, Floats]:
        """What the dense graph takes: a vector (B, D) for each feature, numericals (B, N)."""
        inputs = {f.graph_input: self.vectors(f, encoded, form) for f in self.manifest.sparse}
        numerical = self.manifest.numerical
        if numerical:
            columns = [_column(feature, encoded).cast(pl.Float32) for feature in numerical]
            inputs[numerical[0].graph_input] = pl.DataFrame(columns).to_numpy()
        return inputs

    def vectors(
        self, feature: ExportedFeature, encoded: pl.DataFrame, form: Form = "materialised"
    ) -> Floats:
        """One sparse feature's pooled vectors, (B, D)."""
        column = _column(feature, encoded)
        if feature.kind == "categorical":
            return self._vectors(feature, column, form)
        lengths = column.list.len().to_numpy()
        items = column.filter(column.list.len() > 0).explode()
        vectors = self._vectors(feature, items, form)  # (L, D)
        return _pool(vectors, lengths, is_mean=feature.pooling == "mean")

    def side_by_side(self, encoded: pl.DataFrame, form: Form) -> Floats:
        """All sparse features' pooled vectors, (B, ΣD)."""
        vectors = [self.vectors(feature, encoded, form) for feature in self.manifest.sparse]
        return np.concatenate(vectors, axis=1)

    def check_forms_agree(self) -> None:
        """Refuses an export whose two forms make different vectors of an id."""
        for feature in self.manifest.sparse:
            self.tables.check_forms_agree(feature)

    def _vectors(self, feature: ExportedFeature, ids: pl.Series, form: Form) -> Floats:
        return self.tables.vectors(feature, ids.to_numpy().astype(np.int64), form)

    def _score_chunk(self, encoded: pl.DataFrame, form: Form) -> Scores:
        return Scores(*self.session.run(list(Scores._fields), self.inputs(encoded, form)))


def _load_graph(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
    except GRAPH_ERRORS as error:
        raise RecsysError("the graph is damaged", where=path, got=error) from None


def chunks(frame: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """The frame's rows, CHUNK_ROWS at a time."""
    return frame.iter_slices(CHUNK_ROWS)


def _pool(rows: Floats, lengths: NDArray[np.uint32], *, is_mean: bool) -> Floats:
    """Rows (L, D) of bags end to end → their sum or mean, (B, D); an empty bag is zeros."""
    pooled = np.zeros((len(lengths), rows.shape[1]), np.float32)
    filled = np.flatnonzero(lengths)
    if len(filled):
        starts = np.cumsum(lengths[filled]) - lengths[filled]
        pooled[filled] = np.add.reduceat(rows, starts.astype(np.int64), axis=0)
    if is_mean:
        pooled /= np.maximum(lengths, 1)[:, None]
    return pooled


def _column(feature: ExportedFeature, encoded: pl.DataFrame) -> pl.Series:
    if feature.name not in encoded.columns:
        raise RecsysError(
            f"the rows have no column for the feature {feature.name!r}",
            expected="an encoded split of the data set that the model was trained on",
            got=", ".join(encoded.columns),
        )
    column = encoded[feature.name]
    if column.null_count():
        raise RecsysError(f"{feature.name}: an encoded value is missing", got="null")
    return column


def serve(export_dir: Path) -> None:
    """Answers requests, one JSON object a line, with {error}; rows and answers are files.

    {check_forms: true} → nothing more.
    {rows: file, raw: bool, vector_rows: n, out: folder} → `scores.FORM.arrow` and, of the first n
    rows, `vectors.FORM.npy` for each form; `encoded.arrow` when the rows were raw.
    """
    reader = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reader = reader or ExportReader(export_dir)
            if "check_forms" in request:
                reader.check_forms_agree()
            else:
                _answer(reader, request, Path(request["out"]))
            error = None
        except RecsysError as refusal:
            error = str(refusal)
        sys.stdout.write(json.dumps({"error": error}) + "\n")
        sys.stdout.flush()


def _answer(reader: ExportReader, request: dict[str, Any], out: Path) -> None:
    encoded = pl.read_ipc(Path(request["rows"]).read_bytes())
    if request["raw"]:
        encoded = reader.encoder.encode(encoded)
        encoded.write_ipc(out / "encoded.arrow")
    head = encoded[: request["vector_rows"]]
    for form in reader.manifest.forms:
        pl.DataFrame(reader.score(encoded, form)._asdict()).write_ipc(out / f"scores.{form}.arrow")
        np.save(out / f"vectors.{form}.npy", reader.side_by_side(head, form), allow_pickle=False)
