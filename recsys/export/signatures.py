"""The signatures of both graphs: inputs and outputs, their names and order."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from recsys.embeddings.collection import FeatureEmbeddings
from recsys.embeddings.methods.base import EmbeddingKey
from recsys.errors import RecsysError
from recsys.history_pair import HistoryPair, history_features
from recsys.schema import Schema
from recsys.serving.graph_spec import ONNX_FILE, PT2_FILE, GraphSpec, ModelSpec, TensorSpec

DENSE_INPUT = "dense"
OUTPUTS = (
    TensorSpec(name="logits", dtype="float32", shape=("batch",)),
    TensorSpec(name="probabilities", dtype="float32", shape=("batch",)),
)
_OURS = {DENSE_INPUT, *(output.name for output in OUTPUTS)}


class InputNames(NamedTuple):
    """Input names of the dense graph: by embedding, and by history for the lengths."""

    embeddings: dict[EmbeddingKey, str]
    lengths: dict[str, str]


class Histories(NamedTuple):
    """The pairs of a model, and the largest length of each.

    leaders: history → the first history that has the same lengths in every row; one input of the
    dense graph holds the lengths of all of them.
    """

    pairs: tuple[HistoryPair, ...]
    leaders: dict[str, str]
    max_lengths: tuple[int, ...]

    @property
    def with_lengths(self) -> list[str]:
        """The histories whose lengths are inputs of the dense graph, in order."""
        return list(dict.fromkeys(self.leaders.values()))


def histories_of(embeddings: FeatureEmbeddings, schema: Schema) -> Histories:
    """The pairs of a model; refuses histories without max_length, which a graph needs."""
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
            f"{name} has no max_length, which the graph of a history needs",
            where=f"schema.json of the dataset {schema.name!r}",
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
    for key, dim in embeddings.output_dims.items():
        leader = histories.leaders.get(key.feature)
        shape = ("batch" if leader is None else _total(leader, embeddings), dim)
        yield TensorSpec(name=names.embeddings[key], dtype="float32", shape=shape)
    for name in names.lengths.values():
        yield TensorSpec(name=name, dtype="int64", shape=("batch",))


def _whole_inputs(embeddings: FeatureEmbeddings, histories: Histories) -> Iterable[TensorSpec]:
    names = input_names_of(embeddings, histories)
    for feature in embeddings.features:
        name = names.embeddings[EmbeddingKey(feature.name)]
        if feature.kind == "categorical":
            yield TensorSpec(name=name, dtype="int64", shape=("batch",))
            continue
        total = _total(histories.leaders.get(feature.name, feature.name), embeddings)
        yield TensorSpec(name=f"{name}.values", dtype="int64", shape=(total,))
        yield TensorSpec(name=f"{name}.lengths", dtype="int64", shape=("batch",))


def _total(feature: str, embeddings: FeatureEmbeddings) -> str:
    """The name of the size of a sequence's ids, end to end; histories of equal length share it."""
    return f"total_{[f.name for f in embeddings.features].index(feature)}"


def input_names_of(embeddings: FeatureEmbeddings, histories: Histories) -> InputNames:
    """Features get their names first; the inputs of other roles and lengths avoid these."""
    features = [feature.name for feature in embeddings.features]
    own = graph_input_names(features)
    names = {EmbeddingKey(feature): name for feature, name in own.items()}
    taken = {*_OURS, *features, *own.values()}
    for key in embeddings.methods:
        if key not in names:
            names[key] = _free_name(key.name, taken)
    lengths = {name: _free_name(f"{name}.lengths", taken) for name in histories.with_lengths}
    return InputNames(names, lengths)


def graph_input_names(features: Sequence[str]) -> dict[str, str]:
    """The input of a feature has its name, changed if it is the name of a tensor of ours."""
    taken = {*_OURS, *features}
    return {name: _free_name(name, taken) if name in _OURS else name for name in features}


def _free_name(name: str, taken: set[str]) -> str:
    """Appends underscores until the name is free, and takes it."""
    while name in taken:
        name += "_"
    taken.add(name)
    return name
