"""What this project uses of torch that torch does not document; one function for each, with why."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributed._shard.sharded_tensor.api import ShardedTensor

# torchrec's state dicts hold this type, and `torch.distributed.checkpoint` saves it; its only
# import path is a private one.
__all__ = ["ShardedTensor"]


def has_onednn() -> bool:
    """Whether torch was built with oneDNN: `torch.backends.mkldnn` can only be switched off."""
    return torch._C._has_mkldnn


def onednn_linear(values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Values (…, I), weight (O, I) → (…, O) by oneDNN; public calls leave the choice to torch."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(values, weight, bias, "none", [], "")
    return product


def norms(tensors: Sequence[Tensor]) -> Tensor:
    """The norm of each tensor, in a few GPU kernels where a loop would launch one for each."""
    return torch.stack(torch._foreach_norm(list(tensors)))


def has_bf16_instructions() -> bool:
    """Whether this CPU multiplies in bf16; no documented function tells."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def assume(condition: bool) -> None:
    """Tells `torch.export` that a size keeps a bound which it cannot derive by itself."""
    torch._check(condition)  # type: ignore[no-untyped-call]  # torch declares it without types
