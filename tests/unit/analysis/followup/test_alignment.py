"""An earlier examination whose sides are swapped is named; one that was turned is not."""

from dataclasses import replace

import numpy as np
import pytest
from tests.phantoms.analysis import make_analysis, write_study

from lesionlens.analysis.followup.alignment import changed, common_sequence, seems_mirrored
from lesionlens.analysis.followup.compare import _alignment
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.run_context import RunContext
from lesionlens.imaging.preparation.prepare import PrepareOptions, prepare
from lesionlens.imaging.preparation.registration import Registration
from lesionlens.imaging.reading.open import open_study
from lesionlens.testing import Lesion, make_patient


@pytest.mark.parametrize("swapped", [False, True])
def test_the_sides_of_an_earlier_examination_are_compared(make_study, swapped):
    options = PrepareOptions(strip=False, checks=False)
    now = prepare(open_study(make_study(sequences={"t1c"})), RunContext(), options)
    moved = np.eye(4)
    moved[:3, 3] = (6.0, -4.0, 3.0)
    noise = np.random.default_rng(0).normal(1.0, 0.05, now.channels.shape)
    channels = (now.channels * noise).astype(np.float32)
    prior = replace(
        now,
        channels=channels[:, ::-1].copy() if swapped else channels,
        working=Grid(now.working.shape, moved @ now.working.affine),
    )
    assert seems_mirrored(now, prior, moved, MrSequence.T1C) is swapped


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("information", [0.0, 9.0])
def test_an_alignment_is_doubtful_if_its_images_fit_badly_or_its_sides_are_swapped(
    swapped, information
):
    registration = Registration(np.eye(4), 1.0, 2.0, information=information, peak_height=9.0)
    assert registration.doubtful is (information == 0.0)
    alignment = _alignment(registration, "T1c", swapped=swapped)
    assert alignment.doubtful is (swapped or registration.doubtful)
    assert alignment.mirrored is swapped


@pytest.mark.parametrize("has_lesion", [True, False])
def test_voxels_near_a_candidate_are_excluded_from_the_alignment(tmp_path, has_lesion):
    lesions = (Lesion((-28.0, 8.0, 26.0), 12.0),) if has_lesion else ()
    head = make_patient(5, spacing_mm=4.0, lesions=lesions)
    analysis = make_analysis(head, write_study(head, tmp_path, sequences=(MrSequence.T1C,)))
    excluded = changed(analysis)
    assert (excluded is not None) is has_lesion
    if excluded is not None:
        inside = analysis.prepared.native.to_mm(np.argwhere(analysis.findings.components > 0))
        assert excluded.data[tuple(excluded.grid.nearest_voxel(inside).T)].all()
        assert not excluded.data.all()


@pytest.mark.parametrize(("share", "is_masked"), [(0.4, True), (0.9, False)])
def test_where_candidates_take_most_of_the_brain_everything_is_compared(tmp_path, share, is_masked):
    head = make_patient(5, spacing_mm=4.0)
    analysis = make_analysis(head, write_study(head, tmp_path, sequences=(MrSequence.T1C,)))
    length = analysis.findings.components.shape[0]
    at = np.arange(length)[:, None, None]
    large = np.broadcast_to(at < share * length, analysis.findings.components.shape)
    findings = replace(analysis.findings, components=large.astype(np.int32))
    assert (changed(replace(analysis, findings=findings)) is not None) is is_masked


def test_examinations_without_a_common_sequence_are_refused(tmp_path):
    head = make_patient(5, spacing_mm=8.0, lesions=())
    first, second = (
        make_analysis(head, write_study(head, tmp_path / s.value, sequences=(s,))).prepared
        for s in (MrSequence.T1C, MrSequence.FLAIR)
    )
    assert common_sequence(first, first) is MrSequence.T1C
    with pytest.raises(UnusableInputError):
        common_sequence(first, second)
