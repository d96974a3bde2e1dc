"""Checks the ONNX graph of an export before onnxruntime loads it.

Every operator must be on a list of standard ones that read and write only their tensors, and whose
result does not depend on the order of threads. Scatters are not on it: onnxruntime's CPU kernels
add to one place from several threads and lose updates. Neither are loops, random numbers, text, or
other domains.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # has no stubs

from recsys.errors import RecsysError
from recsys.io.paths import read_bytes

LARGEST_FILE = (1 << 31) - 1  # bytes; protobuf reads no larger message
LARGEST_TENSOR = 1 << 28  # entries of an intermediate tensor, for one row
BY_ENTRY = """
    Abs Add And Cast Ceil Clip Cos Div Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual
    HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod
    Mul Neg Not Or PRelu Pow Reciprocal Relu Round Selu Sigmoid Sign Sin Softplus Softsign Sqrt Sub
    Sum Tanh ThresholdedRelu Where Xor
"""
BY_PLACE = """
    Concat Constant ConstantOfShape Expand Flatten Gather GatherElements GatherND NonZero Pad Range
    Reshape Shape Size Slice Split Squeeze Tile Transpose Trilu Unsqueeze
"""
SUMS = """
    ArgMax ArgMin BatchNormalization CumSum Einsum Gemm LayerNormalization LogSoftmax MatMul
    ReduceL1 ReduceL2 ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    ReduceSumSquare Softmax TopK
"""  # and products, maxima, orders: one thread computes each result
OPERATORS = frozenset(f"{BY_ENTRY} {BY_PLACE} {SUMS}".split())
STANDARD_DOMAINS = ("", "ai.onnx")
TYPES = frozenset(
    (
        onnx.TensorProto.FLOAT,
        onnx.TensorProto.DOUBLE,
        onnx.TensorProto.INT32,
        onnx.TensorProto.INT64,
        onnx.TensorProto.BOOL,
    )
)


def read_graph(path: Path) -> bytes:
    """Returns the bytes of a graph file; refuses one that onnxruntime must not load."""
    try:
        content = read_bytes(path, LARGEST_FILE)
        model = onnx.load_model_from_string(content)
    except (DecodeError, ValueError) as error:
        raise RecsysError("the graph is damaged", where=path, got=error) from None
    except OSError as error:
        raise RecsysError(
            "the graph cannot be read", where=path, got=error.strerror or error
        ) from None
    problem = next(problems(model), None)
    if problem is not None:
        raise RecsysError(
            "the graph is not safe to load",
            where=path,
            expected="standard operators on numbers, whose results do not depend on threads",
            got=problem,
            fix="export the run again; do not use an export whose source you do not trust",
        )
    return content


def problems(model: onnx.ModelProto) -> Iterator[str]:
    """Descriptions of what the graph may not contain; none for the graphs of our exports."""
    for opset in model.opset_import:
        if opset.domain not in STANDARD_DOMAINS:
            yield f"operators of the domain {opset.domain!r}"
    if model.functions or model.training_info:
        yield "functions or training graphs of its own"
    if model.graph.sparse_initializer:
        yield "sparse tensors"
    for tensor in model.graph.initializer:
        yield from _tensor_problems(tensor)
    for node in model.graph.node:
        yield from _node_problems(node)
    yield from _size_problems(model)


def _node_problems(node: onnx.NodeProto) -> Iterator[str]:
    if node.domain not in STANDARD_DOMAINS or node.op_type not in OPERATORS:
        yield f"the operator {node.domain + '.' if node.domain else ''}{node.op_type}"
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.TENSOR:
            yield from _tensor_problems(attribute.t)
        elif attribute.type in (
            onnx.AttributeProto.GRAPH,
            onnx.AttributeProto.GRAPHS,
            onnx.AttributeProto.SPARSE_TENSOR,
            onnx.AttributeProto.SPARSE_TENSORS,
        ):
            yield f"a graph or a sparse tensor within the operator {node.op_type}"


def _tensor_problems(tensor: onnx.TensorProto) -> Iterator[str]:
    if tensor.external_data or tensor.data_location == onnx.TensorProto.EXTERNAL:
        yield f"the tensor {tensor.name!r}, whose values are in another file"
    elif tensor.data_type not in TYPES:
        yield f"the tensor {tensor.name!r} of a type that is not a number"
    elif math.prod(tensor.dims) > tensor.ByteSize():  # a bit of raw data is an entry at least
        yield f"the tensor {tensor.name!r} of {list(tensor.dims)}, with fewer values than that"


def _size_problems(model: onnx.ModelProto) -> Iterator[str]:
    """Intermediate tensors that would be too large even for one row."""
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
        yield f"inconsistent shapes: {error}"
        return
    for value in inferred.graph.value_info:
        sizes = [max(dim.dim_value, 1) for dim in value.type.tensor_type.shape.dim]
        if math.prod(sizes) > LARGEST_TENSOR:
            entries = f"{math.prod(sizes):,} entries per row"
            yield f"the tensor {value.name!r}, which would have {entries}"
