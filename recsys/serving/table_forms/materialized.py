"""The materialized form: one float32 table id → vector for each feature."""

from pathlib import Path

import numpy as np

from recsys.serving.features import StoredForm
from recsys.serving.table_forms.base import (
    Floats,
    RowPerId,
    TableFiles,
    TrainedEmbedding,
    file_name,
)

ROW_GROUP_ROWS = 1 << 17


class Materialized(RowPerId):
    """Row i is the vector of id i; beside it the same as Parquet with columns id, vector."""

    name = "materialized"
    description = "one float32 table id → vector for each feature"
    dtype = "float32"
    is_default = True
    folder = "tables"

    def write(self, embedding: TrainedEmbedding, files: TableFiles) -> StoredForm:
        stem = f"{self.folder}/{file_name(embedding.owner)}"
        file, parquet = f"{stem}.safetensors", f"{stem}.parquet"
        if not (files.folder / file).exists():
            vectors = embedding.vectors()
            files.save(file, lambda: self.encode(vectors))
            _write_parquet(vectors, files.folder / parquet)
        if embedding.plain_table is not None:
            files.plain_tables[embedding.plain_table] = file
        return StoredForm(dtype=self.dtype, file=file, parquet=parquet)


def _write_parquet(vectors: Floats, path: Path) -> None:
    import pyarrow as pa  # here: whoever reads safetensors does not need it
    import pyarrow.parquet as pq

    rows, dim = vectors.shape
    id_type = pa.int32() if rows <= 2**31 else pa.int64()
    schema = pa.schema([("id", id_type), ("vector", pa.list_(pa.float32(), dim))])
    with pq.ParquetWriter(path, schema, sorting_columns=[pq.SortingColumn(0)]) as writer:
        for start in range(0, rows, ROW_GROUP_ROWS):
            block = vectors[start : start + ROW_GROUP_ROWS]
            ids = pa.array(np.arange(start, start + len(block)), id_type)
            values = pa.FixedSizeListArray.from_arrays(pa.array(block.reshape(-1)), dim)
            writer.write_table(pa.table([ids, values], schema))
