"""Where tensors are computed, and how what the host made gets there without the host waiting.

A small network on a GPU is bound by waits, not by arithmetic: the host must run ahead of the device. So everything
irregular (batches, noise, which slots are read) is made on the CPU, `move` sends it over without waiting, and each step
reads back once.
"""

import torch
from torch import Tensor

from minittt.errors import MinitttError

SHARES_MEMORY = ("cpu", "mps")  # what the host writes is already there: there is no copy to wait for


def best_device() -> torch.device:
    """CUDA if there is one, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def device_named(name: str) -> torch.device:
    """A device by the name that `--device` takes. Raises MinitttError for one that is not there."""
    if name == "auto":
        return best_device()
    if name not in ("cpu", "cuda", "mps"):
        raise MinitttError(f"there is no device {name!r}: choose auto, cpu, cuda or mps")
    is_there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not is_there[name]:
        raise MinitttError(f"there is no device {name} here: use --device auto, which is {best_device()}")
    return torch.device(name)


def bfloat16_is_fast(device: torch.device) -> bool:
    """Whether the device multiplies in bfloat16: CUDA devices since Ampere do, and so do CPUs that say so."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    known = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))


def with_float64(device: torch.device) -> torch.device:
    """The device itself if it can compute in float64, else the CPU: Apple's MPS cannot."""
    try:
        torch.zeros(1, dtype=torch.float64, device=device)
    except TypeError:
        return torch.device("cpu")
    return device


def move(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on `device`; the host does not wait for the copy.

    From pageable memory CUDA copies only while the host waits, hence the pinned memory in between.
    """
    if tensor.device == device:
        return tensor
    if tensor.device.type == "cpu" and device.type not in SHARES_MEMORY:
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
