"""The wiring: any grid in, nested logits and honest attention out."""

import pytest
import torch

from lesionlens.base.errors import ConfigError
from lesionlens.network.build import build
from lesionlens.network.config import PRESETS, preset
from lesionlens.network.normalise import with_presence


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build("tiny").eval()


def _input(shape=(17, 24, 30)):
    generator = torch.Generator().manual_seed(1)
    channels = torch.randn(1, 4, *shape, generator=generator)
    brain = torch.ones(1, *shape, dtype=torch.bool)
    return with_presence(channels, torch.ones(1, 4), brain)


@pytest.mark.parametrize("shape", [(8, 8, 8), (17, 24, 30), (9, 40, 16)])
def test_any_grid_comes_back_as_it_was(network, shape):
    with torch.no_grad():
        output = network(_input(shape))
    assert output.logits.shape == output.attention.shape == (1, 3, *shape)
    assert output.presence.shape == (1, 3)


def test_a_prediction_takes_less_memory_and_answers_as_in_training(network):
    x = _input((40, 24, 30))
    before = x.clone()
    with torch.inference_mode():
        predicted, again = network(x), network(x)
    trained = network(x)
    assert torch.equal(x, before)
    assert torch.equal(predicted.logits, again.logits)
    torch.testing.assert_close(predicted.logits, trained.logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(predicted.attention, trained.attention, atol=1e-5, rtol=1e-3)


def test_attention_adds_up_to_one(network):
    with torch.no_grad():
        total = network(_input()).attention.sum((2, 3, 4))
    torch.testing.assert_close(total, torch.ones(1, 3))


def test_trace_holds_every_self_attention_layer_and_changes_nothing(network):
    with torch.no_grad():
        plain, traced = network(_input()), network(_input(), trace=True)
    assert plain.trace == ()
    torch.testing.assert_close(plain.logits, traced.logits, atol=1e-4, rtol=1e-4)
    assert len(traced.trace) == network.config.layers
    assert traced.trace[0].grid == (3, 3, 4)
    assert traced.trace[0].q.shape[2] == 3 * 3 * 4


def test_an_absent_sequence_cannot_matter(network):
    shape = (16, 16, 16)
    brain = torch.ones(1, *shape, dtype=torch.bool)
    present = torch.tensor([[1, 0, 1, 1]])
    channels = torch.randn(1, 4, *shape, generator=torch.Generator().manual_seed(2))
    other = channels.clone()
    other[:, 1] = 7
    with torch.no_grad():
        first = network(with_presence(channels, present, brain)).logits
        second = network(with_presence(other, present, brain)).logits
    torch.testing.assert_close(first, second, atol=0, rtol=0)


@pytest.mark.parametrize("name", PRESETS)
def test_shipped_sizes_fit_in_16_mb_at_half_precision(name):
    if name == "large":
        pytest.skip("large is for users with a GPU; only base is shipped")
    assert sum(p.numel() for p in build(name).parameters()) * 4 < 16e6


def test_unknown_preset_is_refused():
    with pytest.raises(ConfigError, match="tiny, base, large"):
        preset("huge")
