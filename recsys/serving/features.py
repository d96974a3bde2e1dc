"""What a manifest says of features and their embeddings, and of the pairs of a sequence model."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, NonNegativeInt, PositiveFloat, PositiveInt

from recsys.config.base import BaseConfig
from recsys.history_pair import HistoryPair
from recsys.io.paths import RelativePath
from recsys.lookup_spec import Rows, Rule, Width
from recsys.schema import Feature

# "materialised" is how older exports spell it
Form = Annotated[
    Literal["materialized", "native"],
    BeforeValidator(lambda form: "materialized" if form == "materialised" else form),
]
FORMS: tuple[Form, ...] = ("materialized", "native")


class PhysicalTable(BaseConfig):
    """A table as it was trained: `vectors` in `file`, num_rows × dim float32."""

    file: RelativePath
    num_rows: Rows
    dim: Width


class NativeForm(BaseConfig):
    """An embedding's rule; its tables are the manifest's by name, its tensors are in a file."""

    rule: Rule
    tensors: RelativePath | None = None


class _Vectors(BaseConfig):
    """`graph_input` of the dense graph takes the vectors of ids, each `dim` wide.

    The vector is row `id` of `table` (the materialized form), or what the rule of `native` makes of
    small tables (the native form); either may be left out, and both agree.
    """

    graph_input: str
    method: str
    dim: Width
    dtype: Literal["float32"] = "float32"
    table: RelativePath | None = None
    table_parquet: RelativePath | None = None
    default_row: Literal[0] | None = None
    native: NativeForm | None = None

    @property
    def forms(self) -> tuple[Form, ...]:
        """The forms in which it was written; none for numericals."""
        has: dict[Form, object] = {"materialized": self.table, "native": self.native}
        return tuple(form for form in FORMS if has[form] is not None)


class ExportedAttention(_Vectors):
    """The second embedding of a feature's ids, which attention compares and nothing else reads."""

    name: str
    cardinality: Rows

    @property
    def num_ids(self) -> int:
        """How many ids it has vectors of."""
        return self.cardinality


class ExportedFeature(_Vectors, Feature):
    """A feature of the data set, and how its value enters the model.

    Categorical: the graph takes the vector of its id, (batch, dim). Sequence: its ids' vectors as
    `pooling` says, (batch, dim); without `pooling` it is a history, and the graph takes the vectors
    of all its ids end to end, (total, dim), rows in order and each row's oldest first.
    `attention`: a second vector of each id, and an input of its own, where the model has such.
    Numerical: the value goes to column `dense_column` of the input `graph_input`.
    """

    dense_column: NonNegativeInt | None = None
    pooling: Literal["sum", "mean"] | None = None
    attention: ExportedAttention | None = None


ExportedEmbedding = ExportedFeature | ExportedAttention


class ExportedSearch(BaseConfig):
    """How the search stage of a pair orders a row's behaviours; the first `num_found` are weighed.

    score = `scale` · ⟨q, k⟩ + `position_scale` · ⟨p₀, p_rank⟩, highest first, of equal ones the
    most recent. q and k: the target's and the behaviour's vectors, the pair's features side by
    side, each by its `attention` where it has one. p: rows of the table `positions`; rank 1 is the
    most recent behaviour, row 0 the target's. Without `positions` ranks do not count.
    With `same`, a target of the pair: score = -rank, and only of behaviours whose own vector of
    that feature's history equals the target's.
    """

    num_found: PositiveInt
    scale: PositiveFloat
    positions: PhysicalTable | None = None
    position_scale: PositiveFloat | None = None
    same: str | None = None


class ExportedPair(HistoryPair):
    """A target's features and the histories that are compared with them, of one length in a row.

    `lengths`: the input of the dense graph that says how many behaviours each row has, (batch,).
    No row may have more than `max_length`; the last ones count. `search`: of models with a search
    stage that needs no more than these vectors.
    """

    lengths: str
    max_length: PositiveInt
    search: ExportedSearch | None = None
