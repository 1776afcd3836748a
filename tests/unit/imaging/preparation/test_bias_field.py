"""N4 takes out a shading that was drawn in, says how strong it was, and changes nothing unasked."""

import threading

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from lesionlens.base.errors import CancelledError
from lesionlens.base.grid import Grid
from lesionlens.base.process.itk_threads import set_itk_threads
from lesionlens.base.records.study import StepName
from lesionlens.base.run_context import RunContext
from lesionlens.imaging.preparation import bias_field, cache
from lesionlens.imaging.preparation.prepare import PrepareOptions, prepare
from lesionlens.imaging.reading.readers import open_study

GRID = Grid((40, 48, 40), np.diag([4.0, 4.0, 4.0, 1.0]))
WITH = PrepareOptions(bias=True, edge_mm=4.0, strip=False)


@pytest.fixture(scope="module")
def shaded():
    """A head of two tissues, its mask, and the logarithm of the shading laid on it."""
    rng = np.random.default_rng(3)
    at = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in GRID.shape], indexing="ij"))
    brain = (at**2).sum(axis=0) < 0.85
    tissue = ndimage.gaussian_filter(rng.normal(size=GRID.shape), 1.5) > 0
    log = 0.4 * at[0] - 0.3 * at[1] * at[2] + 0.2 * at[2] ** 2
    values = np.where(tissue, 600, 900) * np.exp(log) * rng.normal(1, 0.02, GRID.shape) * brain
    return values.astype(np.float32), brain, log


@pytest.fixture(scope="module")
def found(shaded):
    """The field that is found in it."""
    values, brain, _ = shaded
    return bias_field.estimate(values, brain, GRID)


def test_a_drawn_shading_is_found(shaded, found):
    values, brain, log = shaded
    drawn = np.exp(log[brain])
    assert found.strength == pytest.approx(
        np.quantile(drawn, 0.95) / np.quantile(drawn, 0.05), rel=0.1
    )
    before, after = found.variation
    assert after < 0.75 * before
    assert "N4" in found.text
    rest = bias_field.corrected(values, GRID, found)[brain] / (values[brain] / drawn)
    assert rest.std() / rest.mean() < 0.4 * drawn.std() / drawn.mean()


def test_a_second_search_finds_the_same_bits(shaded, found):
    values, brain, _ = shaded
    np.testing.assert_array_equal(bias_field.estimate(values, brain, GRID).log, found.log)


@pytest.mark.parametrize("count", [1, 3])
def test_it_is_the_same_with_any_number_of_threads(shaded, found, count):
    """ITK fits N4's spline with the process's number of threads, not with the filter's."""
    values, brain, _ = shaded
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    set_itk_threads(count)
    try:
        again = bias_field.estimate(values, brain, GRID)
        assert sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == count
    finally:
        set_itk_threads(before)
    np.testing.assert_array_equal(again.log, found.log)


def test_brightness_does_not_change_on_average(shaded, found):
    values, brain, _ = shaded
    ratio = np.log(values[brain] / bias_field.corrected(values, GRID, found)[brain])
    assert abs(ratio.mean()) < 0.02


def test_too_little_brain_has_no_field(shaded):
    values, brain, _ = shaded
    few = np.zeros_like(brain)
    few[18:22, 20:24, 18:22] = True
    assert bias_field.estimate(values, few, GRID) is None


def test_it_is_left_out_unless_asked_for(make_study):
    prepared = prepare(
        open_study(make_study()), RunContext(), PrepareOptions(edge_mm=4.0, strip=False)
    )
    assert not any(step.step == StepName.BIAS for step in prepared.steps)


def test_every_sequence_is_corrected_with_a_figure_and_kept(make_study, monkeypatch):
    study = open_study(make_study(sequences={"t1c", "flair"}))
    first = prepare(study, RunContext(), WITH)
    done = [step for step in first.steps if step.step == StepName.BIAS]
    assert [step.sequence.value for step in done] == ["t1c", "flair"]
    assert all(step.done and step.on_request and step.figure >= 1 for step in done)
    assert list(cache.folder().glob("*.kept"))
    monkeypatch.setattr(bias_field, "estimate", None)
    second = prepare(study, RunContext(), WITH)
    np.testing.assert_array_equal(second.channels, first.channels)
    assert second.steps == first.steps


def test_a_request_to_stop_is_heard(make_study):
    stop = threading.Event()

    def progress(stage, fraction):
        if stage == StepName.BIAS and fraction > 0:
            stop.set()

    with pytest.raises(CancelledError):
        prepare(open_study(make_study()), RunContext(progress, stop), WITH)
