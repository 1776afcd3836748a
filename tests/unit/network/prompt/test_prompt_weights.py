"""Weights of the prompt networks as files."""

import torch

from lesionlens.network.prompt import weights
from lesionlens.network.prompt.model import PromptConfig, PromptNetwork


def test_equal_weights_are_equal_files(tmp_path):
    """Metadata was written in random order, so one network had a new SHA-256 each time."""
    network = PromptNetwork(PromptConfig())
    notes = weights.load_shipped(torch.device("cpu"))[1]
    saved = {weights.save(tmp_path / f"{n}.safetensors", network, notes) for n in range(4)}
    assert len(saved) == 1
    read = weights.load_file(tmp_path / "0.safetensors")[0].state_dict()
    assert all(torch.equal(read[k], v.half().float()) for k, v in network.state_dict().items())
