"""Released weights are small, verified and complete."""

import dataclasses
import json

import pytest
import torch

from lesionlens.base.errors import WeightsError
from lesionlens.network import weights
from lesionlens.network.build import build
from lesionlens.network.config import preset
from lesionlens.network.weights_metadata import WeightsNotes
from lesionlens.training.release import mean_of, release


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


def _saved(path, sizes, seed):
    torch.manual_seed(seed)
    network = build(sizes)
    weights.save(path, network.config, network.state_dict(), WeightsNotes())
    return network.state_dict()


def test_a_mean_lies_between(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    own = _saved(one, "tiny", 1)
    away = _saved(two, "tiny", 2)
    network = mean_of([(one, 0.75), (two, 0.25)])
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, 0.75 * own[name] + 0.25 * away[name])


def test_weights_of_different_networks_have_no_mean(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    _saved(one, "tiny", 1)
    _saved(two, dataclasses.replace(preset("tiny"), lesions=0), 2)
    with pytest.raises(WeightsError, match="a different network"):
        mean_of([(one, 0.5), (two, 0.5)])
