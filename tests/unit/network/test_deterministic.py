"""Passes by a fixed number of threads, and sums that are exact."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial

import pytest
import torch
from torch import nn

from lesionlens.network.concurrent_passes import run_concurrently
from lesionlens.network.deterministic import (
    GroupNorm,
    fixed_threads,
    set_threads_of_worker,
    thread_count,
)


@pytest.fixture(autouse=True)
def _three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    assert thread_count() == 3, "a block left its number of threads behind"
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


@pytest.mark.parametrize("size", [(3, 2, 1), (31, 40, 23)])
def test_a_group_norm_is_exact(norm, size):
    x = scan(2, 32, *size)
    exact = nn.GroupNorm(4, 32).double()
    exact.load_state_dict(norm.state_dict())
    with torch.inference_mode():
        expected = exact(x.double())
        normalised = norm(x)
    assert torch.allclose(normalised.double(), expected, atol=5e-6, rtol=0)
    assert normalised.is_contiguous(memory_format=torch.channels_last_3d)
    assert normalised.data_ptr() == x.data_ptr()  # no second volume


def test_a_group_norm_sums_many_voxels_as_few(norm):
    x = scan(1, 32, 40, 40, 40)  # several chunks
    repeated = x.repeat(1, 1, 2, 1, 1).contiguous(memory_format=torch.channels_last_3d)
    with torch.inference_mode():
        once, twice = norm(x), norm(repeated)
    assert torch.allclose(twice[:, :, :40], once, atol=1e-6, rtol=0)


def test_training_stays_with_torch(norm):
    theirs = nn.GroupNorm(4, 32)
    theirs.load_state_dict(norm.state_dict())
    x = scan(1, 32, 6, 6, 6)
    assert torch.equal(norm(x), theirs(x))


def test_threads_are_as_many_as_before_outside_of_the_blocks():
    with fixed_threads(1):
        assert (torch.get_num_threads(), thread_count()) == (1, 3)
        with pytest.raises(KeyError), fixed_threads(2):
            assert (torch.get_num_threads(), thread_count()) == (2, 3)
            raise KeyError
        assert (torch.get_num_threads(), thread_count()) == (1, 3)
    assert (torch.get_num_threads(), thread_count()) == (3, 3)


def test_the_number_of_threads_outlives_blocks_of_two_threads_that_overlap():
    """Torch gives a new thread the number that was set last, in any thread: 1 from then on."""
    first, second = fixed_threads(1), fixed_threads(1)
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        one.submit(first.__enter__).result()
        assert other.submit(thread_count).result() == 3
        other.submit(second.__enter__).result()
        assert other.submit(thread_count).result() == 3
        one.submit(first.__exit__, None, None, None).result()
        other.submit(second.__exit__, None, None, None).result()
        assert other.submit(torch.get_num_threads).result() == 3
    with ThreadPoolExecutor(1) as later:
        assert later.submit(torch.get_num_threads).result() == 3


def test_a_thread_that_begins_beside_passes_of_a_pool_has_the_threads_of_the_process():
    """As one in which a study is opened while another one's brain is searched, in no block."""
    with closing(run_concurrently(lambda n: n, range(4))) as passes, ThreadPoolExecutor(1) as other:
        next(passes)
        assert other.submit(thread_count).result() == 3
        with fixed_threads(1):
            pass
    with ThreadPoolExecutor(1) as later:
        assert later.submit(torch.get_num_threads).result() == 3


def test_a_worker_of_a_block_keeps_its_one_thread():
    begin = partial(set_threads_of_worker, 1)
    with fixed_threads(1), ThreadPoolExecutor(1, initializer=begin) as worker:
        assert worker.submit(thread_count).result() == 1
        with ExitStack() as stack:
            worker.submit(stack.enter_context, fixed_threads(2)).result()
            assert worker.submit(torch.get_num_threads).result() == 2
            worker.submit(stack.close).result()
        assert worker.submit(torch.get_num_threads).result() == 1


def test_products_are_float32_whatever_the_program_allows():
    """With a plug-in or script that allows "medium", maps and shares had other digits."""
    torch.set_float32_matmul_precision("medium")
    try:
        with fixed_threads(1):
            assert torch.get_float32_matmul_precision() == "highest"
            with fixed_threads(1):
                pass
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_the_last_of_several_analyses_restores_what_the_program_allows():
    torch.set_float32_matmul_precision("medium")
    first, second = fixed_threads(1), fixed_threads(1)
    try:
        with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
            one.submit(first.__enter__).result()
            other.submit(second.__enter__).result()
            one.submit(first.__exit__, None, None, None).result()
            assert torch.get_float32_matmul_precision() == "highest"
            other.submit(second.__exit__, None, None, None).result()
            assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_torch_need_not_name_its_default_device(monkeypatch):
    """Torch 2.8 raises an AttributeError once the default is unset, and no study was analysed."""

    def unset():
        raise AttributeError("'NoneType' object has no attribute 'device'")

    monkeypatch.setattr(torch, "get_default_device", unset)
    with fixed_threads(1):
        assert torch.get_num_threads() == 1


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_default_device_of_the_caller_changes_no_digit(device):
    """Torch fuses no attention between queries under one: other digits of the enhancing part."""
    attention = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    query = torch.randn(1, 3, 8)
    fused = []

    def attend():
        with torch.profiler.profile() as profile, torch.no_grad():
            attention(query, query, query, need_weights=False)
        names = {event.name for event in profile.events()}
        fused.append("aten::_native_multi_head_attention" in names)

    attend()
    torch.set_default_device(device)
    try:
        with fixed_threads(1):
            attend()
        assert torch.get_default_device().type == device
    finally:
        torch.set_default_device(None)
    assert fused == [True, True]
