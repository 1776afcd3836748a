"""The networks: any grid in, the same grid out, and one attention however it is computed."""

import pytest
import torch

from lesionlens.network import lens_net
from lesionlens.network.blocks import fold, unfold
from lesionlens.network.lens_net import BASE, TINY, CrossAttention, LensNetwork, SelfAttentionBlock
from lesionlens.network.normalise import with_presence
from lesionlens.network.unet import FoldedUNet, brain_logits


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return LensNetwork(TINY).eval()


def _random(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _input(shape=(17, 24, 30)):
    brain = torch.ones(1, *shape, dtype=torch.bool)
    return with_presence(_random(1, 4, *shape), torch.ones(1, 4), brain)


@pytest.mark.parametrize("shape", [(8, 8, 8), (17, 24, 30), (9, 40, 16)])
def test_output_is_on_the_grid_of_the_input(network, shape):
    with torch.inference_mode():
        output = network(_input(shape), trace=True)
    assert output.logits.shape == output.attention.shape == (1, 3, *shape)
    torch.testing.assert_close(output.attention.sum((2, 3, 4)), torch.ones(1, 3))


def test_prediction_is_that_of_training_and_leaves_its_input(network):
    x = _input((40, 24, 30))
    before = x.clone()
    with torch.inference_mode():
        predicted = network(x)
    trained = network(x)
    trained.logits.sum().backward()
    assert torch.equal(x, before)
    torch.testing.assert_close(predicted.logits, trained.logits, atol=1e-4, rtol=1e-4)


def test_trace_holds_every_layer_and_changes_nothing(network):
    with torch.inference_mode():
        plain, traced = network(_input()), network(_input(), trace=True)
    assert plain.trace is None
    assert plain.attention is None
    torch.testing.assert_close(plain.logits, traced.logits, atol=1e-5, rtol=1e-5)
    assert traced.trace.tokens == (3, 3, 4)
    assert [w.shape for w in traced.trace.self_attention] == [(1, 36, 36)] * TINY.layers
    assert [w.shape[2:] for w in traced.trace.cross_attention] == [
        (6, 6, 8), (12, 12, 16), (24, 24, 32),
    ]  # fmt: skip
    for weights in traced.trace.self_attention:
        torch.testing.assert_close(weights.sum(-1), torch.ones(1, 36))


@pytest.mark.parametrize("biased", [False, True])
def test_fused_attention_is_softmax_of_q_k_times_v(biased):
    q, k, v = _random(2, 4, 37, 16), _random(2, 4, 50, 16, seed=2), _random(2, 4, 50, 16, seed=3)
    bias = _random(2, 4, 37, 50, seed=4) if biased else None
    fused, nothing = lens_net.attend(q, k, v, bias)
    explicit, weights = lens_net.attend(q, k, v, bias, trace=True)
    scores = torch.einsum("bhqd,bhnd->bhqn", q, k) / 4 + (0 if bias is None else bias)
    assert nothing is None
    torch.testing.assert_close(weights, scores.softmax(-1), atol=1e-5, rtol=0)
    torch.testing.assert_close(fused, explicit, atol=1e-5, rtol=0)


def test_traced_self_attention_is_that_of_its_own_queries_and_keys():
    torch.manual_seed(0)
    block = SelfAttentionBlock(24, heads=4, ratio=2).eval()
    tokens = _random(1, 20, 24)
    (plain, _), (traced, weights) = block(tokens), block(tokens, trace=True)
    torch.testing.assert_close(plain, traced, atol=1e-5, rtol=1e-5)
    q, k = (
        p.view(1, 20, 4, 6).transpose(1, 2) for p in block.qkv(block.norm1(tokens)).chunk(3, -1)[:2]
    )
    torch.testing.assert_close(weights, lens_net.attention_weights(q, k).mean(1))


def test_cross_attention_without_projected_voxels_is_plain_attention():
    torch.manual_seed(0)
    cross = CrossAttention(dim=12, features=8, heads=2).eval()
    query, grid, bias = _random(1, 3, 12), _random(1, 30, 8, seed=2), _random(1, 3, 30, seed=3)
    out, weights = cross(query, grid, bias, trace=True)
    q = cross.to_query(cross.norm(query)).view(1, 3, 2, 8).transpose(1, 2)
    expected = (q @ grid[:, None].transpose(-1, -2) / 8**0.5 + bias[:, None]).softmax(-1)
    torch.testing.assert_close(weights, expected)
    torch.testing.assert_close(cross(query, grid, bias)[0], out, atol=1e-5, rtol=1e-5)


def test_absent_sequence_has_no_effect(network):
    shape = (16, 16, 16)
    brain = torch.ones(1, *shape, dtype=torch.bool)
    present = torch.tensor([[1, 0, 1, 1]])
    channels = _random(1, 4, *shape)
    other = channels.clone()
    other[:, 1] = 7
    with torch.inference_mode():
        first = network(with_presence(channels, present, brain)).logits
        second = network(with_presence(other, present, brain)).logits
    assert torch.equal(first, second)


def test_mirrored_axes_are_told_apart_by_position(network):
    """A window's place in the brain changes the prediction; I, J, K are not mixed up."""
    x = _input((16, 16, 16))
    whole = torch.tensor([[[-1.0, 1.0]] * 3])
    moved = [whole.clone() for _ in range(3)]
    for axis, bounds in enumerate(moved):
        bounds[0, axis] = torch.tensor([0.0, 1.0])
    with torch.inference_mode():
        plain = network(x).logits
        results = [network(x, bounds=bounds).logits for bounds in (whole, *moved)]
    assert torch.equal(plain, results[0])
    for a in range(4):
        assert all(not torch.equal(results[a], results[b]) for b in range(a))


def test_shipped_size_fits_in_16_mb():
    assert sum(p.numel() for p in LensNetwork(BASE).parameters()) * 4 < 16e6


def test_fold_and_unfold_are_inverse():
    image = _random(2, 3, 8, 6, 4)
    assert torch.equal(unfold(fold(image)), image)
    cell = fold(image)[1, :8, 1, 2, 1]
    assert torch.equal(cell, image[1, 0, 2:4, 4:6, 2:4].flatten())


def test_unet_predicts_as_it_trains():
    torch.manual_seed(0)
    unet = FoldedUNet(2).eval()
    image = _random(1, 2, 32, 16, 48)
    with torch.inference_mode():
        predicted = unet(image)
    assert predicted.shape == (1, 1, 32, 16, 48)
    torch.testing.assert_close(predicted, unet(image), atol=1e-4, rtol=1e-4)


def test_brain_network_takes_any_shape_and_unit():
    image = _random(20, 33, 17).abs().numpy()
    (one,), (other,) = brain_logits([image]), brain_logits([image * 1000])
    assert one.shape == image.shape
    assert abs(one - other).max() < 1e-2
