"""The device of a run."""

from typing import Literal

import torch

from recsys.compat.torch_internals import has_bf16_instructions
from recsys.errors import RecsysError


def choose_device(wanted: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """`auto` is the GPU if there is one: the first, unless a rank has its own."""
    has_cuda = torch.cuda.is_available()
    if wanted == "cpu" or (wanted == "auto" and not has_cuda):
        return torch.device("cpu")
    if not has_cuda:
        raise RecsysError(
            "no CUDA device can be used here",
            where="train.device",
            expected="cpu or auto",
            got="cuda",
            fix="`recsys doctor` says what is installed",
        )
    return torch.device("cuda", 0)  # by number: making a context here would cost every rank one


def has_bf16(device: torch.device) -> bool:
    """Whether the hardware has bf16 arithmetic, not an emulation."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return has_bf16_instructions()


def check_bf16(device: torch.device) -> None:
    """Refuses bf16 on a GPU without bf16 arithmetic; a CPU emulates it, slowly."""
    if device.type == "cuda" and not has_bf16(device):
        raise RecsysError(
            f"this device ({device.type}) has no bf16 arithmetic",
            where="train.precision",
            expected="fp32",
            got="bf16",
        )


def describe_device(device: torch.device) -> str:
    """`cpu`, or the name of the GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
