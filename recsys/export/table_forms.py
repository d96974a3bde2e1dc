"""Which form each feature is written in: a plain (V, D) table, small tables and a rule, or both."""

from typing import Literal, NamedTuple

from recsys.embeddings.collection import FeatureEmbeddings
from recsys.lookup_spec import Rule

TablesChoice = Literal["both", "materialized", "native"]
# `both` leaves materialized tables out where they would take more; a serving host must hold them.
MATERIALIZED_LIMIT = 16 << 30
FLOAT_BYTES = 4


class Forms(NamedTuple):
    """The features to materialize, the rules of those written natively, what to say about it."""

    materialized: frozenset[str]
    rules: dict[str, Rule]
    notes: tuple[str, ...]


def choose_forms(embeddings: FeatureEmbeddings, choice: TablesChoice) -> Forms:
    """A feature is never left out: where the chosen form does not exist it has the other one."""
    methods = embeddings.methods
    rules = {name: rule for name, method in methods.items() if (rule := method.rule()) is not None}
    lacking = [name for name in methods if name not in rules]
    notes = [f"{name}: {methods[name].name} has no native form" for name in lacking]
    if choice == "materialized":
        return Forms(frozenset(methods), {}, ())
    if choice == "native":
        return Forms(frozenset(lacking), rules, tuple(notes))
    compressed = [name for name in rules if not methods[name].is_plain_table]
    floats = sum(methods[name].cardinality * methods[name].output_dim for name in compressed)
    if floats * FLOAT_BYTES <= MATERIALIZED_LIMIT:
        return Forms(frozenset(methods), rules, tuple(notes))
    notes.append(
        f"{', '.join(compressed)}: not materialized, which would take "
        f"{floats * FLOAT_BYTES / 2**30:,.0f} GiB (`--tables materialized` does it)"
    )
    return Forms(frozenset(methods) - set(compressed), rules, tuple(notes))
