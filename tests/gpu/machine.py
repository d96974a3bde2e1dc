"""The device that these tests run on, and what it lacks.

RECSYS_GPU_TESTS_ON=cpu runs on the CPU what can run there: it tries the tests, not the GPU.
"""

import os

import pytest
import torch

import recsys.compat.torchrec  # noqa: F401  loads fbgemm
from recsys.compat.fbgemm import has_cuda_kernels

DEVICE = torch.device(os.environ.get("RECSYS_GPU_TESTS_ON", "cuda"))
IS_CUDA = DEVICE.type == "cuda"
IS_HERE = torch.cuda.is_available() or not IS_CUDA
HAS_FUSED = has_cuda_kernels() or not IS_CUDA
NO_CUDA = "torch sees no CUDA device here"
NO_KERNELS = "fbgemm is here without its CUDA kernels" if IS_HERE else NO_CUDA

needs_fused = pytest.mark.skipif(not HAS_FUSED, reason=NO_KERNELS)
needs_fused_cuda = pytest.mark.skipif(
    not (HAS_FUSED and IS_CUDA), reason=NO_KERNELS if IS_CUDA else "only on CUDA"
)
stores = pytest.mark.parametrize("store", [pytest.param("fused", marks=needs_fused), "plain"])
