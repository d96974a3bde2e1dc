"""What a graph file may not hold is refused before onnxruntime sees it."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from recsys.errors import RecsysError
from recsys.serving import onnx_checks
from recsys.serving.onnx_checks import read_graph

FLOAT = TensorProto.FLOAT


def graph_of(*nodes, initializers=(), domains=("",), sizes=("batch", 3)):
    given = helper.make_tensor_value_info("x", FLOAT, sizes)
    made = helper.make_tensor_value_info("y", FLOAT, None)
    graph = helper.make_graph(nodes, "dense", [given], [made], list(initializers))
    opsets = [helper.make_opsetid(domain, 20 if domain == "" else 1) for domain in domains]
    return helper.make_model(graph, opset_imports=opsets)


def refusal(model, tmp_path):
    path = tmp_path / "dense.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(RecsysError) as caught:
        read_graph(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def constant(name, values):
    return numpy_helper.from_array(np.asarray(values), name)


def test_a_graph_of_listed_operators_is_read(tmp_path):
    model = graph_of(helper.make_node("Relu", ["x"], ["y"]))
    (tmp_path / "dense.onnx").write_bytes(model.SerializeToString())
    assert read_graph(tmp_path / "dense.onnx") == model.SerializeToString()


@pytest.mark.parametrize(
    ("operator", "inputs", "attributes"),
    [
        ("ScatterND", ["x", "places", "x"], {"reduction": "add"}),
        ("ScatterND", ["x", "places", "x"], {}),  # nobody can tell that places do not repeat
        ("ScatterElements", ["x", "places", "x"], {"reduction": "add"}),
        ("Scatter", ["x", "places", "x"], {}),
        ("RandomNormalLike", ["x"], {}),
        ("RandomUniform", [], {"shape": [3]}),
        ("Bernoulli", ["x"], {}),
        ("Multinomial", ["x"], {}),
        ("Dropout", ["x"], {}),
        ("MaxUnpool", ["x", "places"], {"kernel_shape": [1]}),
        ("StringNormalizer", ["x"], {}),
        ("Evil", ["x"], {}),
    ],
)
def test_an_operator_that_is_not_listed_is_named(tmp_path, operator, inputs, attributes):
    node = helper.make_node(operator, inputs, ["y"], **attributes)
    model = graph_of(node, initializers=[constant("places", np.zeros((1, 1), np.int64))])
    assert f"the operator {operator}\n" in refusal(model, tmp_path)


def test_other_domains_and_own_functions_are_refused(tmp_path):
    node = helper.make_node("Relu", ["x"], ["y"], domain="com.evil")
    assert "'com.evil'" in refusal(graph_of(node, domains=("", "com.evil")), tmp_path)
    assert "com.evil.Relu" in refusal(graph_of(node), tmp_path)
    model = graph_of(helper.make_node("Relu", ["x"], ["y"]))
    body = helper.make_node("Relu", ["a"], ["b"])
    opsets = [helper.make_opsetid("", 20)]
    model.functions.append(helper.make_function("", "Relu", ["a"], ["b"], [body], opsets))
    assert "functions" in refusal(model, tmp_path)


def test_a_loop_is_refused_and_a_graph_within_any_operator_too(tmp_path):
    inner = graph_of(helper.make_node("Relu", ["x"], ["y"])).graph
    node = helper.make_node("Relu", ["x"], ["y"], body=inner)
    assert "within the operator Relu" in refusal(graph_of(node), tmp_path)
    loop = helper.make_node("Loop", ["", "", "x"], ["y"], body=inner)
    assert "the operator Loop" in refusal(graph_of(loop), tmp_path)


def test_values_in_another_file_are_refused(tmp_path):
    tensor = constant("w", np.ones(3, np.float32))
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"
    node = helper.make_node("Add", ["x", "w"], ["y"])
    assert "in another file" in refusal(graph_of(node, initializers=[tensor]), tmp_path)
    held = helper.make_node("Constant", [], ["y"], value=tensor)
    assert "in another file" in refusal(graph_of(held), tmp_path)


def test_tensors_of_text_and_tensors_without_their_values_are_refused(tmp_path):
    text = helper.make_tensor("w", TensorProto.STRING, [1], [b"a"])
    node = helper.make_node("Add", ["x", "w"], ["y"])
    assert "not a number" in refusal(graph_of(node, initializers=[text]), tmp_path)
    empty = TensorProto(name="w", data_type=FLOAT, dims=[6_000_000_000])
    assert "with fewer values" in refusal(graph_of(node, initializers=[empty]), tmp_path)


@pytest.mark.parametrize("operator", ["ConstantOfShape", "Expand", "Tile", "Range"])
def test_a_tensor_that_a_few_bytes_would_make_huge_is_refused(tmp_path, operator):
    huge = constant("huge", np.array([1, 6_000_000_000], np.int64))
    inputs = {
        "ConstantOfShape": ["huge"],
        "Expand": ["x", "wide"],
        "Tile": ["x", "huge"],
        "Range": ["start", "end", "step"],
    }[operator]
    numbers = [constant(n, np.int64(v)) for n, v in (("start", 0), ("end", 10**10), ("step", 1))]
    numbers.append(constant("wide", np.array([6_000_000_000, 1, 3], np.int64)))
    made = helper.make_node(operator, inputs, ["made"])
    then = helper.make_node("Shape", ["made"], ["y"])
    message = refusal(graph_of(made, then, initializers=[huge, *numbers]), tmp_path)
    assert "'made', which would have" in message


def test_a_damaged_or_too_large_file_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "dense.onnx"
    path.write_bytes(b"\x80\x04not a graph")
    with pytest.raises(RecsysError, match="the graph is damaged"):
        read_graph(path)
    monkeypatch.setattr(onnx_checks, "LARGEST_FILE", 8)
    with pytest.raises(RecsysError, match="too large"):
        read_graph(path)
    with pytest.raises(RecsysError, match="cannot be read"):
        read_graph(tmp_path / "nothing.onnx")


def test_every_listed_operator_is_a_standard_one():
    standard = {schema.name for schema in onnx.defs.get_all_schemas()}
    assert standard >= onnx_checks.OPERATORS
    assert not any("Scatter" in name or "Random" in name for name in onnx_checks.OPERATORS)
