"""layout.json: which piece of which table is in which file of a checkpoint.

The file may come from a stranger: every name, number and path in it is checked before use.
"""

import math
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, ValidationError, model_validator
from torch import Tensor
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)

from recsys.config.base import BaseConfig
from recsys.errors import RecsysError
from recsys.io.paths import read_bytes

LAYOUT_FILE = "layout.json"
SAME_CONFIG = "use the config and the dataset that the checkpoint was written with"
DTYPES = {
    name: getattr(torch, name)
    for name in ("float64", "float32", "bfloat16", "float16", "int64", "int32", "uint8", "bool")
}
Sizes = Annotated[
    tuple[Annotated[int, Field(ge=0, lt=2**48, strict=True)], ...], Field(max_length=8)
]


class ChunkLayout(BaseConfig):
    """A box of a tensor: its offsets, its sizes, its file and its key in that file."""

    offsets: Sizes
    sizes: Sizes
    file: str = Field(pattern=r"^rank-\d{5}\.safetensors$")
    key: str


class TensorLayout(BaseConfig):
    """A whole tensor and the boxes that make it up."""

    size: Sizes
    dtype: str
    chunks: tuple[ChunkLayout, ...]

    @model_validator(mode="after")
    def _chunks_fill_the_tensor(self) -> Self:
        if self.dtype not in DTYPES:
            raise ValueError(f"unknown dtype {self.dtype!r}")
        for chunk in self.chunks:
            if not len(chunk.offsets) == len(chunk.sizes) == len(self.size):
                raise ValueError(f"{chunk.key} has another number of dimensions")
            ends = (o + s for o, s in zip(chunk.offsets, chunk.sizes, strict=True))
            if any(end > side for end, side in zip(ends, self.size, strict=True)):
                raise ValueError(f"{chunk.key} reaches beyond the tensor")
        if sum(math.prod(chunk.sizes) for chunk in self.chunks) != math.prod(self.size):
            raise ValueError("the chunks do not fill the tensor")
        return self


class Layout(BaseConfig):
    """All tensors by name."""

    format: Literal[1] = 1
    tensors: dict[str, TensorLayout]


@dataclass(frozen=True)
class WrittenPiece:
    """The file that a rank has written a piece to, and the sha256 of that file."""

    file: str
    key: str
    sha256: str


def from_metadata(metadata: Metadata, written: Mapping[MetadataIndex, WrittenPiece]) -> Layout:
    """Makes a layout of what torch.distributed.checkpoint knows about the written tensors."""
    tensors = {}
    for name, tensor in metadata.state_dict_metadata.items():
        assert isinstance(tensor, TensorStorageMetadata)  # a store's state holds tensors only
        pieces = [written[MetadataIndex(name, chunk.offsets)] for chunk in tensor.chunks]
        chunks = tuple(
            ChunkLayout(
                offsets=tuple(chunk.offsets),
                sizes=tuple(chunk.sizes),
                file=piece.file,
                key=piece.key,
            )
            for chunk, piece in zip(tensor.chunks, pieces, strict=True)
        )
        dtype = str(tensor.properties.dtype).removeprefix("torch.")
        tensors[name] = TensorLayout(size=tuple(tensor.size), dtype=dtype, chunks=chunks)
    return Layout(tensors=tensors)


def to_metadata(layout: Layout) -> Metadata:
    """The inverse of `from_metadata`."""
    return Metadata(
        {
            name: TensorStorageMetadata(
                properties=TensorProperties(dtype=DTYPES[tensor.dtype]),
                size=torch.Size(tensor.size),
                chunks=[
                    ChunkStorageMetadata(torch.Size(chunk.offsets), torch.Size(chunk.sizes))
                    for chunk in tensor.chunks
                ],
            )
            for name, tensor in layout.tensors.items()
        }
    )


def read_layout(folder: Path) -> Layout:
    """Reads and checks `layout.json`."""
    path = folder / LAYOUT_FILE
    try:
        return Layout.model_validate_json(read_bytes(path))
    except OSError as error:
        raise RecsysError(
            "the checkpoint's tables cannot be read", where=path, got=error.strerror
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        raise RecsysError(
            "the checkpoint's list of tables is damaged",
            where=f"{path}: {'.'.join(map(str, first['loc']))}",
            got=first["msg"],
        ) from None


def check_fit(layout: Layout, live: Mapping[str, Tensor], folder: Path) -> None:
    """Refuses a checkpoint that lacks one of `live`, or has it in another size or dtype."""
    for name, tensor in sorted(live.items()):
        if name not in layout.tensors:
            raise RecsysError(
                f"the checkpoint has no {name}",
                where=folder,
                got=", ".join(sorted(layout.tensors)[:20]),
                fix=SAME_CONFIG,
            )
        _check_tensor(name, layout.tensors[name], tensor, folder)


def check_no_more(layout: Layout, names: Set[str], folder: Path) -> None:
    """Refuses a checkpoint with tensors that are not in `names` (those of all ranks)."""
    for name in sorted(layout.tensors.keys() - names):
        raise RecsysError(
            f"the checkpoint holds {name}, which this config does not have",
            where=folder,
            fix=SAME_CONFIG,
        )


def _check_tensor(name: str, stored: TensorLayout, live: Tensor, folder: Path) -> None:
    expected = (tuple(live.size()), str(live.dtype).removeprefix("torch."))
    if (stored.size, stored.dtype) == expected:
        return
    raise RecsysError(
        f"{name} of the checkpoint does not fit",
        where=folder,
        expected=f"{expected[1]} of shape {expected[0]}",
        got=f"{stored.dtype} of shape {stored.size}",
        fix=_fix(name, stored.size, expected[0]),
    )


def _fix(name: str, stored: tuple[int, ...], live: tuple[int, ...]) -> str:
    is_state = not name.endswith("/weight") and len(stored) == len(live) and stored and live
    if is_state and stored[1:] == live[1:] and 0 in (stored[0] % live[0], live[0] % stored[0]):
        return (
            "rowwise_adagrad keeps one accumulator per column shard, so the state of a table that "
            "is sharded column_wise fits only the same number of column shards: resume with the "
            "plan of the first run, or shard this table in another way than column_wise"
        )
    return SAME_CONFIG
