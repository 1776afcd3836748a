"""Passes run side by side: in order, with torch's threads as before, stopped together."""

import threading
import time

import pytest
import torch

from lesionlens.network.side_by_side import side_by_side


@pytest.fixture(autouse=True)
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_answers_come_in_the_order_of_their_inputs_from_two_threads_that_share_torchs():
    met = threading.Barrier(2, timeout=30)

    def run(n):
        met.wait()  # ends only where two passes run at once
        return n, torch.get_num_threads()

    assert list(side_by_side(run, range(6))) == [(n, 2) for n in range(6)]
    assert torch.get_num_threads() == 4


def test_an_odd_one_out_gets_all_threads():
    here = threading.get_ident()
    *paired, last = side_by_side(lambda _: (threading.get_ident(), torch.get_num_threads()), "abc")
    assert last == (here, 4)
    assert all(thread != here and count == 2 for thread, count in paired)


def test_one_input_or_one_thread_stays_on_the_callers_thread():
    here = threading.get_ident()
    assert list(side_by_side(lambda _: threading.get_ident(), [1])) == [here]
    torch.set_num_threads(1)
    assert list(side_by_side(lambda _: threading.get_ident(), [1, 2])) == [here, here]


def test_an_error_ends_the_others_and_leaves_torch_as_it_was():
    begun = []

    def run(n):
        begun.append(n)
        time.sleep(0.01)
        if n == 1:
            raise KeyError(n)
        return n

    with pytest.raises(KeyError):
        list(side_by_side(run, range(200)))
    count, alive = len(begun), {t.name for t in threading.enumerate()}
    assert count < 200
    assert not any(name.startswith("pass") for name in alive)
    assert torch.get_num_threads() == 4
    seen = []
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert seen == [4]
