"""Passes run side by side: in order, by a fixed number of threads, stopped together."""

import threading
import time

import pytest
import torch

from lesionlens.network.concurrent_passes import run_concurrently
from lesionlens.network.deterministic import fixed_threads


@pytest.fixture(autouse=True)
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_answers_come_in_the_order_of_their_inputs_from_passes_of_one_thread_each():
    met = threading.Barrier(2, timeout=30)

    def run(n):
        met.wait()  # ends only where two passes run at once
        return n, torch.get_num_threads()

    assert list(run_concurrently(run, range(6))) == [(n, 1) for n in range(6)]
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_how_many_threads_share_a_pass_does_not_depend_on_the_machine(threads):
    torch.set_num_threads(threads)
    assert list(run_concurrently(lambda _: torch.get_num_threads(), "abc")) == [1, 1, 2]
    assert list(run_concurrently(lambda _: torch.get_num_threads(), "a")) == [2]
    with fixed_threads(1):
        assert list(run_concurrently(lambda _: torch.get_num_threads(), "abcde")) == [1, 1, 1, 1, 2]
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == threads


def test_one_input_or_one_thread_stays_on_the_callers_thread():
    here = threading.get_ident()
    assert list(run_concurrently(lambda _: threading.get_ident(), [1])) == [here]
    torch.set_num_threads(1)
    assert list(run_concurrently(lambda _: threading.get_ident(), [1, 2])) == [here, here]


def test_an_error_ends_the_others_and_leaves_torch_as_it_was():
    begun = []

    def run(n):
        begun.append(n)
        time.sleep(0.01)
        if n == 1:
            raise KeyError(n)
        return n

    with pytest.raises(KeyError):
        list(run_concurrently(run, range(200)))
    count, alive = len(begun), {t.name for t in threading.enumerate()}
    assert count < 200
    assert not any(name.startswith("pass") for name in alive)
    assert torch.get_num_threads() == 4
    seen = []
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert seen == [4]
