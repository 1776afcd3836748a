"""A wheel built from the source distribution holds what one from a clone holds."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("hatchling")
REPOSITORY = Path(__file__).resolve().parents[2]


def built(kind: str, source: Path, out: Path) -> Path:
    """Build without a network and without an environment of its own."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(out)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=300)
    (file,) = out.iterdir()
    return file


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as packed:
        return {name for name in packed.namelist() if "__pycache__" not in name}


@pytest.mark.slow
@pytest.mark.skipif(not (REPOSITORY / ".git").exists(), reason="not a clone")
def test_a_wheel_from_the_source_distribution_is_that_of_a_clone(tmp_path):
    sdist = built("sdist", REPOSITORY, tmp_path / "sdist")
    with tarfile.open(sdist) as packed:
        packed.extractall(tmp_path / "unpacked", filter="data")
    (source,) = (tmp_path / "unpacked").iterdir()
    ours = names(built("wheel", source, tmp_path / "ours"))
    assert ours == names(built("wheel", REPOSITORY, tmp_path / "clone"))
    samples = {name for name in ours if "/sample_data/" in name}
    assert any(name.endswith("study/flair.nii.gz") for name in samples)
    assert any("study_dicom/" in name for name in samples)
