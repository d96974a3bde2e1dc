"""Models of histories as graphs: any number of rows and behaviors, in torch.export and ONNX."""

import contextlib
import io
import logging
import warnings

import onnxruntime
import pytest
import torch
from torch import nn
from torch.export import Dim

from recsys.layers.history import History
from tests.histories import random_history
from tests.models.test_sequence_contract import EXAMPLES, build

MAX_LENGTH, LARGEST = 6, 2**48
SHAPES = [(3, 0, 5, 1, 2), (6, 6), (0, 0), (1,), (0, 2, 0)]


class Graph(nn.Module):
    """Tensors in a row instead of histories, as an export passes them."""

    def __init__(self, model, num_pairs):
        super().__init__()
        self.model, self.num_pairs = model, num_pairs

    def forward(self, *inputs):
        vectors, dense, *rest = inputs
        each = len(rest) // self.num_pairs
        pairs = [rest[i * each : (i + 1) * each] for i in range(self.num_pairs)]
        return self.model(
            vectors, dense, *(History(v, n, t, MAX_LENGTH, *more) for v, n, t, *more in pairs)
        )


def tensors_of(history):
    tensors = [history.vectors, history.lengths, history.target]
    if history.attention_vectors is not None:
        tensors += [history.attention_vectors, history.attention_target]
    return [tensor.detach() for tensor in tensors]


def inputs_of(config, lengths):
    """What the graph takes, and the dynamic size of each tensor's first axis."""
    attention_dim = 3 if config.attention == "required" else None
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(len(lengths), width, generator=generator) for width in (7, 1)]
    sizes = ["batch", "batch"]
    for pair in range(len(config.pairs)):
        history = random_history(lengths=lengths, attention_dim=attention_dim, seed=pair)
        inputs += tensors_of(history)
        sizes += [f"total_{pair}", "batch", "batch"]
        sizes += [f"total_{pair}", "batch"] if attention_dim else []
    return inputs, sizes


def trace(config):
    model, *_ = build(config, max_length=MAX_LENGTH)
    graph = Graph(model, len(config.pairs)).eval()
    inputs, sizes = inputs_of(config, SHAPES[0])
    dims = {name: Dim(name, max=LARGEST) for name in sizes}
    shapes = (tuple({0: dims[name]} for name in sizes),)
    with torch.no_grad():
        program = torch.export.export(graph, tuple(inputs), dynamic_shapes=shapes, strict=False)
    return graph, program


@pytest.mark.parametrize("config", EXAMPLES, ids=lambda config: config.name)
def test_a_traced_model_scores_other_numbers_of_rows_and_behaviors(config):
    graph, program = trace(config)
    traced = program.module()
    for lengths in SHAPES:
        inputs, _ = inputs_of(config, lengths)
        with torch.no_grad():
            torch.testing.assert_close(traced(*inputs), graph(*inputs), msg=str(lengths))
    operators = {str(n.target) for n in program.graph.nodes if n.op == "call_function"}
    assert all(name.startswith(("aten.", "<built-in function ")) for name in operators)


@pytest.mark.slow
@pytest.mark.parametrize("config", [EXAMPLES[1], EXAMPLES[6]], ids=lambda c: c.name)
def test_onnxruntime_scores_as_the_model_does(config):
    graph, program = trace(config)
    logging.disable(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # torch and onnxscript about one another
        onnx_program = torch.onnx.export(program, dynamo=True, verbose=False)
    logging.disable(logging.NOTSET)
    session = onnxruntime.InferenceSession(onnx_program.model_proto.SerializeToString())
    names = [tensor.name for tensor in session.get_inputs()]
    for lengths in SHAPES:
        inputs, _ = inputs_of(config, lengths)
        (got,) = session.run(None, dict(zip(names, [i.numpy() for i in inputs], strict=True)))
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(got), graph(*inputs), msg=str(lengths))
