"""Array operations that numpy and torch name differently, for code that runs with either.

A torch engine keeps its arrays on its device; other engines use numpy.
Nothing here imports torch: torch is looked up in `sys.modules` only if an array is a tensor.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = Any
"""A numpy array, or a torch tensor."""
Device = Any
"""A torch device; None for numpy arrays."""


def namespace(x: Array) -> Any:
    """Return the module (numpy or torch) that an array belongs to.

    Examples
    --------
    >>> namespace(np.zeros(2)).__name__
    'numpy'
    """
    return np if isinstance(x, np.ndarray) else sys.modules["torch"]


def device_of(x: Array) -> Device:
    """Return the device of an array; None for numpy."""
    return None if isinstance(x, np.ndarray) else x.device


def to_device(values: NDArray[Any], device: Device) -> Array:
    """Copy a numpy array to a device; None returns it unchanged."""
    return values if device is None else sys.modules["torch"].from_numpy(values).to(device)


def to_numpy(x: Array) -> NDArray[Any]:
    """Return an array as a numpy array on the CPU."""
    return x if isinstance(x, np.ndarray) else np.asarray(x.cpu().numpy())


def zeros(shape: Sequence[int], device: Device) -> Array:
    """Return a float32 array of zeros."""
    if device is None:
        return np.zeros(tuple(shape), np.float32)
    torch = sys.modules["torch"]
    return torch.zeros(tuple(shape), dtype=torch.float32, device=device)


def floats(x: Array) -> Array:
    """Return an array as float32."""
    return np.asarray(x, np.float32) if isinstance(x, np.ndarray) else x.float()


def halves(x: Array) -> Array:
    """Return an array as float16, for storage."""
    return x.astype(np.float16) if isinstance(x, np.ndarray) else x.half()


def sigmoid(x: Array) -> Array:
    """Return 1 / (1 + exp(-x)) in the array's own type."""
    if isinstance(x, np.ndarray):
        return 1 / (1 + np.exp(-x.clip(-80, 80)))  # beyond, float32 overflows
    return x.sigmoid()


def logit(x: Array, eps: float) -> Array:
    """Return log(x / (1 - x)), with x clipped to [eps, 1 - eps]."""
    if isinstance(x, np.ndarray):
        inside = x.clip(eps, 1 - eps)
        return np.log(inside) - np.log1p(-inside)
    return x.logit(eps=eps)


def softmax(x: Array) -> Array:
    """Return the softmax along the last axis."""
    if isinstance(x, np.ndarray):
        raised = np.exp(x - x.max(-1, keepdims=True))
        return raised / raised.sum(-1, keepdims=True)
    return x.softmax(-1)


def quantiles(x: Array, shares: Sequence[float]) -> Array:
    """Return quantiles of an array, by linear interpolation.

    Examples
    --------
    >>> quantiles(np.arange(5, dtype=np.float32), (0.25, 0.5)).tolist()
    [1.0, 2.0]
    """
    if isinstance(x, np.ndarray):
        return np.quantile(x, np.asarray(shares, x.dtype)).astype(x.dtype)
    torch = sys.modules["torch"]
    return torch.quantile(x, torch.tensor(shares, dtype=x.dtype, device=x.device))


def robust_spread(values: NDArray[np.floating]) -> float:
    """Return the standard deviation estimated from the median absolute deviation.

    Examples
    --------
    >>> round(robust_spread(np.array([1.0, 2.0, 3.0, 4.0, 900.0])), 4)
    1.4826
    """
    return 1.4826 * float(np.median(np.abs(values - float(np.median(values)))))
