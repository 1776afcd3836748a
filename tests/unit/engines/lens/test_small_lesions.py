"""The search for small lesions: what is added, what is left, what perturbed inputs show of it."""

import dataclasses

import numpy as np
import pytest
import torch

from lesionlens.analysis.findings.component_scores import ComponentVoxels, score_components
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.records.prediction import InputPerturbation, PerturbedPrediction, Scoring
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import SILENT
from lesionlens.engines.lens import small_lesions
from lesionlens.engines.lens.engine import LensEngine
from lesionlens.engines.network_input import make_network_input
from lesionlens.network import weights
from lesionlens.network.lens_net import TINY, LensNetwork
from lesionlens.network.unet import SMALL_LESIONS_SPACING_MM
from lesionlens.network.weights import WeightsNotes

CPU = torch.device("cpu")
SHAPE = (60, 66, 56)
SEAT = np.array([20, 36, 28])
RADIUS_MM = 3.5
NOTHING, ALL = -8.0, (0, 1, 2, 3)


def ball(centre, radius, shape=SHAPE):
    away = np.indices(shape) - np.reshape(centre, (3, 1, 1, 1))
    return (away**2).sum(0) <= radius**2


def study_with(*seats, mirrored=False, present=ALL):
    """A brain of noise with bright balls on T1c, on cubes of 1 mm."""
    rng = np.random.default_rng(3)
    brain = ball(np.array(SHAPE) / 2, 25)
    channels = np.abs(rng.normal(100, 4, (4, *SHAPE))).astype(np.float32)
    for seat in seats:
        channels[1][ball(seat, RADIUS_MM)] = 190
    channels *= brain
    there = np.isin(np.arange(4), present)
    channels *= there[:, None, None, None]
    if mirrored:
        channels, brain = channels[:, ::-1].copy(), brain[::-1].copy()
    affine = np.eye(4)
    affine[:3, 3] = -(np.array(SHAPE) - 1) / 2
    grid = Grid(SHAPE, affine)
    return PreparedStudy(channels, there, brain, grid, grid, np.eye(4), MrSequence.T1)


@pytest.fixture(autouse=True)
def _reads_brightness(monkeypatch):
    """A network that calls bright T1c a lesion, so that the rest is tested alone."""
    monkeypatch.setattr(
        small_lesions, "lesion_logits", lambda images: np.where(images[1] > 4, 14, NOTHING)
    )


def searched(study, known=NOTHING):
    fine = make_network_input(study, SMALL_LESIONS_SPACING_MM, CPU)
    return small_lesions.search(fine, np.full((2, *fine.grid.shape), known, np.float32))


def drawn(found, study):
    return added(found, study) >= 0.5


def added(found, study):
    frame = found.network_input.frame
    assert frame.prepared is study
    return frame.pasted(found.added_to(np.zeros((3, *frame.box_grid.shape), np.float32)))


def perturbed(found, study, *asked):
    grid = make_network_input(study, 3.0, CPU).grid
    empty = np.zeros((len(asked), *grid.shape), np.float32)
    return found.perturb(PerturbedPrediction(empty, grid), asked)


def test_a_lesion_is_added_where_it_is_and_nowhere_else():
    study = study_with(SEAT)
    whole, core, enhancing = drawn(searched(study), study)
    truth = ball(SEAT, RADIUS_MM)
    assert 2 * (whole & truth).sum() / (whole.sum() + truth.sum()) > 0.8
    assert not whole[~ball(SEAT, RADIUS_MM + 2)].any()
    assert (whole == core).all()
    assert (core | ~enhancing).all()
    assert enhancing[tuple(SEAT)]


def test_a_mirrored_brain_gives_the_mirrored_lesion():
    study, other = study_with(SEAT), study_with(SEAT, mirrored=True)
    here, there = drawn(searched(study), study), drawn(searched(other), other)
    wrong = (here[0] ^ there[0][::-1]).sum()
    assert wrong < 0.3 * here[0].sum()  # the network's cubes lie elsewhere
    assert there[0][SHAPE[0] - 1 - SEAT[0], SEAT[1], SEAT[2]]


def test_without_a_lesion_nothing_is_found():
    assert searched(study_with()) is None


def test_a_core_that_the_other_network_outlines_in_a_large_tumour_stays_as_it_is():
    study = study_with(SEAT)
    assert searched(study, known=3.0) is None


def test_a_lesion_in_a_small_outline_is_added():
    study = study_with(SEAT)
    fine = make_network_input(study, SMALL_LESIONS_SPACING_MM, CPU)
    at = np.rint(fine.grid.to_voxel(study.working.to_mm(SEAT)))
    known = np.where(ball(at, 4, fine.grid.shape), 3.0, NOTHING).astype(np.float32)
    assert small_lesions.search(fine, np.stack([known, known])) is not None


@pytest.mark.parametrize("sequence", MrSequence)
def test_only_t1c_takes_the_lesion_away(sequence):
    study = study_with(SEAT)
    without = InputPerturbation.showing([s for s in MrSequence if s is not sequence])
    found = perturbed(searched(study), study, without, InputPerturbation())
    kept = sequence is not MrSequence.T1C
    assert (found.lesion_scores[0].max() > 0.5) == kept
    assert (found.probability[0].max() > 0.5) == kept
    assert found.lesion_scores[1].max() > 0.5


def test_a_mirrored_input_shows_it_at_the_same_place():
    study = study_with(SEAT)
    found = perturbed(searched(study), study, InputPerturbation(), InputPerturbation(mirrored=True))
    here, there = (np.argwhere(one > 0.5).mean(0) for one in found.probability)
    np.testing.assert_allclose(here, there, atol=0.4)


def test_at_the_brains_surface_a_lesion_ends_with_the_brain():
    """Whatever the skull looks like: a server gets no voxel of it."""
    study = study_with((8, 33, 28))
    channels = study.channels.copy()
    channels[1][~study.brain] = 400
    with_skull = dataclasses.replace(study, channels=channels)
    here, there = added(searched(with_skull), with_skull), added(searched(study), study)
    np.testing.assert_array_equal(here, there)
    assert here[0][study.brain].max() > 0.5
    assert not here[:, ~study.brain].any()


def test_what_is_hidden_is_not_seen():
    study = study_with(SEAT)
    grid = make_network_input(study, 3.0, CPU).grid
    at = np.rint(grid.to_voxel(study.working.to_mm(SEAT)))
    hidden = ball(at, 3, grid.shape)
    asked = (InputPerturbation(hidden=hidden), InputPerturbation(hidden=hidden[::-1].copy()))
    covered, elsewhere = perturbed(searched(study), study, *asked).lesion_scores
    assert covered.max() == 0
    assert elsewhere.max() > 0.5


def test_a_component_scores_no_less_than_the_lesion_in_it():
    probability = np.full((2, 2, 2, 2), 0.6, np.float32)
    grid = Grid((2, 2, 2), np.eye(4))
    scores = np.zeros_like(probability)
    scores[0, 0, 0, 0] = 0.9
    seen = PerturbedPrediction(probability, grid, lesion_scores=scores)
    component = ComponentVoxels(np.arange(4), 0.05)
    alone = dataclasses.replace(seen, lesion_scores=None)
    (with_lesion,), (without,) = score_components(seen, [component], Scoring())
    np.testing.assert_allclose(with_lesion, 0.9, rtol=1e-6)
    np.testing.assert_allclose(without, score_components(alone, [component], Scoring())[1, 0])


def engine_with(tmp_path, trained_on):
    path = tmp_path / f"{len(trained_on)}.safetensors"
    notes = WeightsNotes(version="test", spacing_mm=5.0, trained_on=trained_on)
    weights.save(path, TINY, LensNetwork(TINY).state_dict(), notes)
    return LensEngine("cpu", path)


def test_beside_weights_that_saw_no_patient_nothing_is_searched(tmp_path):
    study = study_with(SEAT)
    engine = engine_with(tmp_path, ())
    found = engine.predict(study, context=SILENT)
    assert found.unperturbed.lesion_scores is None
    assert not found.engine.trained_on
    assert not any("small enhancing" in notice for notice in found.notices)


def test_beside_weights_of_patients_the_reader_is_told_and_the_scans_are_named(tmp_path):
    study = study_with(SEAT)
    engine = engine_with(tmp_path, ("sha256:of-a-scan",))
    found = engine.predict(study, context=SILENT)
    assert found.engine.trained_on > weights.shipped_scans("small_lesions")
    assert "sha256:of-a-scan" in found.engine.trained_on
    assert any("small enhancing" in notice for notice in found.notices)
    assert found.probability[Region.ET][tuple(SEAT)] > 0.5
    again = engine.predict_subsets(study, [InputPerturbation()], context=SILENT)
    np.testing.assert_array_equal(again.lesion_scores, found.unperturbed.lesion_scores)
    engine.forget()
    anew = engine.predict_subsets(study, [InputPerturbation()], context=SILENT)
    np.testing.assert_allclose(anew.lesion_scores, found.unperturbed.lesion_scores, atol=1e-5)


def test_without_t1c_nothing_is_searched(tmp_path):
    study = study_with(SEAT, present=(0, 2, 3))
    engine = engine_with(tmp_path, ("sha256:of-a-scan",))
    assert engine.predict(study, context=SILENT).unperturbed.lesion_scores is None


def test_a_search_is_of_the_study_that_was_passed(tmp_path):
    """Perturbed inputs of a study that was not analysed follow the analysis of another one."""
    engine = engine_with(tmp_path, ("sha256:of-a-scan",))
    for study, count in ((study_with(SEAT), 1), (study_with(), 0), (study_with(SEAT), 1)):
        found = engine.small_lesions_of(study, SILENT)
        assert (0 if found is None else len(found.lesions)) == count
