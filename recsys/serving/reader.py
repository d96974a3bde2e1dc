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
from safetensors.numpy import save_file

from recsys.errors import RecsysError
from recsys.io.paths import file_inside
from recsys.serving.decoder import Floats, Ids
from recsys.serving.encoders import RawEncoder
from recsys.serving.features import ExportedEmbedding, ExportedFeature, ExportedPair, Form
from recsys.serving.manifest import GraphSpec, check_export, load_manifest
from recsys.serving.onnx_checks import read_graph
from recsys.serving.tables import FeatureTables

Inputs = Floats | Ids
GRAPH_ERRORS = (
    onnx_errors.Fail,
    onnx_errors.InvalidGraph,
    onnx_errors.InvalidProtobuf,
    onnx_errors.InvalidArgument,
    onnx_errors.NoSuchFile,
    onnx_errors.NotImplemented,
    onnx_errors.RuntimeException,
)
# scored at once: rows, and behaviours if every history were as long as it may be
CHUNK_ROWS, CHUNK_BEHAVIOURS = 1 << 12, 1 << 18


class Scores(NamedTuple):
    """logits and probabilities, (B,) each."""

    logits: Floats
    probabilities: Floats


class ExportReader:
    """Scores raw rows, or rows that are encoded already, by either form of the tables."""

    def __init__(self, export_dir: Path, *, check: bool = True, threads: int = 0) -> None:
        """`threads`: of onnxruntime within an operator; 0 is its default, a thread a core."""
        self.manifest = check_export(export_dir) if check else load_manifest(export_dir)
        self.tables = FeatureTables(export_dir, self.manifest)
        spec = self.manifest.model.dense
        self.graph_file = file_inside(export_dir, spec.file)
        self.session = _load_graph(self.graph_file, spec, threads)
        self.encoder = RawEncoder(self.manifest.features, export_dir)
        self.longest = max((pair.max_length for pair in self.manifest.pairs), default=0)

    def score_raw(self, raw: pl.DataFrame, form: Form = "materialized") -> Scores:
        """Raw columns, as the data set's reader gives them → scores."""
        return self.score(self.encoder.encode(raw), form)

    def score(self, encoded: pl.DataFrame, form: Form = "materialized") -> Scores:
        """Columns of ids and numbers, as a data set's splits have them → scores."""
        empty = np.empty(0, np.float32)
        scored = (self._score_chunk(chunk, form) for chunk in chunks(encoded, self.longest))
        parts = [(empty, empty), *scored]
        logits, probabilities = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return Scores(logits, probabilities)

    def inputs(self, encoded: pl.DataFrame, form: Form = "materialized") -> dict[str, Inputs]:
        """What the dense graph takes: embeddings' vectors, lengths (B,), numericals (B, N)."""
        vectors = self.vectors(encoded, form)
        inputs: dict[str, Inputs] = {
            embedding.graph_input: vectors[embedding.name]
            for embedding, _ in self.manifest.embeddings
        }
        inputs |= {pair.lengths: self._lengths(pair, encoded) for pair in self.manifest.pairs}
        numerical = self.manifest.numerical
        if numerical:
            columns = [_column(feature, encoded).cast(pl.Float32) for feature in numerical]
            inputs[numerical[0].graph_input] = pl.DataFrame(columns).to_numpy()
        return inputs

    def vectors(self, encoded: pl.DataFrame, form: Form = "materialized") -> dict[str, Floats]:
        """Of each embedding, by name: (B, D), pooled; of a history (L, D), rows' end to end."""
        return {
            embedding.name: self._vectors(embedding, feature, encoded, form)
            for embedding, feature in self.manifest.embeddings
        }

    def check_forms_agree(self) -> None:
        """Refuses an export whose two forms make different vectors of an id."""
        for embedding, _ in self.manifest.embeddings:
            self.tables.check_forms_agree(embedding)

    def _vectors(
        self,
        embedding: ExportedEmbedding,
        feature: ExportedFeature,
        encoded: pl.DataFrame,
        form: Form,
    ) -> Floats:
        column = _column(feature, encoded)
        if feature.kind == "categorical":
            return self.tables.vectors(embedding, _ids(column), form)
        lengths = column.list.len()
        items = column.filter(lengths > 0).explode()
        vectors = self.tables.vectors(embedding, _ids(items), form)  # (L, D)
        if feature.name in self.manifest.histories:
            return vectors
        return _pool(vectors, lengths.to_numpy(), is_mean=feature.pooling == "mean")

    def _lengths(self, pair: ExportedPair, encoded: pl.DataFrame) -> Ids:
        """(B,); refuses histories of one pair that differ in length, or are too long."""
        features = {feature.name: feature for feature in self.manifest.sparse}
        columns = [_column(features[name], encoded) for name in pair.history]
        first, *others = [column.list.len().to_numpy().astype(np.int64) for column in columns]
        for name, lengths in zip(pair.history[1:], others, strict=True):
            differs = np.flatnonzero(first != lengths)
            if len(differs):
                row = int(differs[0])
                raise RecsysError(
                    f"{pair.history[0]} and {name} are not of one length in every row",
                    expected="histories that describe the same behaviours",
                    got=f"{first[row]} and {lengths[row]} behaviours in a row",
                )
        if first.max(initial=0) > pair.max_length:
            raise RecsysError(
                f"{pair.history[0]}: a history is longer than the model reads",
                expected=f"at most {pair.max_length} behaviours, the last ones",
                got=int(first.max()),
                fix="give rows of the data set that the model was trained on",
            )
        return first

    def _score_chunk(self, encoded: pl.DataFrame, form: Form) -> Scores:
        inputs = self.inputs(encoded, form)
        try:
            return Scores(*self.session.run(list(Scores._fields), inputs))
        except GRAPH_ERRORS as error:
            raise RecsysError(
                "the graph cannot score the rows", where=self.graph_file, got=error
            ) from None


def _load_graph(path: Path, spec: GraphSpec, threads: int) -> onnxruntime.InferenceSession:
    """From bytes that were checked, so that no other file is read and nothing changes between."""
    content = read_graph(path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
    except GRAPH_ERRORS as error:
        raise RecsysError("the graph is damaged", where=path, got=error) from None
    for expected, got in (
        (spec.inputs, session.get_inputs()),
        (spec.outputs, session.get_outputs()),
    ):
        names = [tensor.name for tensor in expected]
        found = [tensor.name for tensor in got]
        if names != found:
            raise RecsysError(
                "the graph and the manifest do not belong together",
                where=path,
                expected=f"tensors {', '.join(names)}",
                got=", ".join(found),
            )
    return session


def chunks(frame: pl.DataFrame, longest: int = 0) -> Iterator[pl.DataFrame]:
    """The frame's rows, so many at a time that memory is bounded; no history is above `longest`."""
    rows = min(CHUNK_ROWS, CHUNK_BEHAVIOURS // max(longest, 1))
    return frame.iter_slices(max(rows, 1))


def _ids(column: pl.Series) -> Ids:
    return column.to_numpy().astype(np.int64)


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
    rows, `vectors.FORM.safetensors` for each form; `encoded.arrow` when the rows were raw.
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
        save_file(reader.vectors(head, form), out / f"vectors.{form}.safetensors")
