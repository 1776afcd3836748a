"""What `make demo` does: analyse the sample, and write a picture of the window with its result."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from lesionlens.imaging.samples import STUDY


@pytest.mark.slow
def test_demo_writes_picture_of_result(tmp_path):
    for words in (
        ("analyze", STUDY, "--out", "out"),
        ("open", "out", "--screenshot", "window.png"),
    ):
        command = [sys.executable, "-m", "lesionlens", *words]
        subprocess.run(command, cwd=tmp_path, check=True, timeout=600)
    pixels = np.asarray(Image.open(tmp_path / "window.png").convert("RGB")).astype(int)
    assert pixels.shape == (950, 1500, 3)
    coloured = np.ptp(pixels[:, :1000], axis=2) > 60  # the map over the grey image
    assert coloured.mean() > 0.01
