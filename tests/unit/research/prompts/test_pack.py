"""The pool of prompts that travels: what may be trained on alone, and whole again over there."""

import json

import numpy as np
import pytest

pytest.importorskip("torch")
MAY, MAY_NOT, MAP = "BraTS2021_01476", ("somebody", "BraTS2021_00006"), "anatomy-x"


@pytest.fixture
def packing(script):
    with script("prompts.pack") as module:
        yield module


def volume(folder, rng):
    """Write a volume with one lesion, as `research/prompts/pool.py` does."""
    folder.mkdir(parents=True)
    code = np.ones((12, 14, 12), np.uint8)
    code[4:8, 4:8, 4:8] = 3
    arrays = {
        "image": rng.normal(0, 3, (4, *code.shape)).astype(np.float16),
        "code": code,
        "parts": (code > 1).astype(np.uint16),
        "guess": rng.integers(0, 255, (1, 3, 6, 7, 6)).astype(np.uint8),
        "exact": np.zeros((3, *code.shape), np.float16),
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    about = {"real": True, "present": [1, 1, 1, 1], "subsets": [[1, 1, 1, 1]]}
    (folder / "about.json").write_text(json.dumps(about))


def test_a_pool_travels_without_what_may_not_be_trained_on_and_is_whole_again(packing, tmp_path):
    rng = np.random.default_rng(0)
    for name in (MAY, *MAY_NOT, MAP):
        volume(tmp_path / "pool" / name, rng)
    size = packing.pack(tmp_path / "pool", tmp_path / "pack")
    files = sorted((tmp_path / "pack").iterdir())
    assert [file.stem for file in files] == [MAY, MAP]
    assert size == sum(file.stat().st_size for file in files)
    there = tmp_path / "there"
    (there / f".{MAY}").mkdir(parents=True)  # an unpacking that was cut off
    (there / f".{MAY}" / "image.npy").write_bytes(b"half")
    assert packing.unpack(tmp_path / "pack", there) == 2
    assert sorted(place.name for place in there.iterdir()) == [MAY, MAP]
    sent, came = (np.load(place / MAY / "image.npy") for place in (tmp_path / "pool", there))
    assert came.dtype == np.float16
    assert np.abs(sent.astype(float) - came).max() <= 1 / 16
    here, again = (packing.Volume(place / MAY) for place in (tmp_path / "pool", there))
    np.testing.assert_array_equal(here.code, again.code)
    np.testing.assert_array_equal(here.object_labels, again.object_labels)
    (there / MAY / "mine").touch()
    packing.unpack(tmp_path / "pack", there)
    assert (there / MAY / "mine").is_file()  # what is there stays


def test_a_resection_cavity_is_no_tumour_in_the_pool(script):
    with script("prompts.pool") as pool:
        labels = np.arange(5, dtype=np.uint8).reshape(1, 1, 5)
        brain = np.ones(labels.shape, bool)
        assert pool.code_of(labels, brain).ravel().tolist() == [1, 3, 2, 4, 1]
        assert not pool.code_of(labels, ~brain).any()
