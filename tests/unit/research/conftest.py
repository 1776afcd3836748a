"""Import scripts of research/ for one test only."""

import importlib
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

RESEARCH = Path(__file__).resolve().parents[3] / "research"


@contextmanager
def _imported(name):
    """Import a script; at the end remove it and the research modules it imported."""
    loaded_before = set(sys.modules)
    try:
        yield importlib.import_module(f"research.{name}")
    finally:
        for new in set(sys.modules) - loaded_before:
            file = getattr(sys.modules[new], "__file__", None)
            if file is not None and RESEARCH in Path(file).parents:
                del sys.modules[new]


@pytest.fixture(scope="session")
def script():
    """Return the context manager that imports a script by its name."""
    return _imported
