"""Released weights are small, verified and complete."""

import json

import torch

from lesionlens.network import weights
from lesionlens.network.build import build
from lesionlens.network.weights import WeightsNotes
from lesionlens.training.release import release


def test_release_writes_weights_and_their_hash(tmp_path):
    torch.manual_seed(0)
    network = build("tiny")
    source = tmp_path / "run.safetensors"
    weights.save(source, network.config, network.state_dict(), WeightsNotes())
    notes = WeightsNotes(version="7", spacing_mm=1.8, thresholds=(0.5, 0.4, 0.3))
    digest = release(source, notes, tmp_path)
    beside = json.loads((tmp_path / "default.json").read_text("utf-8"))
    again, info = weights.load(tmp_path / "default.safetensors", sha256=digest)
    assert beside["sha256"] == digest
    assert info.version == beside["version"] == "7"
    assert info.spacing_mm == 1.8
    assert info.thresholds == (0.5, 0.4, 0.3)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, atol=2e-3, rtol=2e-3)
