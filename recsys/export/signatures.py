"""What both graphs take and answer: the inputs of each, their names, and in which order."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from recsys.embeddings.collection import FeatureEmbeddings
from recsys.embeddings.feature_methods import history_features, source_of
from recsys.errors import RecsysError
from recsys.history_pair import HistoryPair
from recsys.schema import Schema
from recsys.serving.manifest import ONNX_FILE, PT2_FILE, GraphSpec, ModelSpec, TensorSpec

DENSE_INPUT = "dense"
OUTPUTS = (
    TensorSpec(name="logits", dtype="float32", shape=("batch",)),
    TensorSpec(name="probabilities", dtype="float32", shape=("batch",)),
)
_OURS = {DENSE_INPUT, *(output.name for output in OUTPUTS)}


class InputNames(NamedTuple):
    """Inputs of the dense graph: of each embedding, and of the lengths of each leading history."""

    embeddings: dict[str, str]
    lengths: dict[str, str]


class Histories(NamedTuple):
    """The pairs of a model, and the largest length of each.

    leaders: each history → the first of those that are as long in every row, whose lengths it has.
    """

    pairs: tuple[HistoryPair, ...]
    leaders: dict[str, str]
    max_lengths: tuple[int, ...]

    @property
    def with_lengths(self) -> list[str]:
        """The histories whose lengths are inputs of the dense graph, in order."""
        return list(dict.fromkeys(self.leaders.values()))

    def leader_of(self, pair: HistoryPair) -> str:
        """The history whose lengths this pair has."""
        return self.leaders[pair.history[0]]


def histories_of(embeddings: FeatureEmbeddings, schema: Schema) -> Histories:
    """The pairs of a model; refuses histories without a bound, which a graph must know."""
    leaders: dict[str, str] = {}
    for pair in embeddings.pairs:
        joined = [leaders[name] for name in pair.history if name in leaders]
        first = joined[0] if joined else pair.history[0]
        leaders = {name: first if old in joined else old for name, old in leaders.items()}
        leaders |= dict.fromkeys(pair.history, first)
    lengths = {name: _max_length(schema, name) for name in history_features(embeddings.pairs)}
    bounds = (max(lengths[name] for name in pair.history) for pair in embeddings.pairs)
    return Histories(embeddings.pairs, leaders, tuple(bounds))


def _max_length(schema: Schema, name: str) -> int:
    found = schema.feature(name).max_length
    if found is None:
        raise RecsysError(
            f"{name} has no max_length, and a graph must know how long a history may be",
            where=f"schema.json of the data set {schema.name!r}",
            expected="a max_length for each sequence of model.pairs",
            fix=f"prepare the data with a max_length for {name} and train again",
        )
    return found


def describe_graphs(embeddings: FeatureEmbeddings, schema: Schema, name: str) -> ModelSpec:
    """The signatures of both graphs."""
    histories = histories_of(embeddings, schema)
    numericals: tuple[TensorSpec, ...] = ()
    if num_dense := len(schema.numerical):
        shape = ("batch", num_dense)
        numericals = (TensorSpec(name=DENSE_INPUT, dtype="float32", shape=shape),)
    dense = (*_dense_inputs(embeddings, histories), *numericals)
    whole = (*_whole_inputs(embeddings, histories), *numericals)
    return ModelSpec(
        name=name,
        dense=GraphSpec(file=ONNX_FILE, inputs=dense, outputs=OUTPUTS),
        whole=GraphSpec(file=PT2_FILE, inputs=whole, outputs=OUTPUTS),
    )


def _dense_inputs(embeddings: FeatureEmbeddings, histories: Histories) -> Iterable[TensorSpec]:
    names = input_names_of(embeddings, histories)
    for embedding, dim in embeddings.output_dims.items():
        leader = histories.leaders.get(source_of(embedding))
        shape = ("batch" if leader is None else _total(leader, embeddings), dim)
        yield TensorSpec(name=names.embeddings[embedding], dtype="float32", shape=shape)
    for name in names.lengths.values():
        yield TensorSpec(name=name, dtype="int64", shape=("batch",))


def _whole_inputs(embeddings: FeatureEmbeddings, histories: Histories) -> Iterable[TensorSpec]:
    names = input_names_of(embeddings, histories)
    for feature in embeddings.features:
        name = names.embeddings[feature.name]
        if feature.kind == "categorical":
            yield TensorSpec(name=name, dtype="int64", shape=("batch",))
            continue
        total = _total(histories.leaders.get(feature.name, feature.name), embeddings)
        yield TensorSpec(name=f"{name}.values", dtype="int64", shape=(total,))
        yield TensorSpec(name=f"{name}.lengths", dtype="int64", shape=("batch",))


def _total(feature: str, embeddings: FeatureEmbeddings) -> str:
    """The size of a sequence's ids, end to end; histories of one length share it."""
    return f"total_{[f.name for f in embeddings.features].index(feature)}"


def input_names_of(embeddings: FeatureEmbeddings, histories: Histories) -> InputNames:
    """Features' inputs first, so that attention's and lengths give way to them."""
    features = [feature.name for feature in embeddings.features]
    names = graph_input_names(features)
    taken = {*_OURS, *features, *names.values()}
    for embedding in embeddings.methods:
        if embedding not in names:
            names[embedding] = _free_name(embedding, taken)
    lengths = {name: _free_name(f"{name}.lengths", taken) for name in histories.with_lengths}
    return InputNames(names, lengths)


def graph_input_names(features: Sequence[str]) -> dict[str, str]:
    """A feature's input has its name, made different where a tensor of ours has that name too."""
    taken = {*_OURS, *features}
    return {name: _free_name(name, taken) if name in _OURS else name for name in features}


def _free_name(name: str, taken: set[str]) -> str:
    """The name, with underscores until it is not taken; then it is."""
    while name in taken:
        name += "_"
    taken.add(name)
    return name
