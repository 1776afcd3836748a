"""What a first pass flags: where the lesion is, scored as at the end, drawn on the native grid."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from tests.phantoms.acquire import Acquisition
from tests.phantoms.analysis import make_analysis, write_study

from lesionlens.analysis.findings import preliminary
from lesionlens.base.errors import CancelledError
from lesionlens.base.records.prediction import FirstPass, PerturbedPrediction, Scoring
from lesionlens.base.run_context import RunContext
from lesionlens.testing import Lesion, make_patient

LEFT, RIGHT = (-28.0, 8.0, 26.0), (34.0, -40.0, 30.0)


class Looking:
    """An engine whose first pass sees two balls, the second less surely."""

    def __init__(self, prepared):
        grid = prepared.working
        at = grid.to_mm(np.moveaxis(np.indices(grid.shape), 0, -1))
        sure = np.zeros(grid.shape, np.float32)
        for centre, value, radius in ((LEFT, 0.9, 16.0), (RIGHT, 0.6, 11.0)):
            sure[np.linalg.norm(at - centre, axis=-1) <= radius] = value
        self.found = FirstPass(PerturbedPrediction(sure[None], grid), 0.5, Scoring(floor=0.3))

    def first_pass(self, prepared, *, context):
        context.progress("coarse", 1.0)
        return self.found


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    head = make_patient(5, spacing_mm=4.0, lesions=(Lesion(LEFT, 18.0),))
    study = write_study(head, tmp_path_factory.mktemp("first") / "head")
    return make_analysis(head, study).prepared


def test_a_first_pass_flags_regions_where_they_are_by_falling_score(prepared):
    reported = []
    context = RunContext().timed()
    preliminary.notify(Looking(prepared), prepared, context, reported.append)
    (found,) = reported
    assert [c.id for c in found.candidates] == [1, 2]
    assert [round(c.score, 1) for c in found.candidates] == [0.9, 0.6]
    assert found.components.shape == prepared.native.shape
    for candidate, centre in zip(found.candidates, (LEFT, RIGHT), strict=True):
        np.testing.assert_allclose(candidate.centroid_mm, centre, atol=3.0)
        inside = found.grid.to_mm(np.argwhere(found.components == candidate.id))
        low, high = np.asarray(candidate.bounding_box_mm)
        half = found.grid.spacing_mm / 2
        np.testing.assert_allclose(low, inside.min(axis=0) - half, atol=1e-3)
        np.testing.assert_allclose(high, inside.max(axis=0) + half, atol=1e-3)
        assert candidate.volume_ml == pytest.approx(len(inside) * found.grid.voxel_ml)
    assert [time.name for time in context.times] == ["first pass"]


def test_the_box_of_a_candidate_on_an_oblique_scan_is_that_of_its_voxels(tmp_path):
    """That of its index box reached 6 mm beyond it."""
    how = Acquisition("LPS", (3.0, 3.0, 6.0), tilt_deg=14.0)
    head = make_patient(5, spacing_mm=4.0, lesions=(Lesion(LEFT, 18.0),))
    oblique = make_analysis(head, write_study(head, tmp_path / "head", how=how)).prepared
    found = preliminary.flag(Looking(oblique), oblique, RunContext())
    for candidate in found.candidates:
        inside = found.grid.to_mm(np.argwhere(found.components == candidate.id))
        reach = np.abs(found.grid.affine[:3, :3]).sum(axis=1) / 2
        low, high = np.asarray(candidate.bounding_box_mm)
        np.testing.assert_allclose(low, inside.min(axis=0) - reach, atol=1e-3)
        np.testing.assert_allclose(high, inside.max(axis=0) + reach, atol=1e-3)


def test_what_scores_below_the_floor_is_not_told(prepared):
    engine = Looking(prepared)
    seen = engine.found.seen
    engine.found = FirstPass(seen, 0.5, Scoring(floor=0.8))
    found = preliminary.flag(engine, prepared, RunContext())
    assert len(found.candidates) == 1
    assert set(np.unique(found.components)) == {0, 1}


def test_an_engine_without_a_first_pass_is_skipped(prepared):
    reported, context = [], RunContext().timed()
    preliminary.notify(SimpleNamespace(predict=None), prepared, context, reported.append)
    assert not reported
    assert not context.times


def test_it_is_not_begun_once_a_stop_was_asked_for(prepared):
    context = RunContext(cancel=SimpleNamespace(is_set=lambda: True))
    with pytest.raises(CancelledError):
        preliminary.notify(Looking(prepared), prepared, context, pytest.fail)
