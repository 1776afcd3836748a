"""Packing the prompt pool: only trainable volumes, restored on the other machine."""

import json

import numpy as np
import pytest

pytest.importorskip("torch")
TRAINABLE, NOT_TRAINABLE, LABEL_MAP = (
    "BraTS2021_01476",
    ("somebody", "BraTS2021_00006"),
    "anatomy-x",
)


@pytest.fixture
def packing(script):
    with script("prompts.pack") as module:
        yield module


def write_volume(folder, rng):
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
    record = {"real": True, "present": [1, 1, 1, 1], "subsets": [[1, 1, 1, 1]]}
    (folder / "about.json").write_text(json.dumps(record))


def test_a_pack_contains_only_trainable_volumes_and_is_restored(packing, tmp_path):
    rng = np.random.default_rng(0)
    for name in (TRAINABLE, *NOT_TRAINABLE, LABEL_MAP):
        write_volume(tmp_path / "pool" / name, rng)
    size = packing.pack(tmp_path / "pool", tmp_path / "pack")
    files = sorted((tmp_path / "pack").iterdir())
    assert [file.stem for file in files] == [TRAINABLE, LABEL_MAP]
    assert size == sum(file.stat().st_size for file in files)
    unpacked = tmp_path / "there"
    (unpacked / f".{TRAINABLE}").mkdir(parents=True)  # an interrupted unpacking
    (unpacked / f".{TRAINABLE}" / "image.npy").write_bytes(b"half")
    assert packing.unpack(tmp_path / "pack", unpacked) == 2
    assert sorted(root.name for root in unpacked.iterdir()) == [TRAINABLE, LABEL_MAP]
    packed_image, unpacked_image = (
        np.load(root / TRAINABLE / "image.npy") for root in (tmp_path / "pool", unpacked)
    )
    assert unpacked_image.dtype == np.float16
    assert np.abs(packed_image.astype(float) - unpacked_image).max() <= 1 / 16
    original, restored = (
        packing.Volume(root / TRAINABLE) for root in (tmp_path / "pool", unpacked)
    )
    np.testing.assert_array_equal(original.code, restored.code)
    np.testing.assert_array_equal(original.object_labels, restored.object_labels)
    (unpacked / TRAINABLE / "mine").touch()
    packing.unpack(tmp_path / "pack", unpacked)
    assert (unpacked / TRAINABLE / "mine").is_file()  # existing volumes are not overwritten


def test_a_resection_cavity_is_no_tumour_in_the_pool(script):
    with script("prompts.pool") as pool:
        labels = np.arange(5, dtype=np.uint8).reshape(1, 1, 5)
        brain = np.ones(labels.shape, bool)
        assert pool.code_of(labels, brain).ravel().tolist() == [1, 3, 2, 4, 1]
        assert not pool.code_of(labels, ~brain).any()
