"""The model as graphs: its dense part in ONNX, and the whole as ATen ops of torch.export.

Both take tensors by position and return logits (B,) and probabilities (B,).
"""

import contextlib
import copy
import io
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.overrides import TorchFunctionMode

from recsys.errors import RecsysError
from recsys.export.graph_modules import DenseGraph, WholeGraph
from recsys.export.signatures import describe_graphs, histories_of
from recsys.models.ctr_model import CTRModel
from recsys.models.two_stage import TwoStage
from recsys.schema import Schema
from recsys.serving.graph_spec import ONNX_FILE, PT2_FILE, GraphSpec, ModelSpec, TensorSpec
from recsys.serving.onnx_checks import read_graph

LARGEST = 1 << 48  # rows, or behaviors of all rows: torch.export needs a bound to add 1 to a size
# Operators that add to one place from several threads, at least on a GPU, or draw random numbers.
NOT_REPEATABLE = r"scatter|index_add|index_put|index_reduce|rand|normal|bernoulli|multinomial"
PT2_OVERHEAD = 1 << 20  # bytes of a .pt2 file beside its tensors, at most


class _ForOnnxruntime(TorchFunctionMode):
    """Writes zeros for a product over no columns: onnxruntime would read uninitialized memory."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401  whatever the function returns
        if function in _PRODUCTS and args[0].shape[-1] == 0:
            return args[0].new_zeros(args[0].shape[:-1] + args[1].shape[1:])
        return function(*args, **(kwargs or {}))


_PRODUCTS = (torch.matmul, Tensor.matmul, Tensor.__matmul__)


def write_graphs(model: CTRModel, schema: Schema, name: str, folder: Path) -> ModelSpec:
    """Writes both graphs below `folder` and returns their signatures."""
    embeddings = model.embeddings
    spec = describe_graphs(embeddings, schema, name)
    histories = histories_of(embeddings, schema)
    (folder / ONNX_FILE).parent.mkdir()
    network = copy.deepcopy(model.network).cpu()
    if isinstance(network.model, TwoStage):
        network.model.auxiliary_tail = None  # only used in training
    with _quiet(), torch.no_grad():
        dense = DenseGraph(network, embeddings, histories).eval()
        _write_onnx(_trace(dense, spec.dense.inputs), spec.dense, folder)
        _check_onnx(folder / spec.dense.file)
        whole = WholeGraph(network, embeddings, histories).eval()
        _write_pt2(_trace(whole, spec.whole.inputs), folder)
    return spec


def _trace(graph: nn.Module, inputs: Sequence[TensorSpec]) -> ExportedProgram:
    dims = {
        size: Dim(size, max=LARGEST)
        for spec in inputs
        for size in spec.shape
        if isinstance(size, str)
    }
    # torch.export treats a size of 0 or 1 as a constant.
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
    with _ForOnnxruntime():
        program = torch.export.export(graph, examples, dynamic_shapes=(shapes,), strict=False)
    for node in program.graph.nodes:
        for key in ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node"):
            node.meta.pop(key, None)  # the exporting machine's paths
    for node in program.graph.nodes:
        if node.op == "call_function" and re.search(NOT_REPEATABLE, str(node.target)):
            raise RuntimeError(f"a graph with {node.target} does not always give equal scores")
    return program


def _check_onnx(path: Path) -> None:
    """A graph that the reader would refuse is a bug, not a mistake of the user."""
    try:
        read_graph(path)
    except RecsysError as error:
        raise RuntimeError(f"the exported graph is refused: {error}") from None


def _write_onnx(program: ExportedProgram, spec: GraphSpec, folder: Path) -> None:
    onnx_program = torch.onnx.export(
        program,
        dynamo=True,
        verbose=False,
        input_names=[tensor.name for tensor in spec.inputs],
        output_names=[tensor.name for tensor in spec.outputs],
    )
    if onnx_program is None:
        raise RuntimeError("torch.onnx.export returned None")
    graph = onnx_program.model.graph
    values = [*graph.inputs, *(value for node in graph for value in node.outputs)]
    for thing in (*graph, *values):
        thing.metadata_props.clear()  # the exporting machine's paths
    inner = (value for node in graph for value in node.outputs if value not in graph.outputs)
    for number, value in enumerate((*graph.initializers.values(), *inner)):
        value.name = f"/{number}"  # a feature may have the name that torch gave a value
    sizes = {  # names of symbols such as s21
        symbol: size
        for value, tensor in zip(graph.inputs, spec.inputs, strict=True)
        for symbol, size in zip(value.shape or (), tensor.shape, strict=True)
        if isinstance(size, str)
    }
    for shape in (value.shape for value in values if value.shape is not None):
        for axis, size in enumerate(shape):
            if size in sizes:
                shape[axis] = sizes[size]
    onnx_program.save(folder / spec.file, external_data=False)


def _write_pt2(program: ExportedProgram, folder: Path) -> None:
    program._example_inputs = None  # torch.export.save would pickle them
    values = (*program.state_dict.values(), *program.constants.values())
    size = sum(value.nbytes for value in values if isinstance(value, Tensor))
    with (folder / PT2_FILE).open("wb") as file:
        # Reserves the space first: on a full disk torch's writer would abort the process.
        os.posix_fallocate(file.fileno(), 0, size + PT2_OVERHEAD)
    torch.export.save(program, folder / PT2_FILE)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences torch and onnxscript, which print progress and warn about each other."""
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
