"""The whole analysis on a phantom, with untrained weights and with scripted engines."""

import pickle
import re
import threading
from dataclasses import replace
from pathlib import PurePath

import numpy as np
import pytest
from tests.phantoms.acquire import Acquisition
from tests.phantoms.files import write_nifti

from lesionlens.base.errors import (
    CancelledError,
    ReadError,
    UnusableInputError,
)
from lesionlens.base.labels import Label, MrSequence, Region
from lesionlens.base.records.prediction import EngineInfo, Prediction
from lesionlens.base.run_context import RunContext
from lesionlens.imaging.reading.open import open_study
from lesionlens.results.export.tables import findings_file
from lesionlens.results.lens import Lens
from lesionlens.results.result import Result
from lesionlens.results.review.reopen import read_result

pytestmark = pytest.mark.usefixtures("coarse")


class Scripted:
    """Calls every bright voxel of FLAIR a tumour; no attention, no variants."""

    info = EngineInfo("scripted", "1", "0" * 64)

    def predict(self, prepared, *, context):
        flair = prepared.channels[3]
        bright = (flair > np.percentile(flair[prepared.brain], 98)) & prepared.brain
        maps = {region: np.where(bright, 0.9, 0.05).astype(np.float32) for region in Region}
        return Prediction(maps, self.info)


@pytest.fixture(scope="module")
def lens(random_weights):
    return Lens("cpu", weights=random_weights)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, patient):
    """The phantom as it is drawn."""
    place = tmp_path_factory.mktemp("lens") / "study"
    write_nifti(patient, place)
    return place


@pytest.fixture(scope="module")
def scripted(folder):
    return Lens(engine=Scripted())(open_study(folder))


@pytest.fixture(scope="module")
def result(lens, folder):
    return lens(open_study(folder))


def test_a_scripted_engine_finds_the_phantoms_lesion_on_its_side(scripted, patient):
    result = scripted
    truth = patient.labels.grid.to_mm(np.argwhere(patient.labels.data > 0)).mean(0)
    first = result.candidates[0]
    np.testing.assert_allclose(first.centroid_mm, truth, atol=6)
    assert first.location.side == "left"
    assert first.score == pytest.approx(0.9, abs=0.01)
    assert first.sequence_relevance is None
    assert first.uncertainty is None
    assert first.attention.peak_inside is None
    assert not result.attention
    notices = " ".join(result.analysis.run.notices)
    assert "no attention map" in notices
    assert "contribution of each sequence" in notices
    assert "estimates no uncertainty" in notices


def test_the_uncertainty_of_an_engine_without_perturbations_is_its_own(folder):
    class Unsure(Scripted):
        def predict(self, prepared, *, context):
            found = super().predict(prepared, context=context)
            flagged = found.probability[Region.WT] > 0.5
            return replace(found, uncertainty=np.where(flagged, 0.25, 0.0).astype(np.float32))

    result = Lens(engine=Unsure())(open_study(folder))
    labels = result.analysis.volumes.labels.data > 0
    uncertainty = result.analysis.volumes.uncertainty
    assert uncertainty.grid.matches(result.analysis.volumes.labels.grid)
    assert uncertainty.data[labels].mean() == pytest.approx(0.25, abs=0.03)
    assert result.candidates[0].uncertainty == pytest.approx(0.25, abs=0.03)
    assert "estimates no uncertainty" not in " ".join(result.analysis.run.notices)


def test_figures_are_those_of_the_files_before_they_are_rounded_again(scripted):
    rows = findings_file(scripted.analysis).candidates
    assert tuple(row.candidate for row in rows) == scripted.candidates


@pytest.mark.parametrize("orientation", ["LPS", "SRP", "AIL"])
def test_the_lesion_stays_where_it_is_however_the_file_is_stored(scripted, make_study, orientation):
    study = open_study(make_study(orientation=orientation))
    found, plain = Lens(engine=Scripted())(study).candidates[0], scripted.candidates[0]
    np.testing.assert_allclose(found.centroid_mm, plain.centroid_mm, atol=1)
    assert found.volume_ml[Region.WT] == pytest.approx(plain.volume_ml[Region.WT], rel=0.1)
    assert found.location == plain.location


def test_a_second_run_of_a_registered_study_names_its_candidates_alike(make_study):
    how = {"flair": Acquisition("LPS", (4, 4, 6), tilt_deg=6)}
    study = open_study(make_study(sequences={"t1c", "flair"}, how=how))
    first, second = (Lens(engine=Scripted())(study) for _ in range(2))
    assert any(step.done for step in first.analysis.prepared.steps)
    assert [c.tracking_uid for c in second.candidates] == [c.tracking_uid for c in first.candidates]
    np.testing.assert_array_equal(second.labels.data, first.labels.data)


def test_a_study_of_which_a_file_is_replaced_meanwhile_is_refused(make_study):
    """Another patient's images, or name, would be in the result."""

    class Meanwhile(Scripted):
        def predict(self, prepared, *, context):
            with study.series[MrSequence.FLAIR].files[0].path.open("ab") as file:
                file.write(b"\0")
            return super().predict(prepared, context=context)

    study = open_study(make_study())
    with pytest.raises(ReadError, match=r"nother program changed .*flair"):
        Lens(engine=Meanwhile())(study)


def test_without_t1c_no_engine_finds_enhancing_tumour(make_study):
    result = Lens(engine=Scripted())(open_study(make_study(sequences={"flair", "t2"})))
    assert set(result.probability) == {"wt", "tc"}
    assert set(np.unique(result.labels.data)) == {0, Label.CORE}
    assert result.candidates[0].volume_ml[Region.ET] is None
    assert not any("may enhance" in notice for notice in result.analysis.run.notices)
    assert any("the core is uncertain" in one for one in result.analysis.findings.notices)


def test_results_lie_on_the_references_grid(lens, make_study):
    study = open_study(make_study(sequences={"flair", "t2"}, spacing_mm=(4, 4, 6)))
    result = lens(study)
    grid = study.series["flair"].grid
    for volume in (result.labels, *result.probability.values(), *result.attention.values()):
        assert volume.grid.matches(grid)
    assert result.labels.data.dtype == np.uint8
    assert set(result.attention) == set(result.probability) == {"wt", "tc"}  # there is no T1c
    for maps in (result.attention, result.probability):
        for volume in maps.values():
            assert volume.data.dtype == np.float32
            assert volume.data.min() >= 0
            assert volume.data.max() <= 1
    assert (result.labels.data > 0).sum() == (result.analysis.findings.components > 0).sum()


def test_the_run_says_how_it_was_made(result):
    run = result.analysis.run
    assert {"network", "native grid", "candidates", "measurements"} <= {s.name for s in run.stages}
    assert all(s.seconds >= 0 for s in run.stages)
    assert [name for name, _ in run.inputs] == [
        "flair.nii.gz",
        "t1.nii.gz",
        "t1c.nii.gz",
        "t2.nii.gz",
    ]
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for _, digest in run.inputs)
    assert re.fullmatch("[0-9a-f]{64}", run.engine.weights_sha256)
    assert {"torch", "numpy", "python"} <= set(run.versions)
    assert run.device.startswith("cpu")


def test_maps_are_those_of_its_files(result, tmp_path):
    """Measured on other values, the peak of a redrawn outline moved when it was reopened."""
    result.save(tmp_path / "out")
    fresh = result.analysis.volumes
    stored = read_result(tmp_path / "out").volumes
    assert fresh.probability
    assert fresh.attention
    for kind in ("probability", "attention"):
        for region, volume in getattr(fresh, kind).items():
            np.testing.assert_array_equal(volume.data, getattr(stored, kind)[region].data)
    assert fresh.uncertainty is not None
    np.testing.assert_array_equal(fresh.uncertainty.data, stored.uncertainty.data)


@pytest.mark.parametrize(
    "how", [{}, {"orientation": "LPS", "spacing_mm": (4, 4, 6), "tilt_deg": 6}]
)
def test_prompts_are_answered_alike_after_a_result_was_saved_and_opened_again(
    make_study, tmp_path, how
):
    """Opened again, as from a list that was analysed ahead, the analysis counted for nothing: a
    first outline had a hundredth of the voxels, or another place altogether.
    """
    study = make_study(**how)
    fresh = Lens(engine=Scripted())(open_study(study))
    fresh.save(tmp_path / "out")
    again = Result.open(tmp_path / "out", study)
    there = [tuple(v) for v in np.argwhere(fresh.labels.data > 0)[[0, 40, -1]].tolist()]
    for kind in ({}, {"region": "wt"}, {"start": fresh.labels.data > 0, "region": "tc"}):
        found, same = (one.prompt([(there[1], True), (there[2], False)], **kind)
                       for one in (fresh, again))  # fmt: skip
        np.testing.assert_array_equal(found.data, same.data)
        np.testing.assert_array_equal(found.attention.data, same.attention.data)
    copied = pickle.loads(pickle.dumps(again))
    found, same = (one.prompt([(there[1], True)]) for one in (again, copied))
    np.testing.assert_array_equal(found.data, same.data)


def test_a_lens_is_sent_to_another_process(lens):
    """multiprocessing ended in "cannot pickle '_thread.lock' object"."""
    sent = pickle.loads(pickle.dumps(lens))
    assert sent.engine.info == lens.engine.info
    assert sent.engine is not lens.engine
    own = pickle.loads(pickle.dumps(Lens(engine=Scripted())))
    assert isinstance(own.engine, Scripted)


def test_a_probe_answers_and_a_reopened_result_says_why_it_cannot(result):
    middle = tuple(int(n) // 2 for n in result.labels.data.shape)
    answer = result.probe(voxel=middle)
    assert answer.data.shape == result.labels.data.shape
    assert answer.data.max() == pytest.approx(1, abs=0.2)
    with pytest.raises(UnusableInputError, match="Analyse the study again"):
        type(result)(result.analysis).probe(middle)


def test_it_stops_when_asked(lens, make_study):
    study, stop = open_study(make_study()), threading.Event()

    def progress(stage, fraction):
        if stage == "network":
            stop.set()

    with pytest.raises(CancelledError):
        lens(study, context=RunContext(progress=progress, cancel=stop))


@pytest.mark.parametrize("given", [None, "study", PurePath("study"), []], ids=repr)
def test_what_is_no_study_is_refused_with_the_next_step(given):
    with pytest.raises(UnusableInputError, match="open_study"):
        Lens(engine=Scripted())(given)


def test_impossible_wishes_are_refused():
    with pytest.raises(UnusableInputError):
        Lens("cpu", engine="no-such-engine")
    with pytest.raises(UnusableInputError):
        Lens("cpu", weights="a", bundle="b")
