"""Enhancement is what T1c adds to T1: a phantom whose lesion is made bright on one or on both."""

from dataclasses import replace

import numpy as np
import pytest

from lesionlens.analysis.findings import enhancement
from lesionlens.analysis.findings.enhancement import enhancing_in, without_t1_hyperintensity
from lesionlens.base.labels import Label, Region
from lesionlens.base.records.prediction import EngineInfo, Prediction
from lesionlens.testing import make_patient

INFO = EngineInfo("any", "1", None, frozenset())


@pytest.fixture(scope="module")
def patient():
    return make_patient(spacing_mm=4.0)


def shown(make_prepared, patient, *, on_t1, on_t1c, present=("t1", "t1c", "t2", "flair")):
    """Return a study whose lesion is so much brighter than the brain, and where it lies."""
    prepared = make_prepared(present, patient)
    lesion = patient.labels.data == Label.ENHANCING
    channels = prepared.channels.copy()
    for channel, gain in ((0, on_t1), (1, on_t1c)):
        typical = np.median(channels[channel][prepared.brain])
        channels[channel][lesion] = typical * gain
    return replace(prepared, channels=channels), lesion


def predicted(patient, lesion):
    tumour = np.where(patient.labels.data > 0, 0.9, 0.05).astype(np.float32)
    inner = np.where(lesion, 0.9, 0.05).astype(np.float32)
    return Prediction({Region.WT: tumour, Region.TC: inner, Region.ET: inner}, INFO)


def test_what_is_as_bright_on_t1_is_no_enhancement(make_prepared, patient):
    prepared, lesion = shown(make_prepared, patient, on_t1=2.5, on_t1c=2.5)
    before = predicted(patient, lesion)
    after = without_t1_hyperintensity(before, prepared)
    assert not (after.probability[Region.ET] >= 0.5).any()
    np.testing.assert_array_equal(after.probability[Region.TC], before.probability[Region.TC])
    assert "already bright on T1" in after.notices[-1]


def test_blood_in_a_tumour_that_enhances_elsewhere_is_left(make_prepared, patient):
    prepared, lesion = shown(make_prepared, patient, on_t1=1.0, on_t1c=2.5)
    channels = prepared.channels.copy()
    blood = np.argwhere(lesion)[: lesion.sum() // 3]
    channels[0][tuple(blood.T)] = 2.5 * np.median(channels[0][prepared.brain])
    before = predicted(patient, lesion)
    after = without_t1_hyperintensity(before, replace(prepared, channels=channels))
    assert after.probability is before.probability
    (notice,) = after.notices
    ml = float(notice.partition(" ml of the enhancing part are already bright on T1")[0])
    assert ml <= len(blood) * prepared.working.voxel_ml
    assert ml > 0.5


@pytest.mark.parametrize("on_t1", [0.8, 1.0])
def test_what_t1c_adds_is_enhancement(make_prepared, patient, on_t1):
    prepared, lesion = shown(make_prepared, patient, on_t1=on_t1, on_t1c=2.5)
    before = predicted(patient, lesion)
    assert without_t1_hyperintensity(before, prepared) is before


@pytest.mark.parametrize("present", [("t1c", "flair"), ("t1", "flair")])
def test_without_both_nothing_is_changed(make_prepared, patient, present):
    prepared, lesion = shown(make_prepared, patient, on_t1=2.5, on_t1c=2.5, present=present)
    before = predicted(patient, lesion)
    assert without_t1_hyperintensity(before, prepared) is before


@pytest.mark.parametrize("present", [("t1", "t1c", "t2", "flair"), ("t1c", "flair")])
def test_a_lesion_that_no_network_knew_enhances_where_t1c_is_brighter(
    make_prepared, patient, present
):
    prepared, lesion = shown(make_prepared, patient, on_t1=1.0, on_t1c=2.5, present=present)
    found = enhancing_in(patient.labels.data > 0, prepared)
    assert not (found & (patient.labels.data == 0)).any()
    overlap = 2 * np.count_nonzero(found & lesion) / (found.sum() + lesion.sum())
    assert overlap > 0.8


@pytest.mark.parametrize(
    ("on_t1", "on_t1c", "present"),
    [
        (2.5, 2.5, ("t1", "t1c", "t2", "flair")),  # blood
        (0.6, 0.6, ("t1", "t1c", "t2", "flair")),  # a black hole
        (2.5, 2.5, ("t1", "flair")),
    ],
)
def test_what_t1c_does_not_add_or_nobody_gave_enhances_nowhere(
    make_prepared, patient, on_t1, on_t1c, present
):
    prepared, _ = shown(make_prepared, patient, on_t1=on_t1, on_t1c=on_t1c, present=present)
    outline = patient.labels.data == Label.ENHANCING
    assert not enhancing_in(outline, prepared).any()
    assert not enhancing_in(np.zeros_like(outline), prepared).any()


@pytest.mark.parametrize("unit", [0.01, 1.0, 40.0])
def test_bright_on_t1_is_what_stands_out_there_and_explains_most_of_t1c(unit):
    """Neither alone is enough, in whatever unit T1c is stored."""
    random = np.random.default_rng(5)
    brain = random.normal(100, 10, 5000).astype(np.float32)
    brain_t1c = (unit * (brain + random.normal(0, 1, brain.size))).astype(np.float32)
    t1 = np.array([100, 110, 140, 250], np.float32)
    t1c = unit * np.array([250, 112, 300, 250], np.float32)
    bright = enhancement._bright_on_t1(brain, brain_t1c, t1, t1c)
    assert bright.tolist() == [False, False, False, True]


def test_enhancing_parts_of_one_core_are_judged_together():
    """Blood beside a larger enhancing part of the same core stays, blood that stands alone not."""
    core, enhancing, bright = (np.zeros((12, 5, 5), bool) for _ in range(3))
    core[1:11, 2, 1] = core[1:4, 2, 4] = True
    enhancing[1:4, 2, 1] = enhancing[6:11, 2, 1] = enhancing[1:4, 2, 4] = True
    bright[1:4] = True
    removed = enhancement._in_hyperintense_cores(bright, enhancing, core & ~enhancing)
    np.testing.assert_array_equal(np.argwhere(removed), [(i, 2, 4) for i in (1, 2, 3)])
