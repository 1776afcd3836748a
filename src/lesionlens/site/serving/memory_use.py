"""Memory held by an object: all reachable arrays, each counted once."""

from __future__ import annotations

from collections.abc import Iterable
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

_LEAVES = (str, bytes, int, float, complex, bool, type(None), type, ModuleType)


def held_bytes(thing: object, but: Iterable[object] = ()) -> int:
    """Return the bytes of all numpy and torch arrays reachable from an object.

    Parameters
    ----------
    but : iterable of object
        Objects not counted, with everything reachable from them: an engine and its weights.

    Examples
    --------
    >>> import numpy as np
    >>> kept = np.zeros(1000)
    >>> held_bytes({"a": kept, "b": [kept]}), held_bytes([kept], but=[kept])
    (8000, 0)
    """
    seen: set[int] = set()
    addresses: set[int] = set()
    for one in but:
        _count(one, seen, addresses)
    return _count(thing, seen, addresses)


def _count(thing: object, seen: set[int], addresses: set[int]) -> int:
    total, waiting = 0, [thing]
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, _LEAVES):
            continue
        seen.add(id(one))
        memory = _memory_of(one)
        if memory is not None:
            place, size = memory
            total += 0 if place in addresses else size
            addresses.add(place)
        else:
            waiting.extend(_inside(one))
    return total


def _memory_of(one: Any) -> tuple[int, int] | None:
    """Return address and size of an array's memory; views count as their base."""
    if hasattr(one, "untyped_storage"):
        storage = one.untyped_storage()
        return int(storage.data_ptr()), int(storage.nbytes())
    if not isinstance(one, np.ndarray):
        return None
    while isinstance(one.base, np.ndarray):
        one = one.base
    return id(one), int(one.nbytes)


def _inside(one: Any) -> list[object]:
    if isinstance(one, dict):
        return [*one.values()]
    if isinstance(one, list | tuple | set | frozenset):
        return [*one]
    if isinstance(one, MethodType):
        return [one.__self__, one.__func__]
    if isinstance(one, FunctionType):
        return [c.cell_contents for c in one.__closure__ or () if _filled(c)]
    found = [*getattr(one, "__dict__", {}).values()]
    if hasattr(one, "func") and hasattr(one, "args"):  # functools.partial
        found += [one.func, *one.args, *getattr(one, "keywords", {}).values()]
    for cls in type(one).__mro__:
        names = cls.__dict__.get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            if hasattr(one, name):
                found.append(getattr(one, name))
    return found


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False
