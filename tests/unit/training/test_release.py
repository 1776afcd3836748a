"""Weights are averaged if they are of one network."""

import dataclasses

import pytest
import torch

from lesionlens.base.errors import WeightsError
from lesionlens.network import weights
from lesionlens.network.build import build
from lesionlens.network.config import preset
from lesionlens.network.weights_metadata import WeightsNotes
from lesionlens.training.release import mean_of


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
