"""Work background ends with its block, and its errors are not lost."""

import threading

import pytest

from lesionlens.engines.lens.background import BackgroundTask


def test_it_runs_in_another_thread_until_the_block_ends():
    seen = []

    def act(closing):
        seen.append(threading.get_ident())
        seen.append(closing.wait(30))

    with BackgroundTask(act, lambda: seen.append("begun")):
        pass
    assert seen == ["begun", seen[1], True]
    assert seen[1] != threading.get_ident()


def test_its_error_is_raised_but_not_over_that_of_the_block():
    def act(closing):
        raise KeyError

    with pytest.raises(KeyError), BackgroundTask(act):
        pass
    with pytest.raises(ValueError, match="block"), BackgroundTask(act):
        raise ValueError("block")


def test_nothing_to_do_is_closed_at_once():
    with BackgroundTask() as background:
        background.close()
