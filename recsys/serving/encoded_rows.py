"""Reads encoded rows: of a dataset, one of its splits, or a Parquet file."""

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.errors import RecsysError
from recsys.schema import SCHEMA_FILE, Feature, load_schema
from recsys.serving.manifest import Manifest, describe_path

CHUNK_ROWS = 1 << 15
MAGIC = b"PAR1"
SPLITS = ("test", "valid", "train")  # of a dataset folder the first that it has


def read_encoded(data: Path, manifest: Manifest) -> Iterator[pl.DataFrame]:
    """Yields the feature columns, and the label if there is one, in chunks of rows.

    Args:
        data: a dataset folder, the folder of one split, or a Parquet file.
        manifest: of the export that will score the rows.

    Raises:
        RecsysError: if there are no such rows, or they do not fit the export's features.
    """
    files = _files(data, manifest)  # before any row is read
    return chain.from_iterable(_read_file(path, manifest) for path in files)


def _files(data: Path, manifest: Manifest) -> list[Path]:
    if data.is_file():
        return [data]
    dataset_dir = data if (data / SCHEMA_FILE).exists() else data.parent
    if not data.is_dir() or not (dataset_dir / SCHEMA_FILE).exists():
        raise _no_rows(data)
    schema = load_schema(dataset_dir)
    check_features(schema.features, manifest, dataset_dir, may_have_more=True)
    name = data.name
    if dataset_dir == data:
        name = next((split for split in SPLITS if split in schema.splits), "test")
    files = [dataset_dir / file.path for file in schema.split(name).files]
    if files and not files[0].exists():  # a run or an export has a schema too
        raise _no_rows(data)
    return files


def _no_rows(data: Path) -> RecsysError:
    return RecsysError(
        f"no rows to score at {data}",
        where="--data",
        expected="a dataset folder that `recsys prepare` wrote, the folder of one of its splits, a "
        "Parquet file of encoded rows, or a raw file",
        got=describe_path(data),
        fix="give a dataset such as datasets/criteo_kaggle, or one raw file",
    )


def check_features(
    features: Iterable[Feature], manifest: Manifest, where: Path, *, may_have_more: bool = False
) -> None:
    """Refuses a dataset or run whose features are encoded differently than the export's."""
    own = {feature.name: _encoding(feature) for feature in features}
    exported = {feature.name: _encoding(feature) for feature in manifest.features}
    names = exported if may_have_more else own.keys() | exported
    differing = [name for name in sorted(names) if own.get(name) != exported.get(name)]
    if differing:
        name = differing[0]
        raise RecsysError(
            f"the features differ from the export's: {', '.join(differing[:5])}"
            + (" …" if len(differing) > 5 else ""),
            where=where,
            expected=f"{name}: {exported.get(name, 'no such feature')}, as in the dataset "
            f"{manifest.dataset.name!r} of the model",
            got=f"{name}: {own.get(name, 'no such feature')}",
            fix="give the dataset or run that the export was made from; or raw rows, or no --run",
        )


def _encoding(feature: Feature) -> tuple[object, ...]:
    """Everything that an encoded value of a feature depends on."""
    return feature.kind, feature.cardinality, feature.transform


def parquet_schema(path: Path) -> pa.Schema | None:
    """The columns of a Parquet file; None for any other file."""
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                return None
        return pq.read_schema(path)
    except (OSError, pa.ArrowException):
        return None


def has_encoded_columns(columns: pa.Schema, manifest: Manifest) -> bool:
    """Whether every feature has a column of the type that `recsys prepare` writes."""
    return all(
        feature.name in columns.names and TYPES[feature.kind][1](columns.field(feature.name).type)
        for feature in manifest.features
    )


def _check_types(columns: pa.Schema, manifest: Manifest, path: Path) -> None:
    """Refuses columns that cannot hold the ids or numbers of a prepared dataset."""
    for feature in manifest.features:
        expected, fits = TYPES[feature.kind]
        found = columns.field(feature.name).type
        if not fits(found):
            raise RecsysError(
                f"the column {feature.name!r} does not hold encoded values",
                where=path,
                expected=f"{expected}, as `recsys prepare` writes a {feature.kind} feature",
                got=found,
                fix="if the file holds raw values, add --raw",
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
                        expected=f"a column for each feature: {', '.join(names)}",
                        got=", ".join(known),
                        fix="if the file holds raw values, add --raw",
                    )
            _check_types(file.schema_arrow, manifest, path)
            wanted = [*names, *({manifest.label} & set(known))]
            for batch in file.iter_batches(CHUNK_ROWS, columns=wanted):
                yield pl.DataFrame(pl.from_arrow(batch))
    except PermissionError:
        raise RecsysError("no permission to read the rows", where=path) from None
    except (OSError, pa.ArrowException) as error:
        raise RecsysError(
            "not a complete Parquet file",
            where=path,
            expected="encoded rows in Parquet, as `recsys prepare` writes them",
            got=str(error).splitlines()[0],
            fix="if the file holds raw values, add --raw; otherwise copy or prepare it again",
        ) from None
