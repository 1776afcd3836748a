"""What is compared when the names of an opened study are checked."""

import numpy as np

from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.arrays import Volume
from lesionlens.base.run_context import SILENT
from lesionlens.imaging.preparation.checks import early_name_check
from lesionlens.napari.loading import KEY, exchanged_in


def test_names_of_an_oblique_scan_are_checked_on_its_own_voxels(monkeypatch):
    seen = {}
    monkeypatch.setattr(
        early_name_check,
        "exchanged_before_registration",
        lambda scans, context: seen.update(scans),
    )
    own = Volume(np.ones((4, 5, 2), np.float32), Grid((4, 5, 2), np.diag([1.0, 1.0, 4.0, 1.0])))
    place = {"scale": (1.0, 1.0, 1.0), "translate": (3.0, 0.0, 0.0)}
    shown = np.ones((5, 6, 9), np.int16)
    layers = [
        (shown, place | {"metadata": {KEY: {"sequence": "t1", "acquired": own}}}, "image"),
        (shown, place | {"metadata": {KEY: {"sequence": "t2", "acquired": None}}}, "image"),
    ]
    exchanged_in(layers, SILENT)
    assert seen[MrSequence.T1][0] is own.data
    voxels, grid = seen[MrSequence.T2]
    assert voxels is shown
    np.testing.assert_allclose(grid.to_mm(np.zeros(3)), (3.0, 0.0, 0.0))
