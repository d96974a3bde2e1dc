"""pruned: only some ids have rows, and rows have only some columns; the rest is zero.

What OptEmbed (Lyu et al. 2022, CIKM, §3.4) and DNIS (Cheng et al. 2020, §3.3) find: compact tables,
and the row of each id or none. A kept row starts with the values that the full table would have
had, so that training begins where the search began.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, Self

import torch
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from recsys.config.base import BaseConfig
from recsys.embeddings.id_mapping.id_bitmap import pack_bits, unpack_bits, unpack_ids
from recsys.embeddings.methods.base import EmbeddingMethod, Finalized, FittedMethodConfig
from recsys.embeddings.methods.blocks import Block, BlockRows, without_zero_rows
from recsys.embeddings.table_spec import Lookup, RowsOf, TableSpec, TensorInit
from recsys.errors import RecsysError
from recsys.lookup_spec import Linear, LookedUp, Pad, Rule, Sum, TableLookup

Output = Literal["pad", "project", "compact"]


class BandConfig(BaseConfig):
    """A range of ids, and the columns that their rows store."""

    first: NonNegativeInt  # first id
    end: PositiveInt  # one after the last id
    dims: tuple[NonNegativeInt, ...]  # columns of embedding_dim that are stored


class PrunedConfig(FittedMethodConfig):
    """The most frequent ids, or chosen ones, with narrow rows."""

    method: Literal["pruned"] = "pruned"
    # number of ids from 0 on; null: all, or those in the artifact `kept`, one bit for each id;
    # text: the same bits, in configs of older runs
    kept: NonNegativeInt | str | None = None
    dims: PositiveInt | None = None  # number of columns, from the first
    # ranges of ids with columns of their own; other ids have no row
    bands: tuple[BandConfig, ...] = Field(default=(), max_length=1000)
    # pad: zeros in the other columns. project: a learned d × D matrix that starts as padding.
    # compact: vectors of the stored width
    output: Output = "pad"

    @model_validator(mode="after")
    def _columns_exist(self) -> Self:
        if self.dims is not None and self.bands:
            raise ValueError("either dims or bands, and not both")
        if self.dims is not None and self.dims > self.embedding_dim:
            raise ValueError(f"dims up to embedding_dim, {self.embedding_dim}, not {self.dims}")
        for band in self.bands:
            if any(dim >= self.embedding_dim for dim in band.dims):
                raise ValueError(f"bands whose dims go from 0 to {self.embedding_dim - 1}")
        if self.output == "compact" and len({band.dims for band in self.bands}) > 1:
            raise ValueError("output compact needs equal dims in all bands")
        return self

    def build_fitted(
        self, feature: str, cardinality: int, table: str, tensors: Mapping[str, Tensor]
    ) -> "Pruned":
        dims = tuple(range(self.dims or self.embedding_dim))
        bands = self.bands or (BandConfig(first=0, end=cardinality, dims=dims),)
        _check_bands(feature, bands, cardinality)
        is_kept = self._kept_ids(feature, cardinality, tensors.get("kept"))
        source = TableSpec(table, cardinality, self.embedding_dim, self.init)
        blocks = [
            Block(band.first, is_kept[band.first : band.end], tuple(sorted(set(band.dims))))
            for band in bands
        ]
        return Pruned(feature, source, blocks, self.output)

    def _kept_ids(self, feature: str, cardinality: int, bits: Tensor | None) -> Tensor:
        """(V,) bool."""
        if bits is not None:
            return unpack_bits(bits, cardinality, f"{feature}: kept")
        if self.kept is None:
            return torch.ones(cardinality, dtype=torch.bool)
        if isinstance(self.kept, str):
            return unpack_ids(self.kept, cardinality, f"{feature}: kept")
        if self.kept > cardinality:
            raise RecsysError(
                f"{feature}: more ids are kept than there are",
                expected=f"kept up to {cardinality}",
                got=self.kept,
                fix="leave `kept` out to keep all of them",
            )
        return torch.arange(cardinality) < self.kept


def pruned(
    table: TableSpec,
    is_kept: Tensor,
    *,
    dims: int | None = None,
    bands: tuple[BandConfig, ...] = (),
) -> Finalized:
    """The rows (V,) bool and columns of a trained full table that are kept, as a method."""
    if isinstance(table.init, RowsOf | TensorInit):
        raise TypeError(f"{table.name} does not start from random rows")
    count = int(is_kept.sum())
    is_range = bool(is_kept[:count].all())
    config = PrunedConfig(
        embedding_dim=table.dim,
        init=table.init,
        kept=count if is_range and count < len(is_kept) else None,
        dims=dims,
        bands=bands,
    )
    return Finalized(config, {} if is_range else {"kept": pack_bits(is_kept)})


def _check_bands(feature: str, bands: Sequence[BandConfig], cardinality: int) -> None:
    end = 0
    for band in sorted(bands, key=lambda band: band.first):
        if band.first < end or band.end <= band.first or band.end > cardinality:
            raise RecsysError(
                f"{feature}: the bands do not fit its ids",
                expected=f"ranges of 0 to {cardinality} that do not overlap",
                got=f"{band.first} to {band.end}",
                fix="an allocation of this feature has them right",
            )
        end = band.end


class Pruned(EmbeddingMethod):
    """The vector of a kept id is its row between zeros; of any other id, zeros."""

    name = "pruned"

    def __init__(
        self, feature: str, source: TableSpec, blocks: Sequence[Block], output: Output
    ) -> None:
        """`source` is the full table whose initial values the rows take."""
        super().__init__()
        self.cardinality, self.embedding_dim = source.num_rows, source.dim
        stored = [block for block in blocks if block.is_kept.any() and block.dims]
        # a feature without any row still needs something to look up: the zero row alone
        stored = stored or [Block(0, torch.zeros(1, dtype=torch.bool), (0,))]
        is_one = len(stored) == 1
        self._rows = [BlockRows(block, self.cardinality) for block in stored]
        for i, rows in enumerate(self._rows):
            if rows.row_of_id is not None:  # it follows from the config and the artifact `kept`
                self.add_artifact(f"row_of_id_{i}", rows.row_of_id, "rows", is_saved=False)
        self.dims = [block.dims for block in stored]
        self.commutes_with_sum = all(not rows.has_none for rows in self._rows)
        names = [source.name if is_one else f"{source.name}/{i}" for i in range(len(stored))]
        self._tables = tuple(
            rows.table(name, source, block)
            for name, rows, block in zip(names, self._rows, stored, strict=True)
        )
        self.lookups = tuple(
            Lookup(feature if is_one else f"{feature}/{i}", table.name)
            for i, table in enumerate(self._tables)
        )
        self.output_dim = len(self.dims[0]) if output == "compact" else self.embedding_dim
        self.is_compact = output == "compact"
        # made where they are first used; no buffers, for they say what `dims` says
        self._places: dict[tuple[int, torch.device], Tensor] = {}
        self.projections = nn.ParameterList(
            torch.eye(self.embedding_dim)[list(dims)] for dims in self.dims if output == "project"
        )

    @property
    def num_kept(self) -> int:
        """The number of ids with a row."""
        return sum(rows.num_kept for rows in self._rows)

    @property
    def is_plain_table(self) -> bool:
        rows = self._rows[0]
        is_whole = not rows.has_none and rows.first == 0 and rows.row_of_id is None
        width = self._tables[0].dim
        return is_whole and len(self.projections) == 0 and width == self.output_dim

    def tables(self) -> tuple[TableSpec, ...]:
        return self._tables

    def rows(self, ids: Tensor) -> tuple[Tensor, ...]:
        return tuple(rows.of(ids) for rows in self._rows)

    def combine(self, vectors: Sequence[Tensor]) -> Tensor:
        total: Tensor | None = None
        for i, (rows, stored) in enumerate(zip(self._rows, vectors, strict=True)):
            kept = without_zero_rows(stored) if rows.has_none else stored  # (L, d)
            widened = self._widen(kept, i)  # (L, D)
            total = widened if total is None else total + widened
        if total is None:
            raise TypeError("a pruned feature has at least one table")
        return total

    def rule(self) -> Rule:
        return Rule(
            lookups=tuple(
                TableLookup(table=table.name, steps=rows.steps(f"row_of_id_{i}"))
                for i, (table, rows) in enumerate(zip(self._tables, self._rows, strict=True))
            ),
            vector=Sum(of=tuple(self._widened(i) for i in range(len(self.dims)))),
        )

    def _widened(self, block: int) -> Linear | Pad:
        stored = LookedUp(index=block)
        if len(self.projections):
            return Linear(of=stored, matrix=f"projections.{block}")
        columns = tuple(range(len(self.dims[block]))) if self.is_compact else self.dims[block]
        return Pad(of=stored, dim=self.output_dim, columns=columns)

    def _widen(self, stored: Tensor, block: int) -> Tensor:
        if len(self.projections):
            return stored @ self.projections[block]
        dims = self.dims[block]
        if self.is_compact or dims == tuple(range(len(dims))):
            missing = self.output_dim - len(dims)
            return F.pad(stored, (0, missing)) if missing else stored
        key = (block, stored.device)
        if key not in self._places:
            self._places[key] = _places(dims, self.output_dim).to(stored.device)
        return F.pad(stored, (0, 1)).index_select(1, self._places[key])


def _places(dims: Sequence[int], width: int) -> Tensor:
    """The index of each output column among the stored columns and a zero after them, (width,)."""
    places = torch.full((width,), len(dims))
    places[list(dims)] = torch.arange(len(dims))
    return places
