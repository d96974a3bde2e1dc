"""Whether fbgemm has kernels for CUDA here, and what stands in where it has none.

Machines with a GPU often have the CPU build of fbgemm only. torchrec imports there, and of all its
operators a batch on the GPU needs one (lengths → offsets): with that one, the plain store serves.
"""

import torch
from torch import Tensor

from recsys.errors import RecsysError

# an operator of every CUDA build; lookups tell nothing, they are registered for CUDA in all builds
PROBE = "fbgemm::permute_2D_sparse_data"
_fbgemm = torch.library.Library("fbgemm", "IMPL")  # type: ignore[no-untyped-call]  # torch.library is untyped


def has_cuda_kernels() -> bool:
    """True with the CUDA build of fbgemm; call it after fbgemm has been imported."""
    return torch._C._dispatch_has_kernel_for_dispatch_key(PROBE, "CUDA")


def check_fused(device: torch.device) -> None:
    """Refuses the fused store on a GPU for which fbgemm has no kernels."""
    if device.type == "cuda" and not has_cuda_kernels():
        raise RecsysError(
            "fused tables cannot run on this GPU: fbgemm is here without its CUDA kernels",
            where="embeddings.store",
            expected="plain, or the package fbgemm-gpu",
            got="fused, with the package fbgemm-gpu-cpu",
            fix="set embeddings.store=plain or train.device=cpu; `recsys doctor` names the package",
        )


def complete_cumsum(lengths: Tensor) -> Tensor:
    """Lengths (L,) or (K, L) → offsets, one more in the last dimension, from 0 to the sum."""
    sums = lengths.cumsum(-1, dtype=lengths.dtype)
    return torch.nn.functional.pad(sums, (1, 0))


def stand_in_for_missing() -> None:
    """Gives batches on a GPU the operator that they need, if the installed build lacks it."""
    if not has_cuda_kernels():
        _fbgemm.impl(  # type: ignore[no-untyped-call]  # torch.library is untyped
            "asynchronous_complete_cumsum", complete_cumsum, "CUDA"
        )
