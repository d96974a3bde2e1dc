"""What a manifest states about features, their embeddings, and the pairs of a sequence model."""

from typing import Literal

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from recsys.config.base import BaseConfig
from recsys.history_pair import HistoryPair
from recsys.io.paths import RelativePath
from recsys.lookup_spec import Rows, Rule, Width
from recsys.schema import Feature


class PhysicalTable(BaseConfig):
    """A table as it was trained: `vectors` in `file`, num_rows × dim float32."""

    file: RelativePath
    num_rows: Rows
    dim: Width


class StoredForm(BaseConfig):
    """The files of one embedding in one form; `recsys.serving.table_forms` lists the forms."""

    # Type of the stored values.
    dtype: str
    # Tensors: a table with a row for each id, or those that the rule names.
    file: RelativePath | None = None
    # The same table as Parquet with columns id, vector.
    parquet: RelativePath | None = None
    # How an id becomes a vector, if the form has no row for each id.
    rule: Rule | None = None
    # The tables that the rule reads, by name.
    tables: dict[str, PhysicalTable] = {}


class _Vectors(BaseConfig):
    """`graph_input` of the dense graph takes the float32 vectors of ids, each `dim` wide.

    They can be read from any of the `forms`, by name; numerical features have none.
    """

    graph_input: str
    method: str
    dim: Width
    default_row: Literal[0] | None = None
    forms: dict[str, StoredForm] = {}


class ExportedAttention(_Vectors):
    """A second embedding of a feature's ids, which only attention reads."""

    name: str
    cardinality: Rows

    @property
    def num_ids(self) -> int:
        """The number of ids that have a vector."""
        return self.cardinality


class ExportedFeature(_Vectors, Feature):
    """A feature of the dataset, and how its value enters the model.

    Categorical: the graph takes the vector of its id, (batch, dim). Sequence: the sum or mean of
    its ids' vectors, (batch, dim), as `pooling` states; without `pooling` it is a history, and the
    graph takes the vectors of all its ids end to end, (total, dim), rows in order and each row's
    oldest first. `attention`: a second vector of each id, with an input of its own, if the model
    has one. Numerical: the value goes to column `dense_column` of the input `graph_input`.
    """

    dense_column: NonNegativeInt | None = None
    pooling: Literal["sum", "mean"] | None = None
    attention: ExportedAttention | None = None


ExportedEmbedding = ExportedFeature | ExportedAttention


class ExportedSearch(BaseConfig):
    """How the search stage of a pair orders a row's behaviors; the first `num_found` are used.

    score = `scale` · ⟨q, k⟩ + `position_scale` · ⟨p₀, p_rank⟩, descending; the most recent of equal
    ones comes first. q and k: the vectors of the target and the behavior, the pair's features side
    by side, from `attention` if the feature has it. p: rows of the table `positions`; rank 1 is the
    most recent behavior, row 0 the target. Without `positions` ranks do not count.
    With `same`, a target of the pair: score = -rank, for behaviors whose vector of that feature's
    history equals the target's; others are not found.
    """

    num_found: PositiveInt
    scale: PositiveFloat
    positions: PhysicalTable | None = None
    position_scale: PositiveFloat | None = None
    same: str | None = None


class ExportedPair(HistoryPair):
    """A target's features and the histories compared with them, of equal length in a row.

    `lengths`: the input of the dense graph with the number of behaviors of each row, (batch,), at
    most `max_length`: the last ones. `search`: for models whose search stage needs vectors alone.
    """

    lengths: str
    max_length: PositiveInt
    search: ExportedSearch | None = None
