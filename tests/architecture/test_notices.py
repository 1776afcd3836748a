"""What is bundled is named, and an unknown data file does not slip into the package."""

from __future__ import annotations

from pathlib import Path

import pydicom
from tests.files_below import files_below

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE = REPOSITORY / "src" / "lesionlens"
DATA = {".npz", ".npy", ".safetensors", ".gz", ".nii", ".dcm", ".pt", ".pth", ".onnx", ".pkl"}


def test_every_bundled_data_file_is_named_in_notice():
    notice = (REPOSITORY / "NOTICE").read_text("utf-8")
    bundled = [p.relative_to(REPOSITORY) for p in SOURCE.rglob("*") if p.suffix in DATA]
    unnamed = [
        str(path)
        for path in bundled
        if path.as_posix() not in notice
        and not any(parent.as_posix() in notice for parent in path.parents if len(parent.parts) > 2)
    ]
    assert bundled
    assert not unnamed


def test_nothing_pickled_is_bundled():
    assert not [p.name for p in SOURCE.rglob("*") if p.suffix in {".pkl", ".pt", ".pth"}]


def test_the_sample_says_that_it_is_synthetic_and_stays_small():
    folder = SOURCE / "imaging" / "sample_data"
    assert "synthetic" in (folder / "README.md").read_text("utf-8").lower()
    assert sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) < 15e6


def test_viewers_can_draw_one_bit_frames_on_the_sample():
    for path in files_below(SOURCE / "imaging" / "sample_data" / "study_dicom", "IM0001"):
        image = pydicom.dcmread(path, stop_before_pixels=True)
        assert (image.Rows % 8, image.Columns % 8) == (0, 0), path


def test_the_sample_s_seed_is_kept_from_training():
    from lesionlens.engines.testing.sample import SEED
    from lesionlens.training.data import SAMPLE_SEED

    assert SEED >= SAMPLE_SEED
