"""The exported graphs: their files, inputs and outputs."""

from typing import Literal

from pydantic import PositiveInt

from recsys.config.base import BaseConfig
from recsys.io.paths import RelativePath

ONNX_FILE, PT2_FILE = "model/dense.onnx", "model/model.pt2"


class TensorSpec(BaseConfig):
    """One input or output; a size that may differ from call to call is a name, such as batch."""

    name: str
    dtype: Literal["float32", "int64"]
    shape: tuple[PositiveInt | str, ...]


class GraphSpec(BaseConfig):
    """One graph file and its tensors, in order."""

    file: RelativePath
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class ModelSpec(BaseConfig):
    """`dense` starts from looked-up vectors (ONNX), `whole` from ids (torch.export, positional).

    Sizes of inputs: batch, the rows; total_*, the ids of all rows of a sequence, end to end.
    In `whole` a sequence feature is two inputs: its ids (total,), and how many each row has.
    In `dense` it is one, (batch, dim), and a history is one too, (total, dim); the lengths (batch,)
    of a pair's histories are one input, named by the pair.
    """

    name: str
    dense: GraphSpec
    whole: GraphSpec
