"""What a candidate looks like: the model, its file, and when a kind stands out."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy import ndimage
from tests.phantoms.analysis import make_analysis, write_study

from lesionlens.analysis.findings.anatomy import head_of
from lesionlens.analysis.findings.edits import applied
from lesionlens.analysis.findings.kind_features import coarse_of, features_of, lattice_of
from lesionlens.analysis.findings.kinds import (
    KindModel,
    appearance_of,
    key_of,
    load_models,
    with_kinds,
)
from lesionlens.base.labels import DrawingMethod, LesionKind, MrSequence
from lesionlens.base.records.review import Outline
from lesionlens.base.records.study import PreparationStep, StepName
from lesionlens.engines.testing.simple import Lesion, make_patient
from lesionlens.results.review.log import ReviewLog, new_tracking_uid

SUBSETS = [frozenset(c) for n in range(1, 5) for c in combinations(MrSequence, n)]


@pytest.fixture(scope="module")
def analysis(tmp_path_factory):
    lesions = (Lesion((-28.0, 8.0, 26.0), 18.0), Lesion((34.0, -40.0, 30.0), 10.0))
    patient = make_patient(5, spacing_mm=4.0, lesions=lesions)
    return make_analysis(patient, write_study(patient, tmp_path_factory.mktemp("study")))


def model(least=0.6, **weights):
    """A model of one feature that votes for kinds."""
    rows = np.zeros((3, len(LesionKind)))
    for name, value in weights.items():
        rows[1, list(LesionKind).index(LesionKind(name))] = value
    bounds = [1.01 if kind is LesionKind.OTHER else least for kind in LesionKind]
    return KindModel(["size"], np.zeros(1), np.ones(1), rows, np.array(bounds))


def test_probabilities_sum_to_one_and_the_likeliest_stands_out():
    found = appearance_of({"size": 2.0}, model(glioma=3.0))
    assert sum(found.probability.values()) == pytest.approx(1)
    assert found.looks_like is LesionKind.GLIOMA
    assert list(found.probability) == list(LesionKind)


def test_below_the_bound_none_stands_out():
    assert appearance_of({"size": 2.0}, model(0.999, glioma=3.0)).looks_like is None
    assert appearance_of({"size": 0.0}, model(glioma=3.0)).looks_like is None


def test_other_is_no_kind():
    assert appearance_of({"size": 2.0}, model(other=9.0)).looks_like is None


def test_a_feature_counts_no_further_than_the_training_cases():
    far, further = (appearance_of({"size": v}, model(glioma=1.0)) for v in (3.0, 300.0))
    assert far.probability == further.probability


@pytest.mark.parametrize("sequences", SUBSETS, ids=key_of)
def test_every_set_of_sequences_has_a_model_of_what_it_shows(sequences, analysis):
    prepared = analysis.prepared
    there = np.array([s in sequences for s in MrSequence])
    channels = prepared.channels[prepared.present][0] * there[:, None, None, None]
    shown = replace(prepared, channels=channels.astype(np.float32), present=there)
    coarse = coarse_of(shown, head_of(shown))
    lattice = lattice_of(coarse, coarse.sampled(analysis.findings.components))
    fitted = load_models()[key_of(sequences)]
    assert set(fitted.names) == set(features_of(lattice, 1))
    assert fitted.weights.shape == (1 + 2 * len(fitted.names), len(LesionKind))
    assert fitted.min_probability.shape == (len(LesionKind),)
    assert fitted.min_probability.min() >= 0.5
    assert fitted.min_probability[list(LesionKind).index(LesionKind.OTHER)] > 1
    assert np.isfinite(fitted.weights).all()
    assert (fitted.scale > 0).all()


def test_candidates_get_a_kind_and_nothing_else_changes(analysis):
    findings = analysis.findings
    named = with_kinds(findings.candidates, findings.components, analysis.prepared)
    assert all(one.kind is not None for one in named)
    assert tuple(replace(one, kind=None) for one in named) == findings.candidates


def test_only_those_that_are_asked_for_are_measured(analysis):
    findings = analysis.findings
    named = with_kinds(
        findings.candidates,
        findings.components,
        analysis.prepared,
        only={2},
    )
    assert [one.id for one in named if one.kind is not None] == [2]


def test_without_a_brain_mask_there_is_no_kind(analysis):
    step = PreparationStep(StepName.BRAIN, None, done=False, message="not found")
    whole = replace(analysis.prepared, steps=(step,))
    findings = analysis.findings
    named = with_kinds(findings.candidates, findings.components, whole)
    assert all(one.kind is None for one in named)


def test_a_lesion_that_a_reader_drew_gets_a_kind_too(analysis):
    labels = np.ones((3, 3, 3), np.uint8)
    free = np.argwhere(ndimage.binary_erosion(analysis.findings.components == 0, iterations=5))
    corner = tuple(int(n) for n in free[len(free) // 2])
    log, uid = ReviewLog(analysis.review), new_tracking_uid()
    outline = Outline(uid, corner, labels)
    log.add(outline, DrawingMethod.MANUAL, reader="A")
    *others, added = applied(replace(analysis, review=log.review)).findings.candidates
    assert added.tracking_uid == uid
    assert added.kind is not None
    assert tuple(others) == analysis.findings.candidates
