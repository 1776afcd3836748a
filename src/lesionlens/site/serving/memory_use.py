"""Memory held by an object: all reachable arrays, each counted once."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

_LEAVES = (str, bytes, int, float, complex, bool, type(None), type, ModuleType)


def held_bytes(root: object, exclude: Iterable[object] = ()) -> int:
    """Return the bytes of all numpy and torch arrays reachable from an object.

    Parameters
    ----------
    exclude : iterable of object
        Objects not counted, with everything reachable from them: an engine and its weights.

    Examples
    --------
    >>> import numpy as np
    >>> array = np.zeros(1000)
    >>> held_bytes({"a": array, "b": [array]}), held_bytes([array], exclude=[array])
    (8000, 0)
    """
    visited: set[int] = set()
    addresses: set[int] = set()
    for excluded in exclude:
        _count(excluded, visited, addresses)
    return _count(root, visited, addresses)


def _count(root: object, visited: set[int], addresses: set[int]) -> int:
    total, pending = 0, [root]
    while pending:
        current = pending.pop()
        if id(current) in visited or isinstance(current, _LEAVES):
            continue
        visited.add(id(current))
        memory = _memory_of(current)
        if memory is not None:
            address, size = memory
            total += 0 if address in addresses else size
            addresses.add(address)
        else:
            pending.extend(_referents(current))
    return total


def _memory_of(obj: Any) -> tuple[int, int] | None:
    """Return address and size of an array's memory; views count as their base."""
    if hasattr(obj, "untyped_storage"):
        storage = obj.untyped_storage()
        return int(storage.data_ptr()), int(storage.nbytes())
    if not isinstance(obj, np.ndarray):
        return None
    while isinstance(obj.base, np.ndarray):
        obj = obj.base
    return id(obj), int(obj.nbytes)


def _referents(obj: object) -> list[object]:
    """Return what an object holds: of a function its closure, not the globals of its module."""
    return [*(obj.__closure__ or ())] if isinstance(obj, FunctionType) else gc.get_referents(obj)
