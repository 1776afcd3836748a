"""What is bundled is named, and an unknown data file does not slip into the package."""

from __future__ import annotations

import re
from pathlib import Path

import pydicom
from tests.helpers.file_search import files_below

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE = REPOSITORY / "src" / "lesionlens"
DATA = {".npz", ".npy", ".safetensors", ".gz", ".nii", ".dcm", ".pt", ".pth", ".pkl"}


def test_every_bundled_data_file_is_named_in_notice():
    notice = (REPOSITORY / "NOTICE").read_text("utf-8")
    bundled = [p.relative_to(REPOSITORY) for p in SOURCE.rglob("*") if p.suffix in DATA]
    bundled += [p.relative_to(REPOSITORY) for p in (REPOSITORY / "sample_data").rglob("*.gz")]
    unnamed = [
        str(path)
        for path in bundled
        if path.as_posix() not in notice
        and not any(
            parent.as_posix() in notice
            for parent in path.parents
            if len(parent.parts) > 1 and parent.name != "lesionlens"
        )
    ]
    assert bundled
    assert not unnamed


def test_nothing_pickled_is_bundled():
    assert not [p.name for p in SOURCE.rglob("*") if p.suffix in {".pkl", ".pt", ".pth"}]


def test_the_samples_say_whose_they_are_and_stay_small():
    folder = REPOSITORY / "sample_data"
    notice, readme = (REPOSITORY / "NOTICE", folder / "README.md")
    for text in (notice.read_text("utf-8"), readme.read_text("utf-8")):
        for word in ("CC BY 4.0", "10.7937/jc8x-9874", "BraTS2021_01660", "Baid U", "synthetic"):
            assert word in text
    assert sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) < 17e6
    assert sum(p.stat().st_size for p in (folder / "study").iterdir()) < 8e6


def test_every_path_that_the_notice_names_exists():
    notice = (REPOSITORY / "NOTICE").read_text("utf-8")
    named = re.findall(r"(?:src|training|sample_data)/[\w./-]+", notice)
    assert named
    assert not [path for path in named if not (REPOSITORY / path.rstrip(".")).exists()]


def test_viewers_can_draw_one_bit_frames_on_the_sample():
    for path in files_below(REPOSITORY / "sample_data" / "study_dicom", "IM0001"):
        image = pydicom.dcmread(path, stop_before_pixels=True)
        assert (image.Rows % 8, image.Columns % 8) == (0, 0), path


def test_the_sample_s_seed_is_kept_from_training():
    from training.templates.synthetic_sample import SEED

    from lesionlens.training.data import SAMPLE_SEED

    assert SEED >= SAMPLE_SEED
