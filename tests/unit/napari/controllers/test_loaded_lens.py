"""While the network is loaded, the window is used."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
from types import ModuleType, SimpleNamespace

from napari._vispy import camera
from vispy.util.quaternion import Quaternion

from lesionlens.napari.controllers.loaded_lens import LoadedLens

def load():
    sys.modules["torch"] = ModuleType("torch")  # as far as it is when its import begins
    matrix = camera._quaternion_to_matrix(Quaternion())
    camera._matrix_to_quaternion(matrix)
    return "engine"

sys.modules["lesionlens.results.lens"] = SimpleNamespace(Lens=lambda engine: engine)
choice = SimpleNamespace(load=load)
print(LoadedLens().load(choice))
"""


def test_the_view_can_turn_in_three_dimensions_while_torch_is_being_imported():
    """napari's camera failed in the seconds after a study was opened: torch had no Tensor yet."""
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False
    )
    assert run.stdout.strip() == "engine", run.stderr
