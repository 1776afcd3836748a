"""Warnings are ignored within blocks of several threads, and by no one else."""

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

from lesionlens.base.process.ignored_warnings import warnings_ignored


def warns(category=UserWarning):
    """Whether a warning is raised, as all are in tests."""
    try:
        warnings.warn("an invalid value", category, stacklevel=1)
    except Warning:
        return True
    return False


def test_only_what_is_named_is_ignored():
    with warnings_ignored(UserWarning, message="an invalid"):
        assert (warns(UserWarning), warns(FutureWarning)) == (False, True)
        with warnings_ignored():
            assert (warns(UserWarning), warns(FutureWarning)) == (False, False)
    assert (warns(UserWarning), warns(FutureWarning)) == (True, True)


def test_of_blocks_that_overlap_in_two_threads_none_ends_the_other_or_leaves_filters():
    """Studies opened in two threads silenced the program for good, or failed under -W error."""
    before = list(warnings.filters)
    first, second = warnings_ignored(), warnings_ignored()
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        one.submit(first.__enter__).result()
        other.submit(second.__enter__).result()
        one.submit(first.__exit__, None, None, None).result()
        assert not other.submit(warns).result()
        other.submit(second.__exit__, None, None, None).result()
    assert warnings.filters == before


def test_many_threads_leave_the_filters_as_they_were():
    before, barrier = list(warnings.filters), threading.Barrier(4)

    def work():
        barrier.wait(30)
        for _ in range(200):
            with warnings_ignored():
                pass

    with ThreadPoolExecutor(4) as pool:
        for job in [pool.submit(work) for _ in range(4)]:
            job.result()
    assert warnings.filters == before
