"""Weights of the prompt networks as files."""

import pytest
import torch

from lesionlens.base.errors import WeightsError
from lesionlens.network.prompt import weights
from lesionlens.network.prompt.model import PromptConfig, PromptNetwork
from lesionlens.network.weights import FOLDER


def test_saved_weights_are_loaded_in_half_precision(tmp_path):
    network = PromptNetwork(PromptConfig())
    notes = weights.load_shipped(torch.device("cpu"))[1]
    weights.save(tmp_path / "w.safetensors", network, notes)
    read = weights.load_file(tmp_path / "w.safetensors")[0].state_dict()
    assert all(torch.equal(read[k], v.half().float()) for k, v in network.state_dict().items())


def test_what_is_no_file_of_a_prompt_network_is_refused_by_name(tmp_path):
    path = tmp_path / "mine.safetensors"
    with pytest.raises(WeightsError, match=r"mine\.safetensors, which cannot be used"):
        weights.load_file(path)
    path.write_bytes(b"no tensors")
    with pytest.raises(WeightsError, match=r"mine\.safetensors, which cannot be used"):
        weights.load_file(path)
    other = FOLDER / "default.safetensors"
    with pytest.raises(WeightsError, match=other.name):
        weights.load_file(other)
