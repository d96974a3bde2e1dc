"""What a table form is: how an embedding's vectors are stored in an export, and read from it.

A form is written and read with numpy alone, and states how far its vectors and the scores that
they give may be from the trained model's.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from recsys.errors import RecsysError
from recsys.io.file_names import file_stems
from recsys.io.file_sizes import check_size
from recsys.io.memory import check_memory
from recsys.io.paths import file_inside
from recsys.lookup_spec import Rule
from recsys.serving.features import ExportedEmbedding, PhysicalTable, StoredForm

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Array = NDArray[np.generic]
Tensors = Mapping[str, Array]
Lookup = Callable[[Ids], Floats]  # ids (L,) → vectors (L, D)

TENSOR_NAME = "vectors"
MAX_NAME = 120  # characters of a file's name before its suffix
PROBABILITY_TOLERANCE = 1e-5
VECTOR_TOLERANCE = 1e-6


@dataclass(frozen=True)
class TrainedEmbedding:
    """One embedding of a trained model as numpy arrays, computed when a form asks for them."""

    name: str
    # The embedding whose vectors are the same (itself, or one whose table is shared).
    owner: str
    num_ids: int
    dim: int
    # How an id becomes a vector; None if the method cannot state it.
    rule: Rule | None
    # The physical table whose row i is the vector of id i, if there is one.
    plain_table: str | None
    # (num_ids, dim), the vector of every id.
    vectors: Callable[[], Floats]
    # A physical table by name, (rows, dim).
    table: Callable[[str], Floats]
    # Tensors that the rule names.
    tensors: Callable[[Collection[str]], Tensors]


class TableFiles:
    """The table files of an export that is being written; each is written once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Physical tables that a float32 file holds already, by name.
        self.plain_tables: dict[str, str] = {}

    def save(self, file: str, make: Callable[[], Tensors]) -> None:
        """Writes safetensors to `file`, relative to the export, unless it was written before."""
        path = self.folder / file
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            # safetensors writes the memory behind an array as it is, gaps included
            save_file({name: np.ascontiguousarray(t) for name, t in make().items()}, path)


class TableReader:
    """Reads the table files of an export, each once."""

    def __init__(self, export_dir: Path) -> None:
        self.export_dir = export_dir
        self.tensors = cache(self._read)

    def table(self, file: str, shape: tuple[int, int], dtype: str = "float32") -> Array:
        """The tensor `vectors` of a file.

        Raises:
            RecsysError: if it is missing or has another shape or dtype.
        """
        tensors = self.tensors(file)
        table = tensors.get(TENSOR_NAME)
        if table is None or table.shape != shape or table.dtype != np.dtype(dtype):
            raise RecsysError(
                "the table is damaged",
                where=self.export_dir / file,
                expected=f"{dtype} {TENSOR_NAME!r} of shape {shape}",
                got=", ".join(f"{name}: {t.dtype} {t.shape}" for name, t in tensors.items()),
            )
        return table

    def physical(self, table: PhysicalTable) -> Floats:
        """A table as it was trained, (num_rows, dim)."""
        found = self.table(table.file, (table.num_rows, table.dim))
        return found.astype(np.float32, copy=False)

    def _read(self, file: str) -> Tensors:
        try:
            path = file_inside(self.export_dir, file)
            check_size(path)
            check_memory(path.stat().st_size, "a table", where=path)
            return load_file(path)
        except (SafetensorError, OSError, KeyError, TypeError) as error:  # KeyError: its dtype
            raise RecsysError(
                "the table is damaged", where=self.export_dir / file, got=error
            ) from None


class TableForm(ABC):
    """A way to store the vectors of an embedding."""

    name: ClassVar[str]
    # One line for the command's help, without a full stop.
    description: ClassVar[str]
    # numpy's name for the type of the stored values.
    dtype: ClassVar[str]
    # Largest allowed difference of a probability from the trained model's.
    tolerance: ClassVar[float] = PROBABILITY_TOLERANCE
    # Largest allowed difference of a vector's entry, relative to the largest entry if above 1.
    vector_tolerance: ClassVar[float] = VECTOR_TOLERANCE
    # Whether `recsys export` writes it unless a form is chosen.
    is_default: ClassVar[bool] = False
    # Whether it stores a row for each id, however small the trained tables are.
    has_row_per_id: ClassVar[bool] = True

    def can_hold(self, embedding: TrainedEmbedding) -> bool:
        """Whether the embedding can be written in this form."""
        return True

    @abstractmethod
    def write(self, embedding: TrainedEmbedding, files: TableFiles) -> StoredForm:
        """Writes the embedding's files and returns what the manifest states about them."""

    @abstractmethod
    def open(self, embedding: ExportedEmbedding, stored: StoredForm, files: TableReader) -> Lookup:
        """Returns the lookup of an embedding that `write` has stored.

        Raises:
            RecsysError: if the files do not fit the manifest.
        """


class RowPerId(TableForm):
    """A form with one file for each embedding, and one row for each id.

    A subclass states its dtype and tolerances and, unless a cast is enough, how (V, D) float32
    vectors become tensors and back.
    """

    def encode(self, vectors: Floats) -> Tensors:
        """Vectors (V, D) → the tensors of the file."""
        return {TENSOR_NAME: vectors.astype(self.dtype, copy=False)}

    def decode(self, tensors: Tensors, ids: Ids) -> Floats:
        """Tensors of the file, ids (L,) → vectors (L, D)."""
        return tensors[TENSOR_NAME][ids].astype(np.float32, copy=False)

    def check(self, files: TableReader, file: str, shape: tuple[int, int]) -> None:
        """Refuses a file that does not hold what `encode` makes of vectors of this shape."""
        files.table(file, shape, self.dtype)

    def write(self, embedding: TrainedEmbedding, files: TableFiles) -> StoredForm:
        file = f"{self.folder}/{file_name(embedding.owner)}.safetensors"
        files.save(file, lambda: self.encode(embedding.vectors()))
        return StoredForm(dtype=self.dtype, file=file)

    def open(self, embedding: ExportedEmbedding, stored: StoredForm, files: TableReader) -> Lookup:
        self.check(files, str(stored.file), (embedding.num_ids, embedding.dim))
        tensors = files.tensors(str(stored.file))
        return lambda ids: self.decode(tensors, ids)

    @property
    def folder(self) -> str:
        """The folder of its files, relative to the export."""
        return f"tables/{self.name}"


def file_name(embedding: str) -> str:
    """An embedding's name as that of a file; `@` can be read in it."""
    quoted = quote(embedding, safe="@")
    return quoted if len(quoted) <= MAX_NAME else file_stems([embedding])[embedding]
