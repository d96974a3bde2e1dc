"""The random state of a process: dropout draws from the device's own generator."""

import torch
from torch import Tensor


def get_random_state(device: torch.device) -> Tensor:
    """The bytes of the CPU generator's state, followed by those of the GPU's, if there is one."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return torch.cat(states)


def set_random_state(state: Tensor, device: torch.device) -> None:
    """Restores `get_random_state`; a GPU without a saved state is seeded from the CPU state."""
    of_cpu, of_gpu = state.tensor_split([len(torch.get_rng_state())])
    torch.set_rng_state(of_cpu)
    if device.type == "cuda" and len(of_gpu):
        torch.cuda.set_rng_state(of_gpu, device)
    elif device.type == "cuda":
        torch.cuda.manual_seed(int(torch.randint(2**62, (), generator=_copy_of(of_cpu))))


def _copy_of(state: Tensor) -> torch.Generator:
    generator = torch.Generator()
    generator.set_state(state)
    return generator
