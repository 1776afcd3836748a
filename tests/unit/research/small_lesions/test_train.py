"""Training of the search for small lesions: initial weights, and positions of the crops."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lesionlens.network.folded_unet import FoldedUNet
from lesionlens.training import checkpoint
from lesionlens.training.checkpoint import Checkpoint

SHAPE = (48, 52, 44)
BLOB, TUMOUR = (14, 20, 22), (34, 30, 22)


@pytest.fixture
def folder(tmp_path):
    """A volume of the pool with a bright blob that is no lesion, and a bright tumour."""
    rng = np.random.default_rng(2)
    image = rng.normal(0, 0.2, (4, *SHAPE)).astype(np.float16)
    code = np.ones(SHAPE, np.uint8)
    index = np.indices(SHAPE)
    for centre, value in ((BLOB, 1), (TUMOUR, 4)):
        ball = ((index - np.reshape(centre, (3, 1, 1, 1))) ** 2).sum(0) <= 16
        image[1][ball], code[ball] = 5, value
    np.save(tmp_path / "image.npy", image)
    np.save(tmp_path / "code.npy", code)
    record = {"present": [True] * 4, "real": False}
    (tmp_path / "about.json").write_text(json.dumps(record))
    return tmp_path


def test_a_new_run_starts_from_the_given_weights(script, tmp_path):
    torch.manual_seed(5)
    network = FoldedUNet(5)
    file = tmp_path / "weights.safetensors"
    save_file({k: v.half().contiguous() for k, v in network.state_dict().items()}, file)
    with script("small_lesions.train") as training:
        initial, new = training.new_network(file), training.new_network(None)
    assert initial.training
    assert torch.equal(initial.last.weight, network.last.weight.half().float())
    assert new.last.bias.item() == -4
    assert not torch.equal(new.last.weight, initial.last.weight)


def test_resuming_with_other_initial_weights_is_refused(script, tmp_path):
    """They used to be ignored, but recorded by --release."""
    first, other = tmp_path / "first", tmp_path / "other"
    first.write_bytes(b"1")
    other.write_bytes(b"2")
    with script("small_lesions.train") as training:
        training.check_start(tmp_path, other)  # before the first step
        training.check_start(tmp_path, first)
        checkpoint.save(tmp_path, Checkpoint({"x": torch.zeros(1)}, {"step": 1}))
        training.check_start(tmp_path, first)
        for start in (other, None):
            with pytest.raises(SystemExit, match="began with other weights"):
                training.check_start(tmp_path, start)


def test_false_peaks_are_listed_but_not_tumours(script, folder):
    def bright(x):
        return 4 * x[:, 1:2] - 8

    with script("small_lesions.false_peaks") as false_peaks:
        peaks = false_peaks.find_false_peaks(bright, false_peaks.Head(folder), 0.0)
    assert len(peaks)
    assert (np.abs(peaks - BLOB) <= 5).all()


def test_a_share_of_the_crops_is_centred_at_false_peaks(script, folder):
    with script("small_lesions.samples") as samples:
        rng = np.random.default_rng(4)
        plain = samples.Head(folder)
        centres_before = np.array([plain.crop_centre(rng) for _ in range(400)])
        np.save(folder / "hard.npy", np.array([BLOB]))
        head = samples.Head(folder)
        centres = np.array([head.crop_centre(rng) for _ in range(400)])
        crop = samples.draw(head, 32, rng)
    assert not (centres_before == BLOB).all(1).any()
    assert (centres == BLOB).all(1).mean() == pytest.approx(samples.FALSE_PEAK_SHARE, abs=0.06)
    assert torch.isfinite(crop.x).all()
    assert set(crop.target.unique().tolist()) <= {0.0, 1.0}


def test_no_lesion_lies_where_the_brain_was_cut_off(script, folder, monkeypatch):
    with script("small_lesions.samples") as samples:
        head = samples.Head(folder)
        monkeypatch.setattr(samples, "_cut_by_plane", lambda brain, _: np.zeros_like(brain))
        crops = [samples.draw(head, 24, np.random.default_rng(seed)) for seed in range(40)]
    cut = [crop for crop in crops if not bool(crop.x[4].any())]
    assert cut
    assert not any(bool(crop.target.any()) for crop in cut)
