"""Sums in one order: the same bits with any number of threads, and the numbers of torch."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lesionlens.network.build import build
from lesionlens.network.steady import (
    GroupNorm,
    all_threads,
    by_threads,
    one_thread,
    sigmoid,
    silu,
    thread_count,
)

THREADS = (1, 2, 3, 4, 5, 7, 8)


@pytest.fixture(autouse=True)
def _threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def norm():
    layer = GroupNorm(4, 32)
    torch.manual_seed(0)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    return layer


def scan(*shape):
    made = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 3 + 5
    return made.to(memory_format=torch.channels_last_3d)


def on_each_number_of_threads(run):
    for count in THREADS:
        torch.set_num_threads(count)
        with torch.inference_mode():
            yield run()


@pytest.mark.parametrize("size", [(3, 2, 1), (31, 40, 23)])
def test_a_group_norm_is_that_of_torch_and_more_exact(norm, size):
    x = scan(2, 32, *size)
    exact = nn.GroupNorm(4, 32).double()
    exact.load_state_dict(norm.state_dict())
    with torch.inference_mode():
        assert torch.allclose(norm(x).double(), exact(x.double()), atol=5e-6, rtol=0)
        assert norm(x).is_contiguous(memory_format=torch.channels_last_3d)


def test_a_group_norm_has_the_same_bits_with_any_number_of_threads(norm):
    x = scan(1, 32, 47, 53, 41)
    first, *others = on_each_number_of_threads(lambda: norm(x))
    assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("of", [silu, sigmoid])
def test_what_works_voxel_by_voxel_has_the_same_bits_with_any_number_of_threads(of):
    x = scan(1, 16, 47, 53, 41)
    first, *others = on_each_number_of_threads(lambda: of(x))
    assert all(torch.equal(first, other) for other in others)
    theirs = getattr(nn.functional, of.__name__)(x)
    assert torch.allclose(first, theirs, atol=2e-6, rtol=0)


@pytest.mark.parametrize("of", [silu, sigmoid])
def test_what_is_far_from_zero_neither_overflows_nor_is_lost(of):
    x = torch.tensor([-1e4, -100.0, 0.0, 100.0, 1e4])
    with torch.inference_mode():
        assert torch.allclose(of(x), getattr(nn.functional, of.__name__)(x))


def test_training_stays_with_torch(norm):
    theirs = nn.GroupNorm(4, 32)
    theirs.load_state_dict(norm.state_dict())
    x = scan(1, 32, 6, 6, 6)
    assert torch.equal(norm(x), theirs(x))


@pytest.mark.parametrize("size", [(40, 48, 33), (64, 56, 48)])
def test_the_network_has_the_same_bits_with_any_number_of_threads(size):
    torch.manual_seed(3)
    network = build("tiny").eval().to(memory_format=torch.channels_last_3d)
    x = scan(1, 8, *size)

    def run():
        out = network(x, trace=True)
        layers = [part for layer in out.trace.self_attention for part in layer[:2]]
        lesions = [] if out.lesions is None else [out.lesions.classes, out.lesions.class_shares()]
        maps = [out.logits, out.attention, *out.trace.cross_attention]
        return [*maps, out.presence, *layers, *lesions]

    first, *others = on_each_number_of_threads(run)
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_threads_are_as_many_as_before_outside_of_the_blocks():
    torch.set_num_threads(3)
    with one_thread():
        assert (torch.get_num_threads(), thread_count()) == (1, 3)
        with one_thread():
            assert thread_count() == 3
        with all_threads():
            assert (torch.get_num_threads(), thread_count()) == (3, 3)
            with one_thread():
                assert (torch.get_num_threads(), thread_count()) == (1, 3)
            assert torch.get_num_threads() == 3
        assert (torch.get_num_threads(), thread_count()) == (1, 3)
    with by_threads(8), pytest.raises(KeyError):
        assert torch.get_num_threads() == 8
        with one_thread():
            raise KeyError
    assert torch.get_num_threads() == 3
    with one_thread(False), all_threads():
        assert torch.get_num_threads() == 3
