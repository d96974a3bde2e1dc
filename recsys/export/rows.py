"""The encoded rows that a comparison reads: a data set, one of its splits, or a Parquet file."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.errors import RecsysError
from recsys.export.manifest import Manifest
from recsys.schema import SCHEMA_FILE, Feature, Schema, load_schema

CHUNK_ROWS = 1 << 15
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
        expected, got = (_meaning(f) for f in (exported, feature))
        if expected != got:
            raise RecsysError(
                f"{feature.name}: the data set {schema.name!r} encodes it in another way",
                expected=f"as in {manifest.dataset.name!r}, which the model was trained on: "
                f"{expected}",
                got=got,
                fix="give the data set that the model was trained on, or raw rows",
            )


def _meaning(feature: Feature) -> tuple[object, ...]:
    return feature.kind, feature.cardinality, feature.transform


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
            wanted = [*names, *({manifest.label} & set(known))]
            for batch in file.iter_batches(CHUNK_ROWS, columns=wanted):
                yield pl.DataFrame(pl.from_arrow(batch))
    except PermissionError:
        raise RecsysError("no permission to read the rows", where=path) from None
    except (OSError, pa.ArrowException) as error:
        raise RecsysError(
            "this is not a whole Parquet file", where=path, got=str(error).splitlines()[0]
        ) from None
