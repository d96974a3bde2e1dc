"""The encoded rows that a comparison reads: a data set, one of its splits, or a Parquet file."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.errors import RecsysError
from recsys.schema import SCHEMA_FILE, Feature, Schema, load_schema
from recsys.serving.manifest import Manifest

CHUNK_ROWS = 1 << 15
MAGIC = b"PAR1"
SPLITS = ("test", "valid", "train")  # a data set's own rows, most telling first


def read_encoded(data: Path, manifest: Manifest) -> Iterator[pl.DataFrame]:
    """The feature columns, and the label where there is one, in chunks of whole rows."""
    files = _files(data, manifest)  # now, so that wrong data are refused before any work
    return chain.from_iterable(_read_file(path, manifest) for path in files)


def _files(data: Path, manifest: Manifest) -> list[Path]:
    if data.is_file():
        return [data]
    dataset_dir = data if (data / SCHEMA_FILE).exists() else data.parent
    if not data.is_dir() or not (dataset_dir / SCHEMA_FILE).exists():
        raise RecsysError(
            f"there are no rows to score at {data}",
            expected="a data set, the folder of one of its splits, a Parquet file or a raw file",
        )
    schema = load_schema(dataset_dir)
    _check_features(schema, manifest)
    name = data.name
    if dataset_dir == data:
        name = next((split for split in SPLITS if split in schema.splits), "test")
    return [dataset_dir / file.path for file in schema.split(name).files]


def _check_features(schema: Schema, manifest: Manifest) -> None:
    for exported in manifest.features:
        feature = schema.feature(exported.name)
        expected, got = (meaning_of(f) for f in (exported, feature))
        if expected != got:
            raise RecsysError(
                f"{feature.name}: the data set {schema.name!r} encodes it in another way",
                expected=f"as in {manifest.dataset.name!r}, which the model was trained on: "
                f"{expected}",
                got=got,
                fix="give the data set that the model was trained on, or raw rows",
            )


def meaning_of(feature: Feature) -> tuple[object, ...]:
    """What an encoded value of a feature depends on."""
    return feature.kind, feature.cardinality, feature.transform


def parquet_schema(path: Path) -> pa.Schema | None:
    """The columns of a Parquet file; None of any other file."""
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                return None
        return pq.read_schema(path)
    except (OSError, pa.ArrowException):
        return None


def has_encoded_columns(columns: pa.Schema, manifest: Manifest) -> bool:
    """Whether there is a column of every feature, of the type that `recsys prepare` writes."""
    return all(
        feature.name in columns.names and TYPES[feature.kind][1](columns.field(feature.name).type)
        for feature in manifest.features
    )


def _check_types(columns: pa.Schema, manifest: Manifest, path: Path) -> None:
    """Refuses values that are no ids or numbers of a prepared data set."""
    for feature in manifest.features:
        expected, fits = TYPES[feature.kind]
        found = columns.field(feature.name).type
        if not fits(found):
            raise RecsysError(
                f"the column {feature.name!r} does not hold encoded values",
                where=path,
                expected=f"{expected}, as `recsys prepare` writes a {feature.kind} feature",
                got=found,
                fix="is the file raw? then verify it with --raw",
            )


def _is_ids(found: pa.DataType) -> bool:
    is_list = pa.types.is_list(found) or pa.types.is_large_list(found)
    return is_list and pa.types.is_int32(found.value_type)


TYPES = {
    "categorical": ("int32", pa.types.is_int32),
    "sequence": ("list<int32>", _is_ids),
    "numerical": ("float32", pa.types.is_float32),
}


def _read_file(path: Path, manifest: Manifest) -> Iterator[pl.DataFrame]:
    try:
        with pq.ParquetFile(path) as file:
            known = file.schema_arrow.names
            names = [feature.name for feature in manifest.features]
            for name in names:
                if name not in known:
                    raise RecsysError(
                        f"the rows have no column for the feature {name!r}",
                        where=path,
                        expected="an encoded split (raw rows need their data set's recipe)",
                        got=", ".join(known),
                    )
            _check_types(file.schema_arrow, manifest, path)
            wanted = [*names, *({manifest.label} & set(known))]
            for batch in file.iter_batches(CHUNK_ROWS, columns=wanted):
                yield pl.DataFrame(pl.from_arrow(batch))
    except PermissionError:
        raise RecsysError("no permission to read the rows", where=path) from None
    except (OSError, pa.ArrowException) as error:
        raise RecsysError(
            "this is not a whole Parquet file", where=path, got=str(error).splitlines()[0]
        ) from None
