"""Sums of numpy and scipy are those of one thread wherever a result is computed."""

import threading
from types import SimpleNamespace

import pytest
import threadpoolctl

from lesionlens.analysis.findings import edits
from lesionlens.analysis.followup import compare
from lesionlens.base.process.fixed_arithmetic import fixed_arithmetic
from lesionlens.base.records.study import Study
from lesionlens.base.run_context import SILENT
from lesionlens.imaging.preparation import prepare
from lesionlens.results import lens, result


def blas_threads():
    return {
        library["num_threads"]
        for library in threadpoolctl.threadpool_info()
        if library["user_api"] == "blas"
    }


@pytest.fixture(autouse=True)
def three_threads():
    import scipy.linalg  # noqa: F401

    with threadpoolctl.threadpool_limits(3, "blas"):
        if blas_threads() != {3}:
            pytest.skip(
                f"the threads of this machine's linear algebra cannot be set: {blas_threads()}"
            )
        yield
        assert blas_threads() == {3}


def test_a_block_has_one_thread_and_the_host_gets_its_own_back():
    with fixed_arithmetic():
        assert blas_threads() == {1}
        with fixed_arithmetic():
            assert blas_threads() == {1}
        assert blas_threads() == {1}
    assert blas_threads() == {3}


def test_blocks_that_overlap_in_two_threads_are_all_of_one_thread():
    begun, ended, seen = threading.Event(), threading.Event(), []

    @fixed_arithmetic()
    def longer():
        begun.set()
        ended.wait(30)
        seen.append(blas_threads())

    thread = threading.Thread(target=longer)
    with fixed_arithmetic():
        thread.start()
        assert begun.wait(30)
    ended.set()
    thread.join()
    assert seen == [{1}]


def test_an_error_lifts_the_limit_too():
    with pytest.raises(ZeroDivisionError), fixed_arithmetic():
        1 / 0  # noqa: B018
    assert blas_threads() == {3}


class StoppedError(Exception):
    """Ends a computation at its first step."""


@pytest.mark.parametrize(
    ("owner", "first_step", "compute"),
    [
        (prepare, "reference_of", lambda: prepare.prepare(SimpleNamespace(series={}), SILENT)),
        (lens, "unchanged", lambda: lens.Lens("cpu")(object.__new__(Study))),
        (compare, "applied", lambda: compare.compare(None, None, None)),
        (edits, "without_edits", lambda: edits.applied(None)),
        (
            result,
            "as_promptable",
            lambda: result.Result.answer_prompts(SimpleNamespace(_engine=None), None),
        ),
    ],
    ids=["prepare", "analyse", "compare", "edit", "prompt"],
)
def test_results_are_computed_with_one_thread(monkeypatch, owner, first_step, compute):
    seen = []

    def stopped(*given, **named):
        seen.append(blas_threads())
        raise StoppedError

    monkeypatch.setattr(owner, first_step, stopped)
    with pytest.raises(StoppedError):
        compute()
    assert seen == [{1}]
