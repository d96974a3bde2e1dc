"""Scores an export with numpy, polars, safetensors and onnxruntime; torch is never imported.

This is also the reference for a reader in another language. `recsys verify` compares it with the
trained model.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.errors import RecsysError
from recsys.io.paths import file_inside
from recsys.serving.encoders import RawEncoder
from recsys.serving.features import ExportedEmbedding, ExportedFeature, ExportedPair
from recsys.serving.graph_spec import GraphSpec
from recsys.serving.manifest import check_export, load_manifest
from recsys.serving.table_forms.base import Floats, Ids
from recsys.serving.tables import FeatureTables

if TYPE_CHECKING:
    import onnxruntime

Inputs = Floats | Ids
# Scored at once: rows, and behaviors if every history were as long as it may be.
CHUNK_ROWS, CHUNK_BEHAVIORS = 1 << 12, 1 << 18


class Scores(NamedTuple):
    """Scores of B rows: logits and probabilities, (B,) float32 each."""

    logits: Floats
    probabilities: Floats


class ExportReader:
    """Scores raw or encoded rows with an export.

    For example::

        reader = ExportReader("exports/dcn_v2")
        reader.score_raw(pl.read_csv("rows.csv", infer_schema=False)).probabilities  # (B,)
    """

    def __init__(self, export_dir: Path | str, *, check: bool = True, threads: int = 0) -> None:
        """Reads the manifest and loads the network; tables are read when they are first needed.

        Args:
            export_dir: a folder that `recsys export` wrote.
            check: whether the checksum of every file is verified first.
            threads: threads of onnxruntime within an operator; 0: one for each core.

        Raises:
            RecsysError: if the folder is not an export, or a file is missing or damaged.
        """
        export_dir = Path(export_dir)
        self.manifest = check_export(export_dir) if check else load_manifest(export_dir)
        self.tables = FeatureTables(export_dir, (e for e, _ in self.manifest.embeddings))
        spec = self.manifest.model.dense
        self.graph_file = file_inside(export_dir, spec.file)
        self.session = _load_graph(self.graph_file, spec, threads)
        self.encoder = RawEncoder(self.manifest.features, export_dir)
        self.longest = max((pair.max_length for pair in self.manifest.pairs), default=0)

    def score_raw(self, raw: pl.DataFrame, form: str | None = None) -> Scores:
        """Scores rows of raw values.

        Args:
            raw: B rows with the columns that `recsys prepare` read, before any encoding.
            form: the table form to read, such as `native`; by default each feature's first one.

        Raises:
            RecsysError: if a column is missing, or a value cannot be encoded.
        """
        return self.score(self.encoder.encode(raw), form)

    def score(self, encoded: pl.DataFrame, form: str | None = None) -> Scores:
        """Scores encoded rows.

        Args:
            encoded: B rows with a column for each feature, as the splits of a dataset have them:
                int32 ids, lists of int32 ids, float32 numbers.
            form: the table form to read, such as `native`; by default each feature's first one.

        Raises:
            RecsysError: if a column is missing, an id is outside its table, or a history is longer
                than the model reads.
        """
        empty = np.empty(0, np.float32)
        scored = (self._score_chunk(chunk, form) for chunk in chunks(encoded, self.longest))
        parts = [(empty, empty), *scored]
        logits, probabilities = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return Scores(logits, probabilities)

    def inputs(self, encoded: pl.DataFrame, form: str | None = None) -> dict[str, Inputs]:
        """The inputs of the network: embeddings' vectors, lengths (B,), numericals (B, N)."""
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

    def vectors(self, encoded: pl.DataFrame, form: str | None = None) -> dict[str, Floats]:
        """Vectors by embedding: (B, D), pooled; of a history (L, D), all rows' end to end."""
        return {
            embedding.name: self._vectors(embedding, feature, encoded, form)
            for embedding, feature in self.manifest.embeddings
        }

    def check_forms_agree(self) -> None:
        """Raises RecsysError if two table forms hold different vectors of an id."""
        for embedding, _ in self.manifest.embeddings:
            self.tables.check_forms_agree(embedding)

    def _vectors(
        self,
        embedding: ExportedEmbedding,
        feature: ExportedFeature,
        encoded: pl.DataFrame,
        form: str | None,
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
        """(B,); refuses histories of one pair that differ in length or are too long."""
        features = {feature.name: feature for feature in self.manifest.sparse}
        columns = [_column(features[name], encoded) for name in pair.history]
        first, *others = [column.list.len().to_numpy().astype(np.int64) for column in columns]
        for name, lengths in zip(pair.history[1:], others, strict=True):
            differs = np.flatnonzero(first != lengths)
            if len(differs):
                row = int(differs[0])
                raise RecsysError(
                    f"{pair.history[0]} and {name} differ in length in a row",
                    expected="equal lengths: both describe the same behaviors",
                    got=f"{first[row]} and {lengths[row]} behaviors in a row",
                )
        if first.max(initial=0) > pair.max_length:
            raise RecsysError(
                f"{pair.history[0]}: a history is longer than the model reads",
                expected=f"at most {pair.max_length} behaviors, the last ones",
                got=int(first.max()),
                fix="give rows of the dataset that the model was trained on",
            )
        return first

    def _score_chunk(self, encoded: pl.DataFrame, form: str | None) -> Scores:
        inputs = self.inputs(encoded, form)
        try:
            return Scores(*self.session.run(list(Scores._fields), inputs))
        except _graph_errors() as error:
            raise RecsysError(
                "the graph cannot score the rows", where=self.graph_file, got=error
            ) from None


def _graph_errors() -> tuple[type[Exception], ...]:
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    return (
        errors.Fail,
        errors.InvalidGraph,
        errors.InvalidProtobuf,
        errors.InvalidArgument,
        errors.NoSuchFile,
        errors.NotImplemented,
        errors.RuntimeException,
    )


def _load_graph(path: Path, spec: GraphSpec, threads: int) -> "onnxruntime.InferenceSession":
    """Loads the bytes that were checked: no other file is read, and none can change in between."""
    import onnxruntime  # onnx and onnxruntime take a second to import

    from recsys.serving.onnx_checks import read_graph

    content = read_graph(path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
    except _graph_errors() as error:
        raise RecsysError("the graph is damaged", where=path, got=error) from None
    for expected, got in (
        (spec.inputs, session.get_inputs()),
        (spec.outputs, session.get_outputs()),
    ):
        names = [tensor.name for tensor in expected]
        found = [tensor.name for tensor in got]
        if names != found:
            raise RecsysError(
                "the graph does not fit the manifest",
                where=path,
                expected=f"tensors {', '.join(names)}",
                got=", ".join(found),
            )
    return session


def chunks(frame: pl.DataFrame, longest: int = 0) -> Iterator[pl.DataFrame]:
    """The frame in slices whose memory is bounded, for histories of at most `longest` behaviors."""
    rows = min(CHUNK_ROWS, CHUNK_BEHAVIORS // max(longest, 1))
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
            expected=f"a column {feature.name!r}, encoded as in the dataset of the model",
            got=", ".join(encoded.columns),
        )
    column = encoded[feature.name]
    if column.null_count():
        raise RecsysError(f"{feature.name}: an encoded value is missing", got="null")
    return column
