"""The native form: the tables as they were trained, and the rule that makes vectors of them."""

import numpy as np

from recsys.errors import RecsysError
from recsys.serving.decoder import Decoder
from recsys.serving.features import ExportedEmbedding, PhysicalTable, StoredForm
from recsys.serving.table_forms.base import (
    TENSOR_NAME,
    Lookup,
    TableFiles,
    TableForm,
    TableReader,
    TrainedEmbedding,
    file_name,
)


class Native(TableForm):
    """Each physical table once, however many features read it, and the tensors that rules name."""

    name = "native"
    description = "the tables as trained, and the rule that computes a vector from them"
    dtype = "float32"
    is_default = True
    has_row_per_id = False

    def can_hold(self, embedding: TrainedEmbedding) -> bool:
        """Methods without a rule, such as supernets of a search, can only be materialized."""
        return embedding.rule is not None

    def write(self, embedding: TrainedEmbedding, files: TableFiles) -> StoredForm:
        rule = embedding.rule
        assert rule is not None  # `can_hold`
        tables = {k.table: self._write_table(embedding, k.table, files) for k in rule.lookups}
        names = sorted(rule.tensors())
        file = f"native/tensors/{file_name(embedding.name)}.safetensors" if names else None
        if file is not None:
            files.save(file, lambda: embedding.tensors(names))
        return StoredForm(dtype=self.dtype, file=file, rule=rule, tables=tables)

    def _write_table(
        self, embedding: TrainedEmbedding, name: str, files: TableFiles
    ) -> PhysicalTable:
        """A plain table is the same in the materialized form, and is not written again."""
        table = embedding.table(name)
        file = files.plain_tables.get(name, f"native/tables/{file_name(name)}.safetensors")
        files.save(file, lambda: {TENSOR_NAME: table})
        return PhysicalTable(file=file, num_rows=table.shape[0], dim=table.shape[1])

    def open(self, embedding: ExportedEmbedding, stored: StoredForm, files: TableReader) -> Lookup:
        subject = f"{files.export_dir}: the rule of {embedding.name}"
        if stored.rule is None:
            raise RecsysError("the manifest has no rule", where=subject)
        tables = {name: files.physical(table) for name, table in stored.tables.items()}
        tensors = {} if stored.file is None else files.tensors(stored.file)
        decoder = Decoder(stored.rule, tables, tensors, subject)
        width = decoder.vectors(np.zeros(1, np.int64)).shape[1]
        if width != embedding.dim:
            raise RecsysError(
                "the rule makes vectors of another width",
                where=subject,
                expected=embedding.dim,
                got=width,
            )
        return decoder.vectors
