"""Choose the device to compute on; a wish that cannot be met is refused, never changed silently."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, nullcontext

import torch

from lesionlens.base.errors import ResourceError, UnusableInputError


def choose(wish: str = "auto") -> torch.device:
    """Turn a user's words into a device.

    Parameters
    ----------
    wish : str
        "auto" (the first CUDA device, else the CPU), "cpu", "cuda" or "cuda:N".

    Raises
    ------
    UnusableInputError
        The words name no kind of device that is known here.
    ResourceError
        The CUDA device asked for is not there.

    Examples
    --------
    >>> choose("cpu")
    device(type='cpu')
    """
    words = wish.strip().lower()
    if words == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    if words == "cpu":
        return torch.device("cpu")
    match = re.fullmatch(r"cuda(?::(\d{1,3}))?", words)
    if match is None:
        raise UnusableInputError(
            found=f"the device {wish!r}",
            expected="auto, cpu, cuda or cuda:N",
            next_step="Use --device auto to take what is there",
        )
    index, count = int(match[1] or 0), torch.cuda.device_count()
    if index >= count:
        raise ResourceError(
            found=f"{count or 'no'} CUDA device{'' if count == 1 else 's'} here",
            expected=f"the device {words}",
            next_step="Use --device cpu or --device auto; `lesionlens doctor` lists what is there",
        )
    return torch.device("cuda", index)


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware, about twice as fast as float32.

    Any CUDA device; a CPU with AVX-512 BF16 or AMX.
    """
    if device.type == "cuda":
        return True
    ask = getattr(torch.cpu, "get_capabilities", None)
    found = ask() if ask is not None else {}
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def autocast(device: torch.device, wanted: bool) -> AbstractContextManager[object]:
    """Return the context in which a network computes in bfloat16, or where not wanted as it is."""
    return torch.autocast(device.type, torch.bfloat16) if wanted else nullcontext()


def describe(device: torch.device) -> str:
    """Say in words what a device is, for the run's record."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} (cuda:{device.index or 0})"
    threads = torch.get_num_threads()
    precision = ", bfloat16" if has_fast_bfloat16(device) else ""
    return f"{device.type} ({threads} thread{'' if threads == 1 else 's'}{precision})"
