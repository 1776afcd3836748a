"""The networks that the hybrid is measured against are what they are called, and as large."""

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
def test_a_variant_answers_like_the_hybrid(name):
    torch.manual_seed(0)
    network, hybrid = build(name), build(dataclasses.replace(preset("base"), lesions=0))
    with torch.no_grad():
        ours, theirs = network.eval()(_input()), hybrid.eval()(_input())
    for part in ("logits", "presence", "attention"):
        assert getattr(ours, part).shape == getattr(theirs, part).shape
    assert [d.shape for d in ours.deep] == [d.shape for d in theirs.deep]
    torch.testing.assert_close(ours.attention.sum((2, 3, 4)), torch.ones(1, 3))
    assert 0.85 < _count(network) / _count(hybrid) < 1.15


@pytest.mark.parametrize("name", VARIANTS)
def test_every_parameter_of_a_variant_is_learnt(name):
    torch.manual_seed(0)
    network = build(name).train()
    output = network(_input((16, 16, 16)))
    loss = sum(part.square().mean() for part in (output.logits, *output.deep, output.presence))
    loss.backward()
    idle = [n for n, p in network.named_parameters() if p.grad is None]
    assert idle == []


def test_the_convolutional_one_has_no_attention_and_points_nowhere():
    torch.manual_seed(0)
    network = build(CNN_ONLY).eval()
    assert not [m for m in network.modules() if isinstance(m, ATTENTION)]
    with torch.no_grad():
        seen = network(_input(), trace=True)
    assert float(seen.attention.std()) == pytest.approx(0, abs=1e-9)
    assert seen.trace.self_attention == seen.trace.cross_attention == ()


def test_the_other_one_sees_patches_and_reads_nothing_before_they_attend():
    torch.manual_seed(0)
    network = build(TRANSFORMER_ONLY).eval()
    convolutions = [m for m in network.encoder.modules() if isinstance(m, torch.nn.Conv3d)]
    assert [m.stride for m in convolutions] == [(STRIDE,) * 3]
    with torch.no_grad():
        trace = network(_input(), trace=True).trace
    assert len(trace.self_attention) == network.config.layers
    assert len(trace.cross_attention) == 3


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_travels_as_weights(name, tmp_path):
    network = build(name).eval()
    path = tmp_path / "w.safetensors"
    weights.save(path, network.config, network.state_dict(), WeightsNotes())
    again, info = weights.load(path)
    assert info.config == preset(name)
    with torch.no_grad():
        torch.testing.assert_close(again(_input()).logits, network(_input()).logits)


def test_an_unknown_design_is_refused():
    with pytest.raises(ConfigError, match='design "other"'):
        build(dataclasses.replace(preset("tiny"), design="other"))
