"""Arrays that are shipped in the package."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray


@contextmanager
def shipped_arrays(package: str, name: str) -> Iterator[Mapping[str, NDArray[Any]]]:
    """Yield the arrays of an `.npz` file beside a package's modules; each is read when indexed."""
    with (files(package) / name).open("rb") as stream, np.load(stream) as stored:
        yield stored
