"""dnis: the soft selection of DNIS (Cheng et al. 2020, §3), which `recsys search` trains.

Ids are cut into bands by frequency and columns into groups; each band has one factor in [0, 1] for
each group. A search learns the factors on rows of their own and drops what they make small. The
paper cuts the ids of all features together, and drops single entries of E · α; see `DnisConfig` and
`recsys/search/dnis.py` for what is the default here.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate, groupby, pairwise
from typing import Literal, Self

import torch
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from recsys.embeddings.methods.base import BaseMethodConfig, EmbeddingMethod, Finalized
from recsys.embeddings.methods.blocks import Block, BlockRows, without_zero_rows
from recsys.embeddings.methods.pruned import BandConfig, pruned
from recsys.embeddings.table_spec import Lookup, TableSpec
from recsys.errors import RecsysError


class DnisConfig(BaseMethodConfig):
    """A full table in frequency bands, with a factor for each band and group of columns."""

    method: Literal["dnis"] = "dnis"
    # number of bands of equal size, or each band's share of the ids, the most frequent first
    bands: PositiveInt | tuple[PositiveFloat, ...] = 5
    # groups of columns with a factor each; null: one per column
    dim_groups: PositiveInt | None = None
    # each_feature: bands of each feature with factors of its own. all_features: as the paper, ids
    # of all features cut together by their count in train rows, with the same factors in every
    # feature
    bands_over: Literal["each_feature", "all_features"] = "each_feature"
    # where each band ends in this feature; `recsys search` writes it for all_features
    band_ends: tuple[NonNegativeInt, ...] | None = None

    @model_validator(mode="after")
    def _groups_divide(self) -> Self:
        if self.embedding_dim % (self.dim_groups or 1):
            raise ValueError(f"dim_groups that divide embedding_dim, {self.embedding_dim}")
        if isinstance(self.bands, tuple) and abs(sum(self.bands) - 1) > 1e-6:
            raise ValueError(f"the shares of the bands sum to 1, not to {sum(self.bands):g}")
        if self.band_ends is not None and self.bands_over == "each_feature":
            raise ValueError("band_ends need bands_over: all_features")
        return self

    def build(self, feature: str, cardinality: int, table: str) -> "Dnis":
        source = TableSpec(table, cardinality, self.embedding_dim, self.init)
        num_groups = self.dim_groups or self.embedding_dim
        if self.bands_over == "each_feature":
            return Dnis(feature, source, frequency_bands(cardinality, self.bands), num_groups)
        bounds, numbers = self._shared_bands(feature, cardinality)
        return Dnis(feature, source, bounds, num_groups, numbers)

    def _shared_bands(self, feature: str, cardinality: int) -> tuple[list[int], tuple[int, ...]]:
        """The bounds in this feature of the bands that have ids of it, and those bands' numbers."""
        ends = self.band_ends
        if ends is None:
            raise RecsysError(
                "bands over all features are counted by a search, which has not run",
                where=f"embeddings: method dnis of {feature}",
                fix="use `recsys search`, or set bands_over: each_feature",
            )
        if list(ends) != sorted(ends) or not ends or ends[-1] != cardinality:
            raise RecsysError(
                f"the band_ends of {feature} do not divide its ids",
                where="embeddings: method dnis",
                expected=f"ends that do not decrease, the last of them {cardinality}",
                got=", ".join(map(str, ends)),
            )
        numbers = tuple(i for i, (a, b) in enumerate(pairwise((0, *ends))) if a < b)
        return [0, *(ends[i] for i in numbers)], numbers


def frequency_bands(cardinality: int, bands: int | Sequence[float]) -> list[int]:
    """The first id of each band and, last, the cardinality; no band is empty.

    Ids are sorted by frequency; id 0 (missing, rare) goes with the most frequent ones.
    """
    shares = [1.0 / bands] * bands if isinstance(bands, int) else list(bands)
    if cardinality < 1:
        raise RecsysError("a feature without ids has no frequency bands")
    ends = {max(1, round(share * cardinality)) for share in accumulate(shares)}
    return sorted({0, cardinality} | {end for end in ends if end < cardinality})


class Dnis(EmbeddingMethod):
    """The vector of id i of band l is row i · α_l, each factor over its group of columns."""

    name = "dnis"

    def __init__(
        self,
        feature: str,
        source: TableSpec,
        bounds: Sequence[int],
        num_groups: int,
        shared_bands: tuple[int, ...] | None = None,
    ) -> None:
        """Each band has a table of its own: rows start as those of the full table `source`.

        `shared_bands`: the numbers of these bands among those of all features, whose factors are
        the same in each.
        """
        super().__init__()
        self.source, self.shared_bands = source, shared_bands
        self.cardinality, self.output_dim = source.num_rows, source.dim
        self.bounds, self.columns_per_group = tuple(bounds), source.dim // num_groups
        every_dim = tuple(range(source.dim))
        bands = [
            Block(first, torch.ones(end - first, dtype=torch.bool), every_dim)
            for first, end in pairwise(bounds)
        ]
        self.blocks = [BlockRows(band, self.cardinality) for band in bands]
        is_one = len(bands) == 1
        names = [source.name if is_one else f"{source.name}/band{i}" for i in range(len(bands))]
        self._tables = tuple(
            rows.table(name, source, band)
            for name, rows, band in zip(names, self.blocks, bands, strict=True)
        )
        self.lookups = tuple(
            Lookup(feature if is_one else f"{feature}/{i}", name) for i, name in enumerate(names)
        )
        self.commutes_with_sum = is_one
        # Trained by a search alone, with an optimizer and rows of its own.
        self.alpha = nn.Parameter(torch.ones(len(bands), num_groups), requires_grad=False)
        # the cells, (bands, groups), that `finalize` keeps; a search chooses them
        self.kept_cells = torch.ones(len(bands), num_groups, dtype=torch.bool)

    def tables(self) -> tuple[TableSpec, ...]:
        return self._tables

    def rows(self, ids: Tensor) -> tuple[Tensor, ...]:
        return tuple(rows.of(ids) for rows in self.blocks)

    def finalize(self, weights: Mapping[str, Tensor]) -> Finalized:
        """The kept cells as `pruned` with bands (paper, §3.3); the factors are not kept."""
        bands = _bands(self.bounds, self.kept_cells, self.output_dim)
        is_kept = torch.full((self.cardinality,), bool(bands))
        return pruned(self.source, is_kept, bands=bands)

    def combine(self, vectors: Sequence[Tensor]) -> Tensor:
        factors = self.alpha.repeat_interleave(self.columns_per_group, dim=1)  # (bands, D)
        if len(vectors) == 1:
            return vectors[0] * factors[0]
        parts = [without_zero_rows(v) * f for v, f in zip(vectors, factors, strict=True)]
        return torch.stack(parts).sum(0)


def _bands(bounds: Sequence[int], is_kept: Tensor, embedding_dim: int) -> tuple[BandConfig, ...]:
    """Bands with their columns; neighbors with the same columns are merged."""
    dims = is_kept.repeat_interleave(embedding_dim // is_kept.shape[1], dim=1)
    chosen = [tuple(row.nonzero().flatten().tolist()) for row in dims]
    ranges = zip(pairwise(bounds), chosen, strict=True)
    bands = []
    for columns, group in groupby(ranges, key=lambda band: band[1]):
        members = [first_and_end for first_and_end, _ in group]
        if columns:
            bands.append(BandConfig(first=members[0][0], end=members[-1][1], dims=columns))
    return tuple(bands)
