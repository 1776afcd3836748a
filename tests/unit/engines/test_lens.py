"""The Lens engine on a phantom with untrained weights: laws, subsets, windows, cancelling."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from lesionlens.base.errors import CancelledError, UnusableInputError
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.records.prediction import InputPerturbation
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.engines.lens import WHOLE_BRAIN, LensEngine
from lesionlens.network import weights
from lesionlens.network.lens_net import TINY, LensNetwork
from lesionlens.network.weights import WeightsNotes

EVERYTHING, MIRRORED = InputPerturbation(), InputPerturbation(mirrored=True)
FLAIR = InputPerturbation.showing([MrSequence.FLAIR])


@pytest.fixture(scope="module")
def engine(random_weights):
    return LensEngine("cpu", random_weights)


@pytest.fixture(scope="module")
def study(make_prepared):
    return make_prepared()


@pytest.fixture(scope="module")
def prediction(engine, study):
    return engine.predict(study, context=SILENT)


def turned(study):
    """The study mirrored left to right about the middle of its grid."""
    channels, brain = study.channels[:, ::-1].copy(), study.brain[::-1].copy()
    return replace(study, channels=channels, brain=brain)


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


def test_left_stays_left(engine, study, prediction):
    """The ensemble sees both sides alike, so a mirrored head has the mirrored core."""
    other = engine.predict(turned(study), context=SILENT)
    for region in (Region.TC, Region.ET):
        one, two = prediction.probability[region], other.probability[region][::-1]
        assert np.abs(one - two).mean() < 0.2 * np.abs(one - one[::-1]).mean()


def test_a_core_is_not_voted_away_by_flair_alone(random_weights, study, monkeypatch):
    engine = LensEngine("cpu", random_weights)
    network = engine.network.forward

    def forward(x, **options):
        out = network(x, **options)
        return out._replace(logits=torch.full_like(out.logits, 4.0 if x[0, 4].any() else -9.0))

    monkeypatch.setattr(engine.network, "forward", forward)
    found = engine.predict(study, context=SILENT).probability
    assert found[Region.TC][study.brain].min() > 0.9
    assert (found[Region.WT] >= found[Region.TC]).all()


def test_attention_is_a_share_of_the_brain(prediction, study):
    assert set(prediction.trace.cross) == set(Region)
    for share in prediction.trace.cross.values():
        assert share.min() >= 0
        assert share.sum() == pytest.approx(1, abs=1e-3)
        assert not share[~study.brain].any()


def test_scanner_units_do_not_matter(engine, study, prediction):
    scale = np.array([3.0, 0.2, 10.0, 1.5], np.float32)[:, None, None, None]
    again = engine.predict(replace(study, channels=study.channels * scale), context=SILENT)
    for region in Region:
        np.testing.assert_allclose(
            again.probability[region], prediction.probability[region], atol=2e-3
        )


def test_a_study_without_a_brain_is_refused(engine, study):
    with pytest.raises(UnusableInputError, match="No brain"):
        engine.predict(replace(study, brain=np.zeros_like(study.brain)), context=SILENT)


def test_thresholds_are_those_of_the_weights_or_lower(tmp_path, make_prepared):
    path = tmp_path / "cut.safetensors"
    notes = WeightsNotes(spacing_mm=8.0, thresholds=(0.5, 0.4, 0.3))
    weights.save(path, TINY, LensNetwork(TINY).state_dict(), notes)
    found = LensEngine("cpu", path).predict(make_prepared(), context=SILENT).thresholds
    assert (found[Region.WT], found[Region.ET]) == (0.5, 0.3)
    assert 0.2 <= found[Region.TC] <= 0.4


@pytest.mark.parametrize(
    ("sequences", "least"),
    [("t1 t1c", 0.8), ("t1c", 0.8), ("t1c t2", 0.5), ("t1c flair", 0.5), ("flair", 0.5)],
)
def test_where_no_sequence_shows_oedema_only_what_is_nearly_certain_counts(
    engine, make_prepared, sequences, least
):
    study = make_prepared(present=set(sequences.split()))
    assert engine.predict(study, context=SILENT).thresholds[Region.WT] == least
    assert engine.first_pass(study, context=SILENT).threshold == (0.8 if least == 0.8 else 0.2)


# --- Subsets -------------------------------------------------------------------------------------


def subsets(engine, study, *inputs):
    return engine.predict_subsets(study, inputs, context=SILENT)


def test_the_prediction_from_everything_is_that_of_the_study(engine, study, prediction):
    found = subsets(engine, study, EVERYTHING)
    np.testing.assert_array_equal(found.probability, prediction.unperturbed.probability)
    assert found.grid.matches(prediction.unperturbed.grid)


def test_a_subset_is_the_study_without_these_sequences(engine, make_prepared, study):
    shown = {MrSequence.T2, MrSequence.FLAIR}
    found = subsets(engine, study, InputPerturbation.showing(shown))
    alone = subsets(engine, make_prepared(present=shown), EVERYTHING)
    np.testing.assert_allclose(found.probability, alone.probability, atol=1e-5)
    assert subsets(engine, study, InputPerturbation.showing(["t1", "t1c"])).thresholds == (0.8,)


def test_order_and_company_of_inputs_do_not_matter(engine, study, make_prepared):
    together = subsets(engine, study, EVERYTHING, FLAIR, MIRRORED).probability
    engine.forget()
    reverse = subsets(engine, study, MIRRORED, FLAIR, EVERYTHING).probability[::-1]
    np.testing.assert_allclose(together, reverse, atol=1e-5)
    other = replace(study, channels=study.channels[::-1].copy())
    assert not np.allclose(subsets(engine, other, FLAIR).probability, together[1], atol=1e-3)
    np.testing.assert_allclose(subsets(engine, study, FLAIR).probability, together[1:2], atol=1e-5)


def test_a_mirrored_input_is_mirrored_back(engine, study):
    plain, mirrored = subsets(engine, study, FLAIR, replace(FLAIR, mirrored=True)).probability
    (upright,) = subsets(engine, turned(study), FLAIR).probability
    np.testing.assert_allclose(upright[::-1], mirrored, atol=1e-4)
    assert np.abs(mirrored - plain).max() > 1e-2


# --- Probe ---------------------------------------------------------------------------------------


def test_the_probe_answers_with_places_in_the_brain(prediction, study):
    voxels = np.argwhere(study.brain)
    rows = [prediction.trace.probe_row(tuple(map(int, voxels[n]))) for n in (0, -1)]
    for row in rows:
        assert row.shape == study.working.shape
        assert row.max() == pytest.approx(1)
        assert row.min() >= 0
        assert not row[~study.brain].any()
    assert np.abs(rows[0] - rows[1]).max() > 0.05


# --- Windows -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def suspicious():
    """Untrained weights that suspect something nearly everywhere."""
    torch.manual_seed(3)
    state = LensNetwork(TINY).state_dict()
    return {**state, "refine.bias": state["refine.bias"] + 3.0}


def predicted(tmp_path, study, state, focus_spacing_mm):
    path = tmp_path / "weights.safetensors"
    notes = WeightsNotes(spacing_mm=6.0, focus_spacing_mm=focus_spacing_mm)
    weights.save(path, TINY, state, notes)
    return LensEngine("cpu", path).predict(study, context=SILENT)


def test_windows_change_the_enhancing_part_and_its_map_alone(tmp_path, study, suspicious):
    plain, refined = (predicted(tmp_path, study, suspicious, edge) for edge in (None, 4.0))
    for region in (Region.WT, Region.TC):
        np.testing.assert_allclose(
            refined.probability[region], plain.probability[region], atol=1e-6
        )
        np.testing.assert_allclose(
            refined.trace.cross[region], plain.trace.cross[region], atol=1e-9
        )
    assert np.abs(refined.probability[Region.ET] - plain.probability[Region.ET]).max() > 0.01
    one, other = refined.trace.cross[Region.ET], plain.trace.cross[Region.ET]
    assert one.sum() == pytest.approx(1, abs=1e-3)
    assert not one[~study.brain].any()
    assert np.abs(one - other).sum() > 0.01
    assert (one >= (0.3 - 1e-3) * other).all()
    assert refined.trace.method != plain.trace.method


def test_without_suspicion_there_is_no_window(tmp_path, study, suspicious):
    calm = {**suspicious, "refine.bias": suspicious["refine.bias"] - 9.0}
    plain, refined = (predicted(tmp_path, study, calm, edge) for edge in (None, 4.0))
    np.testing.assert_array_equal(refined.trace.cross[Region.ET], plain.trace.cross[Region.ET])
    assert refined.trace.method == plain.trace.method


# --- Running -------------------------------------------------------------------------------------


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
    engine.forget()
    context = RunContext(progress=lambda stage, f: reported.setdefault(stage, []).append(f))
    engine.predict(study, context=context)
    assert reported[WHOLE_BRAIN][-1] > 0.9
    for fractions in reported.values():
        assert fractions == sorted(fractions)


def test_a_prediction_hardly_depends_on_the_number_of_threads(tmp_path, study, suspicious):
    before, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            found.append(predicted(tmp_path, study, suspicious, 4.0))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        for region in Region:
            np.testing.assert_allclose(
                other.probability[region], found[0].probability[region], atol=1e-3
            )


@pytest.mark.gpu
def test_the_gpu_agrees_with_the_cpu(random_weights, study, prediction):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    found = LensEngine("cuda", random_weights).predict(study, context=SILENT)
    np.testing.assert_allclose(
        found.probability[Region.WT], prediction.probability[Region.WT], atol=0.03
    )
