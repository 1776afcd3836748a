"""The public faces: every name is there, and importing those of a user loads nothing heavy."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

FACES = ("lesionlens", "lesionlens.plugin", "lesionlens.engines", "lesionlens.testing")


@pytest.mark.parametrize("name", FACES)
def test_every_name_is_there(name):
    face = importlib.import_module(name)
    assert not [one for one in face.__all__ if not hasattr(face, one)]
    with pytest.raises(AttributeError):
        face.no_such_name  # noqa: B018


def test_importing_the_faces_loads_nothing_heavy():
    heavy = {"torch", "monai", "numpy", "qtpy", "napari"}
    code = f"import sys, {', '.join(FACES[:3])}; print(*({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
