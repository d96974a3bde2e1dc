"""The independent reader: an export scored with numpy, polars, safetensors and onnxruntime.

torch is never imported here, nor anything of the training side: what this reads, a serving stack
can read. It is also the reference for writing one in another language.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime
import polars as pl
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as onnx_errors
from safetensors import SafetensorError
from safetensors.numpy import load_file

from recsys.errors import RecsysError
from recsys.export.encoders import RawEncoder
from recsys.export.manifest import ExportedFeature, check_export, load_manifest

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
    """Scores raw rows, or rows that are encoded already."""

    def __init__(self, export_dir: Path, *, check: bool = True) -> None:
        self.manifest = check_export(export_dir) if check else load_manifest(export_dir)
        files = {feature.table for feature in self.manifest.sparse if feature.table is not None}
        self.tables = {file: _load_table(export_dir / file) for file in files}
        self.session = _load_graph(export_dir / self.manifest.model.dense.file)
        self.encoder = RawEncoder(self.manifest.features, export_dir)

    def score_raw(self, raw: pl.DataFrame) -> Scores:
        """Raw columns, as the data set's reader gives them → scores."""
        return self.score(self.encoder.encode(raw))

    def score(self, encoded: pl.DataFrame) -> Scores:
        """Columns of ids and numbers, as a data set's splits have them → scores."""
        empty = np.empty(0, np.float32)
        parts = [(empty, empty), *(self._score_chunk(chunk) for chunk in chunks(encoded))]
        logits, probabilities = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return Scores(logits, probabilities)

    def inputs(self, encoded: pl.DataFrame) -> dict[str, Floats]:
        """What the dense graph takes: a vector (B, D) for each feature, numericals (B, N)."""
        inputs = {f.graph_input: self.vectors(f, encoded) for f in self.manifest.sparse}
        numerical = self.manifest.numerical
        if numerical:
            columns = [_column(feature, encoded).cast(pl.Float32) for feature in numerical]
            inputs[numerical[0].graph_input] = pl.DataFrame(columns).to_numpy()
        return inputs

    def vectors(self, feature: ExportedFeature, encoded: pl.DataFrame) -> Floats:
        """One sparse feature's pooled vectors, (B, D)."""
        column = _column(feature, encoded)
        if feature.kind == "categorical":
            return self._rows(feature, column)
        lengths = column.list.len().to_numpy()
        rows = self._rows(feature, column.filter(column.list.len() > 0).explode())  # (L, D)
        return _pool(rows, lengths, is_mean=feature.pooling == "mean")

    def _rows(self, feature: ExportedFeature, ids: pl.Series) -> Floats:
        values = ids.to_numpy()
        if len(values) and not 0 <= values.min() <= values.max() < feature.num_ids:
            raise RecsysError(
                f"{feature.name}: an id is outside the feature's table",
                expected=f"0 … {feature.num_ids - 1}",
                got=f"{values.min()} … {values.max()}",
                fix="give rows of the data set that the model was trained on",
            )
        table: Floats = self.tables[str(feature.table)]
        return table[values]

    def _score_chunk(self, encoded: pl.DataFrame) -> Scores:
        return Scores(*self.session.run(list(Scores._fields), self.inputs(encoded)))


def _load_table(path: Path) -> Floats:
    try:
        table: Floats = load_file(path)["vectors"]
    except (SafetensorError, KeyError, OSError) as error:
        raise RecsysError("the table is damaged", where=path, got=error) from None
    return table


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
    """Answers requests, one JSON object a line: {rows: file, raw: bool, out: folder} → {error}.

    Rows and answers are Arrow files: `scores.arrow`, and `encoded.arrow` when the rows were raw.
    """
    reader = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reader = reader or ExportReader(export_dir)
            _answer(reader, Path(request["rows"]), Path(request["out"]), raw=request["raw"])
            error = None
        except RecsysError as refusal:
            error = str(refusal)
        sys.stdout.write(json.dumps({"error": error}) + "\n")
        sys.stdout.flush()


def _answer(reader: ExportReader, rows: Path, out: Path, *, raw: bool) -> None:
    encoded = pl.read_ipc(rows.read_bytes())
    if raw:
        encoded = reader.encoder.encode(encoded)
        encoded.write_ipc(out / "encoded.arrow")
    pl.DataFrame(reader.score(encoded)._asdict()).write_ipc(out / "scores.arrow")
