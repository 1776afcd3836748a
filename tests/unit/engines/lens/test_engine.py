"""The Lens engine on a phantom with untrained weights: shapes, laws, cancelling, memory."""

import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lesionlens.base.errors import CancelledError, ResourceError, UnusableInputError
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.records.prediction import InputPerturbation, PerturbedPrediction
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.engines import network_input
from lesionlens.engines.engine import SupportsPerturbation
from lesionlens.engines.interruptible import interruptible
from lesionlens.engines.lens import patch_refinement
from lesionlens.engines.lens.engine import PRELIMINARY, LensEngine
from lesionlens.engines.lens.ensemble import EnsembleOutput
from lesionlens.network import weights
from lesionlens.network.lens_net import TINY, LensNetwork
from lesionlens.network.weights import WeightsNotes


@pytest.fixture(scope="module")
def engine(random_weights):
    return LensEngine("cpu", random_weights)


@pytest.fixture(scope="module")
def study(make_prepared):
    return make_prepared()


@pytest.fixture(scope="module")
def prediction(engine, study):
    return engine.predict(study, context=SILENT)


def test_probabilities_are_nested_and_only_in_the_brain(prediction, study):
    whole, core, enhancing = (prediction.probability[region] for region in Region)
    assert whole.shape == study.working.shape
    assert whole.dtype == np.float32
    assert (whole >= core).all()
    assert (core >= enhancing).all()
    assert enhancing.min() >= 0
    assert whole.max() <= 1
    assert not whole[~study.brain].any()
    assert whole[study.brain].any()


def test_a_core_is_not_voted_away_by_flair_alone(random_weights, study, monkeypatch):
    engine = LensEngine("cpu", random_weights)
    real = engine._pass

    def answer(x, **how):
        out = real(x, **how)
        everything = bool(x[0, 4:].any(dim=(1, 2, 3)).all()) if x.ndim == 5 else True
        return out._replace(logits=torch.full_like(out.logits, 4.0 if everything else -9.0))

    monkeypatch.setattr(engine, "_pass", answer)
    said = engine.predict(study, context=SILENT).probability
    assert said[Region.TC][study.brain].min() > 0.9


def test_core_and_enhancement_are_those_of_the_mirror_image(engine, study):
    shown = network_input.make_network_input(study, 8.0, torch.device("cpu"))
    turned = replace(shown, channels=shown.channels.flip(2), brain=shown.brain.flip(1))
    original, mirrored = (engine._first_pass(either, SILENT) for either in (shown, turned))
    torch.testing.assert_close(
        mirrored.logits.flip(1)[1:], original.logits[1:], atol=1e-4, rtol=1e-4
    )
    alone = engine._calibrated(original.all_sequences.logits)[0]
    assert not torch.allclose(alone[1:], original.logits[1:], atol=0.01)  # else one pass would do


def test_attention_is_a_share_of_the_brain(prediction, study):
    assert set(prediction.trace.cross) == set(Region)
    for weights_of in prediction.trace.cross.values():
        assert weights_of.min() >= 0
        assert weights_of.sum() == pytest.approx(1, abs=1e-3)
        assert not weights_of[~study.brain].any()


def test_the_same_study_gives_the_same_answer(engine, study, prediction):
    again = engine.predict(study, context=SILENT)
    np.testing.assert_array_equal(again.probability[Region.ET], prediction.probability[Region.ET])


def test_an_unperturbed_pass_is_the_predictions_own(engine, study, prediction):
    assert isinstance(engine, SupportsPerturbation)
    everything = InputPerturbation((True,) * 4)
    seen = engine.predict_subsets(study, [everything], context=SILENT)
    np.testing.assert_allclose(seen.probability, prediction.unperturbed.probability, atol=1e-5)
    assert seen.grid.matches(prediction.unperturbed.grid)


def test_perturbations_are_what_they_declare(engine, study):
    grid = engine.predict_subsets(study, [InputPerturbation()], context=SILENT).grid
    hidden = np.zeros(grid.shape, bool)
    hidden[: grid.shape[0] // 2] = True
    variants = [
        InputPerturbation((True,) * 4),
        InputPerturbation((False, False, False, True)),
        InputPerturbation((True,) * 4, mirrored=True),
        InputPerturbation((True,) * 4, hidden=hidden),
    ]
    said = engine.predict_subsets(study, variants, context=SILENT).probability
    assert len({answer.tobytes() for answer in said}) == 4
    only_flair = engine._coarse_cache.input_for(study).input_of(variants[1])
    assert not only_flair[0, :3].any()
    assert not only_flair[0, 4:7].any()
    assert only_flair[0, 3].any()
    shown, masked = (engine._coarse_cache.input_for(study).input_of(variants[n]) for n in (0, 3))
    assert not masked[0, :4, hidden].any()
    torch.testing.assert_close(masked[0, :4, ~hidden], shown[0, :4, ~hidden])
    torch.testing.assert_close(masked[0, 4:], shown[0, 4:])


def inputs_read(engine, monkeypatch):
    """Collect the inputs that the network reads from now on, however many in one pass."""
    taken = []
    taking = engine._pass
    monkeypatch.setattr(engine, "_pass", lambda x: taken.extend(x) or taking(x))
    return taken


def test_no_pass_is_run_twice(random_weights, make_prepared, monkeypatch):
    engine, study = LensEngine("cpu", random_weights), make_prepared()
    taken = inputs_read(engine, monkeypatch)
    some = [
        InputPerturbation(),
        InputPerturbation.showing([MrSequence.FLAIR]),
        InputPerturbation(alone=True),
    ]
    first = engine.predict_subsets(study, some, context=SILENT)
    again = engine.predict_subsets(study, some, context=SILENT)
    assert len(taken) == 2
    np.testing.assert_array_equal(again.probability, first.probability)
    everything, flair, alone = first.probability
    np.testing.assert_allclose(everything, (alone + flair) / 2, atol=1e-6)
    engine.predict_subsets(make_prepared(), some, context=SILENT)
    assert len(taken) == 4


def test_fine_answers_are_of_the_predictions_own_voxel_size(engine, study, prediction):
    everything, flair = (
        InputPerturbation(fine=True),
        InputPerturbation.showing([MrSequence.FLAIR], fine=True),
    )
    seen = engine.predict_subsets(study, [everything, flair], context=SILENT)
    assert seen.grid.spacing_mm == pytest.approx(prediction.unperturbed.grid.spacing_mm / 1.5)
    hidden = np.ones(seen.grid.shape, bool)
    changed = engine.predict_subsets(
        study, [InputPerturbation(hidden=hidden, alone=True, fine=True)], context=SILENT
    )
    assert changed.inner.shape == (1, 2, *seen.grid.shape)
    assert not np.array_equal(changed.probability[0], seen.probability[0])


def sure_of(out):
    return out._replace(logits=torch.full_like(out.logits, 9.0))


def test_weights_say_where_to_cut(tmp_path, make_prepared, monkeypatch):
    path = tmp_path / "cut.safetensors"
    notes = WeightsNotes(spacing_mm=8.0, thresholds=(0.5, 0.4, 0.3))
    weights.save(path, TINY, LensNetwork(TINY).state_dict(), notes)
    engine = LensEngine("cpu", path)
    real = engine._pass
    monkeypatch.setattr(engine, "_pass", lambda x, **more: sure_of(real(x, **more)))
    found = engine.predict(make_prepared(), context=SILENT)
    assert found.thresholds == {Region.WT: 0.5, Region.TC: 0.4, Region.ET: 0.3}


def test_where_no_sequence_shows_oedema_only_what_is_nearly_certain_is_drawn(engine, make_prepared):
    def cut(*sequences):
        study = make_prepared(present=set(sequences))
        found = engine.predict(study, context=SILENT)
        first = engine.first_pass(study, context=SILENT)
        faint = found.thresholds[Region.WT] < 0.8
        assert first.threshold == (0.2 if faint else found.thresholds[Region.WT])
        shown = [InputPerturbation(), InputPerturbation.showing(["t1", "t1c"])]
        seen = engine.predict_subsets(study, shown, context=SILENT)
        assert seen.thresholds == (found.thresholds[Region.WT], 0.8)
        return found.thresholds[Region.WT]

    assert cut("t1", "t1c") == cut("t1c") == 0.8
    assert cut("t1c", "t2") == cut("t1c", "flair") == cut("flair") == 0.5


def test_an_absent_sequence_stays_absent(engine, make_prepared):
    study = make_prepared(present={"flair", "t2"})
    x = engine._coarse_cache.input_for(study).input_of(InputPerturbation((True,) * 4))
    assert not x[0, :2].any()
    assert not x[0, 4:6].any()
    assert x[0, 6:].any()


def test_a_mirrored_pass_over_a_mirrored_input_is_the_plain_one(engine, study):
    plain = engine._coarse_cache.input_for(study).input_of(InputPerturbation((True,) * 4))
    mirrored = engine._coarse_cache.input_for(study).input_of(
        InputPerturbation((True,) * 4, mirrored=True)
    )
    torch.testing.assert_close(mirrored, plain.flip(2))


def test_scanner_units_do_not_matter(engine, study, prediction):
    scale = np.array([3.0, 0.2, 10.0, 1.5], np.float32)[:, None, None, None]
    other = type(study)(
        study.channels * scale,
        study.present,
        study.brain,
        study.working,
        study.native,
        study.to_native,
        study.reference,
    )
    again = engine.predict(other, context=SILENT)
    np.testing.assert_allclose(
        again.probability[Region.WT], prediction.probability[Region.WT], atol=2e-3
    )


def test_the_probe_answers_with_places_in_the_brain(prediction, study):
    inside = tuple(int(v) for v in np.argwhere(study.brain).mean(0).round())
    answer = prediction.trace.probe_row(inside)
    assert answer.shape == study.working.shape
    assert answer.max() == pytest.approx(1)
    assert answer.min() >= 0
    assert not answer[~study.brain].any()


def test_two_far_voxels_are_answered_differently(prediction, study):
    found = np.argwhere(study.brain)
    rows = [prediction.trace.probe_row(tuple(map(int, found[n]))) for n in (0, len(found) - 1)]
    assert np.abs(rows[0] - rows[1]).max() > 0.05


def test_it_stops_in_the_middle_of_a_pass(random_weights, study):
    engine, stop, reported = LensEngine("cpu", random_weights), threading.Event(), []

    def progress(stage, fraction):
        reported.append(fraction)
        if fraction > 0.3:
            stop.set()

    with pytest.raises(CancelledError):
        engine.predict(study, context=RunContext(progress=progress, cancel=stop))
    assert max(reported) < 0.5
    engine.predict(study, context=SILENT)


def test_progress_of_each_stage_reaches_the_end_and_never_falls(engine, study):
    reported = {}
    engine.forget()  # what another test has asked of this study is not predicted again
    engine.predict(
        study,
        context=RunContext(progress=lambda stage, f: reported.setdefault(stage, []).append(f)),
    )
    assert reported[PRELIMINARY][-1] > 0.9
    for fractions in reported.values():  # passes for later run only while a core is idle
        assert fractions == sorted(fractions)


def test_too_little_memory_is_reported_in_words(engine):
    def refuse():
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried")

    with (
        pytest.raises(ResourceError, match="too little memory"),
        interruptible(engine.network, "a test", SILENT),
    ):
        refuse()


def test_a_study_without_a_brain_is_refused(make_prepared):
    study = make_prepared()
    empty = type(study)(
        study.channels,
        study.present,
        np.zeros_like(study.brain),
        study.working,
        study.native,
        study.to_native,
        study.reference,
    )
    with pytest.raises(UnusableInputError, match="no brain"):
        network_input.brain_box(empty)


def predicted(tmp_path, study, state, focus_spacing_mm):
    path = tmp_path / "weights.safetensors"
    notes = WeightsNotes(spacing_mm=6.0, focus_spacing_mm=focus_spacing_mm)
    weights.save(path, TINY, state, notes)
    return LensEngine("cpu", path).predict(study, context=SILENT)


@pytest.fixture(scope="module")
def suspicious():
    """Return untrained weights that suspect something nearly everywhere."""
    torch.manual_seed(3)
    state = LensNetwork(TINY).state_dict()
    return {**state, "refine.bias": state["refine.bias"] + 3.0}


def test_patch_refinement_draws_the_enhancing_part_and_its_map_alone(tmp_path, study, suspicious):
    plain = predicted(tmp_path, study, suspicious, None)
    refined = predicted(tmp_path, study, suspicious, 4.0)
    for region in (Region.WT, Region.TC):
        np.testing.assert_array_equal(refined.probability[region], plain.probability[region])
        np.testing.assert_allclose(
            refined.trace.cross[region], plain.trace.cross[region], atol=1e-9
        )
    assert np.abs(refined.probability[Region.ET] - plain.probability[Region.ET]).max() > 0.01
    one, other = refined.trace.cross[Region.ET], plain.trace.cross[Region.ET]
    assert one.sum() == pytest.approx(1, abs=1e-3)
    assert not one[~study.brain].any()
    assert np.abs(one - other).sum() > 0.01
    assert (one >= (0.3 - 1e-3) * other).all()
    assert "patch refinement" in refined.trace.method
    assert "patch refinement" not in plain.trace.method


def test_nothing_is_refined_where_nothing_is_suspected(tmp_path, study, suspicious):
    calm = {**suspicious, "refine.bias": suspicious["refine.bias"] - 9.0}
    plain, refined = (predicted(tmp_path, study, calm, edge) for edge in (None, 4.0))
    np.testing.assert_array_equal(refined.trace.cross[Region.ET], plain.trace.cross[Region.ET])
    assert "patch refinement" not in refined.trace.method


@pytest.mark.gpu
def test_the_gpu_agrees_with_the_cpu(random_weights, study, prediction):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    found = LensEngine("cuda", random_weights).predict(study, context=SILENT)
    np.testing.assert_allclose(
        found.probability[Region.WT], prediction.probability[Region.WT], atol=0.03
    )


def test_a_quick_pass_outlines_as_much_as_it_shows_of_the_whole_tumour(make_prepared):
    """By millimetres: the quick pass has voxels of its own."""
    study = make_prepared()
    fine, quick_grid = (
        network_input.InputFrame.over(study, spacing).grid for spacing in (2.0, 3.0)
    )
    logits = torch.full((3, *fine.shape), -9.0)
    logits[0, 10:30, 10:30, 10:30] = 9.0
    first_pass = EnsembleOutput(
        SimpleNamespace(grid=fine), all_sequences=None, logits=logits, cavity_probability=None
    )
    quick = np.zeros((1, *quick_grid.shape), np.float32)
    assert first_pass.share_outlined(PerturbedPrediction(quick, quick_grid), 0.5) == 0
    middle = quick_grid.to_voxel(fine.to_mm([[20.0, 20.0, 20.0]]))[0, 0]
    quick[:, : round(middle)] = 1
    share = first_pass.share_outlined(PerturbedPrediction(quick, quick_grid), 0.5)
    assert share == pytest.approx(0.5, abs=0.06)
    logits[:] = -9
    assert first_pass.share_outlined(PerturbedPrediction(quick, quick_grid), 0.5) == 1


def test_a_prediction_is_the_same_with_any_number_of_threads(refining_weights, study, monkeypatch):
    monkeypatch.setattr(patch_refinement, "_MIN_PROBABILITY", 0.0)  # untrained, it suspects nothing
    engine, before = LensEngine("cpu", refining_weights), torch.get_num_threads()
    found = []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            engine.forget()
            found.append(engine.predict(study, context=SILENT))
    finally:
        torch.set_num_threads(before)
    one, other = found
    for region in Region:
        np.testing.assert_allclose(other.probability[region], one.probability[region], atol=1e-3)
    outlines = [(p.probability[Region.WT] >= p.thresholds[Region.WT]) for p in found]
    both = np.count_nonzero(outlines[0] & outlines[1])
    assert 2 * both >= 0.995 * sum(map(np.count_nonzero, outlines))
