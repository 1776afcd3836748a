"""Weights of the prompt networks as files."""

import pytest
import torch

from lesionlens.base.errors import WeightsError
from lesionlens.network.prompt import weights
from lesionlens.network.prompt.model import PromptConfig, PromptNetwork
from lesionlens.network.shipped_weights import shipped_path


def test_equal_weights_are_equal_files(tmp_path):
    """Metadata was written in random order, so one network had a new SHA-256 each time."""
    network = PromptNetwork(PromptConfig())
    notes = weights.load_shipped(torch.device("cpu"))[1]
    saved = {weights.save(tmp_path / f"{n}.safetensors", network, notes) for n in range(4)}
    assert len(saved) == 1
    read = weights.load_file(tmp_path / "0.safetensors")[0].state_dict()
    assert all(torch.equal(read[k], v.half().float()) for k, v in network.state_dict().items())


def test_what_is_no_file_of_a_prompt_network_is_refused_by_name(tmp_path):
    path = tmp_path / "mine.safetensors"
    with pytest.raises(WeightsError, match=r"mine\.safetensors, which cannot be used"):
        weights.load_file(path)
    path.write_bytes(b"no tensors")
    with pytest.raises(WeightsError, match=r"mine\.safetensors, which cannot be used"):
        weights.load_file(path)
    other = shipped_path()
    with pytest.raises(WeightsError, match=other.name):
        weights.load_file(other)
