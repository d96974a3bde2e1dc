"""Whether fbgemm is installed and has CUDA kernels, and the one operator that replaces them.

Machines with a GPU often have the CPU build of fbgemm only. torchrec imports there, and of all its
operators a batch on the GPU needs one (lengths → offsets).
"""

from importlib.util import find_spec

import torch
from torch import Tensor

from recsys.errors import RecsysError

# an operator of every CUDA build; lookups tell nothing, they are registered for CUDA in all builds
PROBE = "fbgemm::permute_2D_sparse_data"
_fbgemm = torch.library.Library("fbgemm", "IMPL")  # type: ignore[no-untyped-call]  # torch.library is untyped


def has_cuda_kernels() -> bool:
    """True with the CUDA build of fbgemm; call it after fbgemm has been imported."""
    return torch._C._dispatch_has_kernel_for_dispatch_key(PROBE, "CUDA")


def missing_packages() -> list[str]:
    """The modules that the fused store needs and that are not installed."""
    return [name for name in ("torchrec", "fbgemm_gpu") if find_spec(name) is None]


def check_fused(device: torch.device) -> None:
    """Refuses the fused store without torchrec and fbgemm, or without kernels for this GPU."""
    if missing := missing_packages():
        raise RecsysError(
            "fused tables need torchrec and fbgemm",
            where="embeddings.store",
            expected="plain, or both packages installed",
            got=f"fused, without {' and '.join(missing)}",
            fix="set embeddings.store=plain, or install what `recsys doctor` prints for this torch",
        )
    if device.type == "cuda" and not has_cuda_kernels():
        raise RecsysError(
            "fused tables cannot run on this GPU: the installed fbgemm has no CUDA kernels",
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
