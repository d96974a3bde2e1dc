"""Raw values → ids and numbers, from the manifest and the vocabularies alone.

It shares no code with data_pipelines on purpose: `verify` compares the two.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from recsys.errors import RecsysError, did_you_mean
from recsys.io.paths import file_inside
from recsys.schema import (
    CriteoBucket,
    Feature,
    HashEncoding,
    Hour,
    Keep,
    Log,
    QuantileBuckets,
    Standardize,
    Transform,
    Weekday,
)
from recsys.serving.decoder import finalize
from recsys.serving.raw_values import (
    clock_tokens,
    to_moments,
    to_numbers,
    to_token_lists,
    to_tokens,
)

Floats = NDArray[np.float64]


class RawEncoder:
    """Encodes frames of raw columns as the splits of the dataset are encoded."""

    def __init__(self, features: Sequence[Feature], root: Path) -> None:
        self.features = tuple(features)
        self.vocabularies: dict[str, pl.DataFrame] = {}
        for encoding in (feature.encoding for feature in features):
            if encoding is not None and encoding.kind == "vocabulary":
                self.vocabularies[encoding.file] = _read_vocabulary(root, encoding.file)

    def encode(self, raw: pl.DataFrame) -> pl.DataFrame:
        """One column for each feature: float32, int32, or list of int32."""
        return pl.DataFrame([self._encode(feature, raw) for feature in self.features])

    def _encode(self, feature: Feature, raw: pl.DataFrame) -> pl.Series:
        column = _raw_column(feature, raw)
        if feature.kind == "sequence":
            return self._encode_sequence(feature, column)
        if feature.transform is not None:
            column = _transform(feature.transform, column)
        if feature.kind == "numerical":
            return column.cast(pl.Float32).alias(feature.name)
        return self._ids(feature, column).alias(feature.name)

    def _encode_sequence(self, feature: Feature, column: pl.Series) -> pl.Series:
        lengths = column.list.len().to_numpy().astype(np.int64)
        values = column.filter(pl.Series(lengths > 0)).explode()
        if feature.max_length is not None:
            values = values.filter(pl.Series(_is_in_tail(lengths, feature.max_length)))
            lengths = np.minimum(lengths, feature.max_length)
        ids = self._ids(feature, values.replace("", None))
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        bags = pa.LargeListArray.from_arrays(offsets, pa.array(ids.to_numpy()))
        return pl.Series(feature.name, bags)

    def _ids(self, feature: Feature, values: pl.Series) -> pl.Series:
        """int32 ids; 0 for missing values and values that are not in the vocabulary."""
        encoding = feature.encoding
        if encoding is None:
            raise ValueError(f"{feature.name} has no encoding")
        if isinstance(encoding, HashEncoding):
            hashes = hash_texts(values.cast(pl.String)) % np.uint64(feature.num_ids - 1)
            ids = (hashes.astype(np.int64) + 1) * values.is_not_null().to_numpy()
            return pl.Series(ids).cast(pl.Int32)
        table = self.vocabularies[encoding.file]
        keys = values.cast(table["value"].dtype).alias("value").to_frame()
        joined = keys.join(table, on="value", how="left", maintain_order="left")
        return joined["id"].fill_null(0).cast(pl.Int32)


def _read_vocabulary(root: Path, file: str) -> pl.DataFrame:
    path = root / file
    try:
        return pl.read_parquet(file_inside(root, file), columns=["value", "id"], glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise RecsysError(
            "the vocabulary is damaged", where=path, got=str(error).splitlines()[0]
        ) from None


def _is_in_tail(lengths: NDArray[np.int64], size: int) -> NDArray[np.bool_]:
    """Whether each item of the bags, end to end, is among the last `size` of its bag."""
    ends = np.repeat(np.cumsum(lengths), lengths)
    return np.asarray(np.arange(len(ends)) >= ends - size)


def _raw_column(feature: Feature, raw: pl.DataFrame) -> pl.Series:
    """The column that the feature is made from, as numbers or as text."""
    if feature.column not in raw.columns:
        raise RecsysError(
            f"{feature.name}: the raw rows have no column {feature.column!r}",
            expected=f"the columns that `recsys prepare` read, among them {feature.column!r}",
            got=", ".join(raw.columns),
            fix=did_you_mean(feature.column, raw.columns),
        )
    column = raw[feature.column].alias("x")  # polars reads some names as patterns
    if isinstance(feature.transform, Hour | Weekday):
        return to_moments(column, feature.transform.unit, feature.name, feature.column)
    if feature.kind == "numerical" or feature.transform is not None:
        return to_numbers(column, feature.name, feature.column)
    if feature.kind == "sequence":
        return to_token_lists(column, feature.name, feature.separator or "", feature.column)
    return to_tokens(column, feature.name, feature.column)


def _transform(transform: Transform, column: pl.Series) -> pl.Series:
    """Numbers without nulls, or integer tokens with nulls."""
    is_missing = column.is_null().to_numpy()
    values = column.fill_null(0.0).to_numpy()  # (B,)
    match transform:
        case Keep(missing=missing):
            return pl.Series(np.where(is_missing, missing, values))
        case Log(missing=missing):
            return pl.Series(np.where(is_missing, missing, np.log(1 + np.maximum(values, 0))))
        case Standardize(mean=mean, std=std):
            return pl.Series(np.where(is_missing, 0.0, (values - mean) / std))
        case CriteoBucket(missing=missing, absent=absent, shift=shift):
            tokens = _criteo_tokens(values, shift)
            if missing is not None:
                tokens = np.where(is_missing, missing, tokens)
                is_missing = np.zeros(len(tokens), np.bool_)
            is_missing = is_missing | np.isin(tokens, absent)
        case QuantileBuckets(edges=edges):
            tokens = (values[:, None] >= np.array(edges)).sum(axis=1)
        case Hour() | Weekday():
            tokens = clock_tokens(transform, values)
    return pl.Series(tokens, dtype=pl.Int64).set(pl.Series(is_missing), None)


def _criteo_tokens(values: Floats, shift: int) -> NDArray[np.int64]:
    logs = np.log(np.maximum(values, 1.0))
    return np.where(values > 2, np.floor(logs**2) + shift, np.trunc(values)).astype(np.int64)


def hash_texts(texts: pl.Series) -> NDArray[np.uint64]:
    """hash64, version 1, of each text's UTF-8 bytes (a null as the empty text).

    FNV-1a (64 bits), then splitmix64's finalizer: multiplications modulo 2⁶⁴.
    """
    texts = texts.fill_null("")
    lengths = texts.str.len_bytes().to_numpy().astype(np.int64)
    content = np.frombuffer((texts.str.join("").item() or "").encode(), np.uint8)
    starts = np.cumsum(lengths) - lengths
    hashes = np.full(len(texts), 0xCBF29CE484222325, np.uint64)
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length)
        letters = content[starts[rows, None] + np.arange(length)].astype(
            np.uint64
        )  # (rows, length)
        for position in range(length):
            hashes[rows] = (hashes[rows] ^ letters[:, position]) * np.uint64(0x100000001B3)
    return finalize(hashes)
