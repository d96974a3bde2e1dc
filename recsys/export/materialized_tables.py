"""Materialized tables as files: safetensors for programs, Parquet (id, vector) for all else."""

from collections.abc import Collection
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.torch import save_file
from torch import Tensor

from recsys.embeddings.collection import FeatureEmbeddings
from recsys.embeddings.feature_methods import source_of
from recsys.io.file_names import file_stems

TENSOR_NAME = "vectors"
ROW_GROUP_ROWS = 1 << 17
MAX_NAME = 120  # characters of a file's name before its suffix


def write_tables(
    embeddings: FeatureEmbeddings,
    shared_tables: dict[str, str],
    chosen: Collection[str],
    folder: Path,
) -> dict[str, str]:
    """These embeddings as (V, D); returns embedding → file below `folder`.

    Those that share a table share its file, unless they make something of it with parameters of
    their own. What attention compares has files of its own. The Parquet twin has the suffix
    .parquet.
    """
    (folder / "tables").mkdir()
    files: dict[str, str] = {}
    for name, method in embeddings.methods.items():
        if name not in chosen:
            continue
        is_own = next(method.parameters(), None) is not None
        owner = name if is_own else _owner(name, shared_tables, embeddings.methods)
        file = f"tables/{file_name(owner)}.safetensors"
        if file not in files.values():
            _write_table(embeddings.materialize(owner).cpu().contiguous(), folder / file)
        files[name] = file
    return files


def _owner(embedding: str, shared_tables: dict[str, str], known: Collection[str]) -> str:
    """The embedding whose table it reads."""
    feature = source_of(embedding)
    owner = shared_tables.get(feature, feature) + embedding.removeprefix(feature)
    return owner if owner in known else embedding


def file_name(embedding: str) -> str:
    """An embedding's name as that of a file; `@attention` can be read in it."""
    quoted = quote(embedding, safe="@")
    return quoted if len(quoted) <= MAX_NAME else file_stems([embedding])[embedding]


def parquet_twin(table: str) -> str:
    """The Parquet file beside a safetensors file."""
    return table.removesuffix(".safetensors") + ".parquet"


def _write_table(vectors: Tensor, path: Path) -> None:
    save_file({TENSOR_NAME: vectors}, path)
    rows, dim = vectors.shape
    id_type = pa.int32() if rows <= 2**31 else pa.int64()
    schema = pa.schema([("id", id_type), ("vector", pa.list_(pa.float32(), dim))])
    with pq.ParquetWriter(
        path.with_suffix(".parquet"), schema, sorting_columns=[pq.SortingColumn(0)]
    ) as writer:
        for start in range(0, rows, ROW_GROUP_ROWS):
            block = vectors[start : start + ROW_GROUP_ROWS]
            ids = pa.array(np.arange(start, start + len(block)), id_type)
            values = pa.FixedSizeListArray.from_arrays(pa.array(block.reshape(-1).numpy()), dim)
            writer.write_table(pa.table([ids, values], schema))
