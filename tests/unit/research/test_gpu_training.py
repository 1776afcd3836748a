"""What travels to a borrowed GPU and back: folds, parts, and nothing that may not be trained on."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from lesionlens.base.errors import UnusableInputError
from lesionlens.training.config import read_config

RESEARCH = Path(__file__).resolve().parents[3] / "research"


@pytest.fixture(scope="module")
def gpu():
    spec = importlib.util.spec_from_file_location("gpu_training", RESEARCH / "gpu_training.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_parts_are_joined_and_altered_ones_refused(gpu, tmp_path):
    whole = tmp_path / "weights.safetensors"
    whole.write_bytes(bytes(range(256)) * 40_000)
    gpu.in_parts(whole, tmp_path / "parts", {"steps": 20})
    parts = sorted((tmp_path / "parts").glob("*.part"))
    assert len(parts) == 3
    assert all(part.stat().st_size <= gpu.PART_BYTES for part in parts)
    assert gpu.main(["join", str(tmp_path / "parts"), "--out", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again").read_bytes() == whole.read_bytes()
    parts[1].write_bytes(parts[1].read_bytes()[:-1] + b"?")
    with pytest.raises(UnusableInputError, match="not those of one file"):
        gpu.join(tmp_path / "parts", tmp_path / "again")


def test_each_fold_leaves_a_fourth_out_and_names_what_is_trained_on(gpu, tmp_path):
    rows = [{"case": name, "file": f"{name}.kept", "sha256": {}} for name in gpu.MAY_BE_TRAINED_ON]
    content = {"spacing_mm": 2.0, "cases": rows}
    (tmp_path / gpu.MANIFEST).write_text(json.dumps(content))
    recipe = read_config("mixed")
    left_out = []
    for fold in range(gpu.FOLDS):
        kept = {row["case"] for row in gpu.PackedCases(tmp_path, fold, recipe).rows}
        assert len(kept) == 9
        left_out += sorted(set(gpu.MAY_BE_TRAINED_ON) - kept)
    assert sorted(left_out) == sorted(gpu.MAY_BE_TRAINED_ON)
    assert len(gpu.PackedCases(tmp_path, None, recipe).rows) == 12


def test_a_case_that_may_not_be_trained_on_is_never_packed(gpu, tmp_path):
    (tmp_path / "BraTS2021_01660").mkdir()
    (tmp_path / "MSD_BRATS_001").mkdir()
    with pytest.raises(UnusableInputError, match="may be trained on"):
        gpu.pack(tmp_path, tmp_path / "pack")
