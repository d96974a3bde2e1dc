"""The model as graphs: its dense part as ONNX, the whole of it as torch.export ATen ops.

Both take their tensors by position and answer logits (B,) and probabilities (B,).
"""

import contextlib
import copy
import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.overrides import TorchFunctionMode

from recsys.embeddings.collection import FeatureEmbeddings
from recsys.export.manifest import ONNX_FILE, PT2_FILE, GraphSpec, ModelSpec, TensorSpec
from recsys.models.ctr_model import CTRModel
from recsys.models.network import Network
from recsys.schema import Schema

DENSE_INPUT = "dense"
PT2_OVERHEAD = 1 << 20  # bytes of a .pt2 file beside its tensors, at most
OUTPUTS = (
    TensorSpec(name="logits", dtype="float32", shape=("batch",)),
    TensorSpec(name="probabilities", dtype="float32", shape=("batch",)),
)


class DenseGraph(nn.Module):
    """Pooled vectors (B, D) of each sparse feature, then numericals (B, N) if any → scores."""

    def __init__(self, network: Network, num_sparse: int) -> None:
        super().__init__()
        self.network, self.num_sparse = network, num_sparse

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        vectors = torch.cat(inputs[: self.num_sparse], dim=1)  # (B, ΣD)
        has_dense = len(inputs) > self.num_sparse
        dense = inputs[-1] if has_dense else vectors.new_zeros(vectors.shape[0], 0)
        logits = self.network.score(vectors, dense)
        return logits, torch.sigmoid(logits)


class WholeGraph(nn.Module):
    """Ids (B,) of each categorical feature, values (L,) and lengths (B,) of each sequence → scores.

    The tables keep the form that their methods gave them, so a compressed one stays compressed.
    """

    def __init__(self, embeddings: FeatureEmbeddings, network: Network) -> None:
        super().__init__()
        weights = embeddings.store.weights()
        self.tables = nn.ParameterList(
            nn.Parameter(w.cpu().contiguous(), False) for w in weights.values()
        )
        self.table_index = {name: i for i, name in enumerate(weights)}
        self.features = embeddings.features
        self.methods = copy.deepcopy(embeddings.method_modules).cpu()
        self.mean_pooled = embeddings.mean_pooled
        self.dense_graph = DenseGraph(network, len(self.features))

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        queue = iter(inputs)
        vectors = []
        for index, feature in enumerate(self.features):
            looked_up = self._look_up(index, next(queue))
            if feature.kind == "sequence":
                looked_up = _pool(looked_up, next(queue), feature.name in self.mean_pooled)
            vectors.append(looked_up)
        scores: tuple[Tensor, Tensor] = self.dense_graph(*vectors, *queue)
        return scores

    def _look_up(self, index: int, ids: Tensor) -> Tensor:
        method: Any = self.methods[index]  # an EmbeddingMethod; ModuleList forgets the type
        return method.combine(
            [
                self.tables[self.table_index[look.table]][rows]
                for look, rows in zip(method.lookups, method.rows(ids), strict=True)
            ]
        )  # (L, D)


def _pool(vectors: Tensor, lengths: Tensor, is_mean: bool) -> Tensor:
    """Vectors (L, D) of bags end to end → (B, D); an empty bag is zeros."""
    bags = torch.arange(lengths.shape[0])
    bags = torch.repeat_interleave(bags, lengths, output_size=vectors.shape[0])  # (L,)
    pooled = vectors.new_zeros(lengths.shape[0], vectors.shape[1]).index_add(0, bags, vectors)
    return pooled / lengths.clamp(min=1)[:, None] if is_mean else pooled


class _NoEmptyProducts(TorchFunctionMode):
    """Writes zeros for a product over no columns: onnxruntime would answer uninitialised memory."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401  whatever the function answers
        if function in _PRODUCTS and args[0].shape[-1] == 0:
            return args[0].new_zeros(args[0].shape[:-1] + args[1].shape[1:])
        return function(*args, **(kwargs or {}))


_PRODUCTS = (torch.matmul, Tensor.matmul, Tensor.__matmul__)


def write_graphs(model: CTRModel, schema: Schema, name: str, folder: Path) -> ModelSpec:
    """Writes both graphs below `folder` and says what they take."""
    embeddings = model.embeddings
    (folder / ONNX_FILE).parent.mkdir()
    spec = describe_graphs(model, schema, name)
    network = copy.deepcopy(model.network).cpu()
    with _quiet(), torch.no_grad():
        dense = DenseGraph(network, len(embeddings.features)).eval()
        _write_onnx(_trace(dense, spec.dense.inputs), spec.dense, folder)
        whole = WholeGraph(embeddings, network).eval()
        _write_pt2(_trace(whole, spec.whole.inputs), folder)
    return spec


def describe_graphs(model: CTRModel, schema: Schema, name: str) -> ModelSpec:
    """The signatures of both graphs."""
    embeddings = model.embeddings
    names = graph_input_names([feature.name for feature in embeddings.features])
    dense, whole = [], []
    for index, feature in enumerate(embeddings.features):
        name_in_graph = names[feature.name]
        dim = embeddings.output_dims[feature.name]
        dense.append(TensorSpec(name=name_in_graph, dtype="float32", shape=("batch", dim)))
        if feature.kind == "categorical":
            whole.append(TensorSpec(name=name_in_graph, dtype="int64", shape=("batch",)))
            continue
        whole += [
            TensorSpec(name=f"{name_in_graph}.values", dtype="int64", shape=(f"total_{index}",)),
            TensorSpec(name=f"{name_in_graph}.lengths", dtype="int64", shape=("batch",)),
        ]
    if num_dense := len(schema.numerical):
        numericals = TensorSpec(name=DENSE_INPUT, dtype="float32", shape=("batch", num_dense))
        dense, whole = [*dense, numericals], [*whole, numericals]
    return ModelSpec(
        name=name,
        dense=GraphSpec(file=ONNX_FILE, inputs=tuple(dense), outputs=OUTPUTS),
        whole=GraphSpec(file=PT2_FILE, inputs=tuple(whole), outputs=OUTPUTS),
    )


def graph_input_names(features: Sequence[str]) -> dict[str, str]:
    """A feature's input has its name, made different where a tensor of ours has that name too."""
    taken = {DENSE_INPUT, *(output.name for output in OUTPUTS)} | set(features)
    names = {}
    for feature in features:
        names[feature] = feature
        if feature in (DENSE_INPUT, *(output.name for output in OUTPUTS)):
            while names[feature] in taken:
                names[feature] += "_"
            taken.add(names[feature])
    return names


def _trace(graph: nn.Module, inputs: Sequence[TensorSpec]) -> ExportedProgram:
    dims = {size: Dim(size) for spec in inputs for size in spec.shape if isinstance(size, str)}
    # A size of 0 or 1 would be taken for a constant.
    examples = tuple(
        torch.zeros([size if isinstance(size, int) else 2 for size in spec.shape]).to(
            getattr(torch, spec.dtype)
        )
        for spec in inputs
    )
    shapes = tuple(
        {axis: dims[size] for axis, size in enumerate(spec.shape) if isinstance(size, str)}
        for spec in inputs
    )
    with _NoEmptyProducts():
        program = torch.export.export(graph, examples, dynamic_shapes=(shapes,), strict=False)
    for node in program.graph.nodes:
        for key in ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node"):
            node.meta.pop(key, None)  # the exporting machine's paths
    return program


def _write_onnx(program: ExportedProgram, spec: GraphSpec, folder: Path) -> None:
    onnx_program = torch.onnx.export(
        program,
        dynamo=True,
        verbose=False,
        input_names=[tensor.name for tensor in spec.inputs],
        output_names=[tensor.name for tensor in spec.outputs],
    )
    if onnx_program is None:
        raise RuntimeError("torch.onnx.export answered nothing")
    graph = onnx_program.model.graph
    values = [*graph.inputs, *(value for node in graph for value in node.outputs)]
    for thing in (*graph, *values):
        thing.metadata_props.clear()  # the exporting machine's paths
    shapes = [value.shape for value in values if value.shape is not None]
    batch = shapes[0][0]  # a symbol such as s21
    for shape in shapes:
        for axis in (axis for axis, size in enumerate(shape) if size == batch):
            shape[axis] = "batch"
    onnx_program.save(folder / spec.file, external_data=False)


def _write_pt2(program: ExportedProgram, folder: Path) -> None:
    program._example_inputs = None  # torch.export.save would pickle them
    values = (*program.state_dict.values(), *program.constants.values())
    size = sum(value.nbytes for value in values if isinstance(value, Tensor))
    with (folder / PT2_FILE).open("wb") as file:
        # Room first: on a full disk torch's writer would end the whole process.
        os.posix_fallocate(file.fileno(), 0, size + PT2_OVERHEAD)
    torch.export.save(program, folder / PT2_FILE)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps them silent: torch and onnxscript print progress and warn about one another."""
    previous = logging.root.manager.disable
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.ERROR)
        try:
            yield
        finally:
            logging.disable(previous)


def load_whole_graph(folder: Path) -> Callable[..., tuple[Tensor, Tensor]]:
    """The .pt2 file as a function of its inputs in order."""
    with _quiet():
        return torch.export.load(folder / PT2_FILE).module()
