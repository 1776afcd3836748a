"""The variants have the architecture of their names, and as many parameters as the hybrid."""

import dataclasses

import pytest
import torch
from research.attention.variants import CNN_ONLY, TRANSFORMER_ONLY

from lesionlens.base.errors import ConfigError
from lesionlens.network import weights
from lesionlens.network.attention import AttentionGate, GridCrossAttention, SelfAttention
from lesionlens.network.build import build
from lesionlens.network.config import preset
from lesionlens.network.encoder import STRIDE
from lesionlens.network.normalise import with_presence
from lesionlens.network.weights_metadata import WeightsNotes

VARIANTS = (CNN_ONLY, TRANSFORMER_ONLY)
ATTENTION = (SelfAttention, GridCrossAttention, AttentionGate, torch.nn.MultiheadAttention)


def _input(shape=(20, 24, 30)):
    channels = torch.randn(1, 4, *shape, generator=torch.Generator().manual_seed(1))
    return with_presence(channels, torch.ones(1, 4), torch.ones(1, *shape, dtype=torch.bool))


def _count(network):
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_has_the_outputs_of_the_hybrid(name):
    torch.manual_seed(0)
    network, hybrid = build(name), build(dataclasses.replace(preset("base"), lesions=0))
    with torch.no_grad():
        output, hybrid_output = network.eval()(_input()), hybrid.eval()(_input())
    for part in ("logits", "presence", "attention"):
        assert getattr(output, part).shape == getattr(hybrid_output, part).shape
    assert [d.shape for d in output.deep] == [d.shape for d in hybrid_output.deep]
    torch.testing.assert_close(output.attention.sum((2, 3, 4)), torch.ones(1, 3))
    assert 0.85 < _count(network) / _count(hybrid) < 1.15


@pytest.mark.parametrize("name", VARIANTS)
def test_every_parameter_of_a_variant_gets_a_gradient(name):
    torch.manual_seed(0)
    network = build(name).train()
    output = network(_input((16, 16, 16)))
    loss = sum(part.square().mean() for part in (output.logits, *output.deep, output.presence))
    loss.backward()
    without_gradient = [n for n, p in network.named_parameters() if p.grad is None]
    assert without_gradient == []


def test_the_convolutional_network_has_uniform_attention_only():
    torch.manual_seed(0)
    network = build(CNN_ONLY).eval()
    assert not [m for m in network.modules() if isinstance(m, ATTENTION)]
    with torch.no_grad():
        output = network(_input(), trace=True)
    assert float(output.attention.std()) == pytest.approx(0, abs=1e-9)
    assert output.trace.self_attention == output.trace.cross_attention == ()


def test_the_transformer_has_only_the_patch_embedding_as_convolution():
    torch.manual_seed(0)
    network = build(TRANSFORMER_ONLY).eval()
    convolutions = [m for m in network.encoder.modules() if isinstance(m, torch.nn.Conv3d)]
    assert [m.stride for m in convolutions] == [(STRIDE,) * 3]
    with torch.no_grad():
        trace = network(_input(), trace=True).trace
    assert len(trace.self_attention) == network.config.layers
    assert len(trace.cross_attention) == 3


@pytest.mark.parametrize("name", VARIANTS)
def test_weights_of_a_variant_are_saved_and_loaded(name, tmp_path):
    network = build(name).eval()
    path = tmp_path / "w.safetensors"
    weights.save(path, network.config, network.state_dict(), WeightsNotes())
    loaded, info = weights.load(path)
    assert info.config == preset(name)
    with torch.no_grad():
        torch.testing.assert_close(loaded(_input()).logits, network(_input()).logits)


def test_an_unknown_design_is_refused():
    with pytest.raises(ConfigError, match='design "other"'):
        build(dataclasses.replace(preset("tiny"), design="other"))
