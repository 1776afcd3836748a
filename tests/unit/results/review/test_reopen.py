"""A result opened next day is the one that was closed."""

import gzip
import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from tests.phantoms.acquire import Acquisition
from tests.phantoms.analysis import make_reviewed, write_study

from lesionlens.base.errors import ReadError
from lesionlens.base.labels import MrSequence, Region, ReviewState
from lesionlens.base.records.attention import SequenceEvidence
from lesionlens.base.records.export import ExportOptions
from lesionlens.base.records.files import read_run_file
from lesionlens.base.records.findings import Considered, Location
from lesionlens.base.records.review import Outline
from lesionlens.base.records.study import PreparationStep, StepName
from lesionlens.base.run_context import RunContext
from lesionlens.results.export.exporter import save
from lesionlens.results.export.nifti import STEPS
from lesionlens.results.export.tables import findings_json
from lesionlens.results.review.log import ReviewLog
from lesionlens.results.review.pairing import paired
from lesionlens.results.review.reopen import (
    prepare_and_reopen,
    read_result,
    reopen,
    reopen_folder,
    result_folder,
)
from lesionlens.testing import make_patient

BOTH = (MrSequence.T1C, MrSequence.FLAIR)


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    """An analysis with a review, and the folder it was saved to."""
    folder = tmp_path_factory.mktemp("closed")
    analysis = make_reviewed(folder / "study", BOTH, "PIR")
    save(analysis, folder / "out")
    return analysis, folder / "out"


def test_everything_is_as_it_was(closed):
    analysis, folder = closed
    again = reopen(read_result(folder), analysis.study, analysis.prepared)
    assert findings_json(again) == findings_json(analysis)
    assert again.review == analysis.review
    np.testing.assert_array_equal(again.findings.components, analysis.findings.components)
    np.testing.assert_array_equal(again.volumes.labels.data, analysis.volumes.labels.data)
    for kind in ("probability", "attention"):
        for region, volume in getattr(analysis.volumes, kind).items():
            kept = getattr(again.volumes, kind)[region].data
            np.testing.assert_allclose(kept, volume.data, rtol=0, atol=0.5001 / STEPS)
    assert again.maps.method == analysis.maps.method
    assert again.maps.raw_range == dict(analysis.maps.raw_range)
    assert again.maps.checks == analysis.maps.checks != {}
    assert again.run.inputs == analysis.run.inputs


def test_what_was_saved_of_evidence_comes_back_and_stays_when_saved_again(closed, tmp_path):
    analysis, _ = closed
    grid = analysis.prepared.working
    share = np.full(grid.shape, 0.25, np.float32)
    evidence = SequenceEvidence({MrSequence.T1C: share}, share * 2, grid)
    below = Considered(0.07, Location("left", "insula"), (1, 2, 3), (1, 2, 4), 0.4)
    analysis = replace(
        analysis,
        volumes=replace(analysis.volumes, evidence=evidence),
        findings=replace(analysis.findings, considered=(below,)),
        options=ExportOptions(evidence=True),
    )
    save(analysis, tmp_path / "first")
    once = reopen(read_result(tmp_path / "first"), analysis.study, analysis.prepared)
    save(once, tmp_path / "first")
    again = reopen(read_result(tmp_path / "first"), analysis.study, analysis.prepared)
    np.testing.assert_array_equal(again.volumes.evidence.shares[MrSequence.T1C], share)
    np.testing.assert_array_equal(again.volumes.evidence.base, share * 2)
    (one,) = again.findings.considered
    assert (one.location.text, one.score, one.peak_mm) == ("left insula", 0.07, (1, 2, 4))
    assert one.voxels.shape == (0, 3)


def test_maps_return_to_the_working_grid(closed):
    analysis, folder = closed
    again = reopen(read_result(folder), analysis.study, analysis.prepared)
    assert set(again.maps.maps) == set(analysis.maps.maps) == set(Region)
    for region, wanted in analysis.maps.maps.items():
        found = again.maps.maps[region]
        assert found.shape == wanted.shape
        peak = np.unravel_index(wanted.argmax(), wanted.shape)
        assert found[peak] > 0.6 * wanted.max()


def test_a_review_goes_on_after_reopening(closed, tmp_path):
    analysis, folder = closed
    again = reopen(read_result(folder), analysis.study, analysis.prepared)
    log = ReviewLog(again.review)
    log.undo()
    save(replace(again, review=log.review), tmp_path / "again")
    third = read_result(tmp_path / "again")
    uid = analysis.findings.candidates[1].tracking_uid
    assert third.review.state_of(uid) is ReviewState.UNREVIEWED
    assert len(third.review.events) == 2


def test_an_edited_outline_comes_back_and_can_still_be_taken_back(closed, tmp_path):
    analysis, _ = closed
    candidate = analysis.findings.candidates[0]
    mine = analysis.findings.components == candidate.id
    half = np.where(mine, analysis.volumes.labels.data, 0).astype(np.uint8)
    half[:, : round(float(np.argwhere(mine)[:, 1].mean()))] = 0
    log = ReviewLog(analysis.review)
    outline = Outline(candidate.tracking_uid, (0, 0, 0), half)
    log.decide(candidate.tracking_uid, ReviewState.EDITED, outline=outline)
    save(replace(analysis, review=log.review), tmp_path / "out")
    written = nib.load(tmp_path / "out" / "candidates.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj) == candidate.id, half > 0)
    again = reopen(read_result(tmp_path / "out"), analysis.study, analysis.prepared)
    edited = again.findings.candidates[0]
    assert edited.volume_ml[Region.WT] < 0.8 * candidate.volume_ml[Region.WT]
    table = json.loads((tmp_path / "out" / "findings.json").read_text())["candidates"][0]
    assert table["review"]["state"] == "edited"
    assert table["volume_ml"]["wt"] == pytest.approx(edited.volume_ml[Region.WT], abs=1e-3)
    assert again.original is not None
    assert again.original.findings.candidates == read_result(closed[1]).findings.candidates
    log = ReviewLog(again.review)
    log.undo()
    save(replace(again, review=log.review), tmp_path / "out")
    assert not (tmp_path / "out" / "review_edits" / "original").exists()
    back = reopen(read_result(tmp_path / "out"), analysis.study, analysis.prepared)
    np.testing.assert_array_equal(back.findings.components, analysis.findings.components)
    assert any("was redrawn by a reader" in one for one in again.warnings)
    said = json.loads((tmp_path / "out" / "findings.json").read_text())["warnings"]
    assert said == list(analysis.warnings), "it went on to be called redrawn"


def test_another_study_is_refused(closed, tmp_path):
    analysis, folder = closed
    saved = read_result(folder)
    assert paired(saved, analysis.study) is analysis.study
    patient = make_patient(seed=1, spacing_mm=4.0)
    other = write_study(patient, tmp_path / "a", sequences=BOTH, how=Acquisition("PIR"))
    with pytest.raises(
        ReadError, match="T1c and FLAIR differ, in image or header, from those that were analysed"
    ):
        paired(saved, other)
    turned = write_study(patient, tmp_path / "b", sequences=BOTH)
    with pytest.raises(ReadError, match="T1c and FLAIR differ"):
        paired(saved, turned)
    less = write_study(patient, tmp_path / "c", sequences=(MrSequence.FLAIR,))
    with pytest.raises(ReadError, match="no T1c"):
        paired(saved, less)
    with pytest.raises(ReadError, match="a different study"):
        reopen(saved, other, analysis.prepared)
    stages: list[str] = []
    with pytest.raises(ReadError, match="a different study"):
        prepare_and_reopen(folder, other, RunContext(lambda stage, _: stages.append(stage)))
    assert stages == []  # nothing is prepared before that


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("findings.json", b"{"),
        ("findings.json", b'{"schema": "lesionlens/findings/2"}'),
        ("run.json", b"\xff"),
        ("segmentation.nii.gz", b"earlier segmentation"),
        ("segmentation.nii.gz", gzip.compress(b"short", mtime=0)),
        ("candidates.nii.gz", None),
    ],
    ids=["cut", "other-schema", "not-text", "not-gzip", "too-short", "gone"],
)
def test_a_damaged_result_is_named(closed, tmp_path, name, content):
    analysis, _ = closed
    save(analysis, tmp_path / "out")
    (tmp_path / "out" / name).unlink()
    if content is not None:
        (tmp_path / "out" / name).write_bytes(content)
    with pytest.raises(ReadError, match=name.replace(".", r"\.")):
        read_result(tmp_path / "out")


def test_a_result_is_named_by_its_folder_or_by_its_findings(closed, tmp_path):
    analysis, folder = closed
    again = reopen_folder(folder / "findings.json", analysis.study, analysis.prepared)
    assert findings_json(again) == findings_json(analysis)
    assert result_folder(tmp_path / "findings.json") == tmp_path / "findings.json"


def test_an_export_states_the_preparation_of_the_analysis_not_that_of_reopening(closed, tmp_path):
    analysis, _ = closed
    corrected = PreparationStep(StepName.BIAS, MrSequence.T1C, done=True, message="shading removed")
    with_bias = replace(analysis, prepared=replace(analysis.prepared, steps=(corrected,)))
    save(with_bias, tmp_path / "first")
    again = reopen(read_result(tmp_path / "first"), analysis.study, analysis.prepared)
    save(again, tmp_path / "again")
    assert read_run_file(tmp_path / "again").preparation == (corrected,)


def test_a_result_is_prepared_without_checking_again_and_keeps_what_was_found(closed):
    analysis, folder = closed
    stages: list[str] = []
    context = RunContext(progress=lambda stage, _: stages.append(stage))
    again = prepare_and_reopen(folder, analysis.study, context)
    assert again.prepared.quality == read_result(folder).findings.quality
    assert "resample" in stages
    assert "check quality" not in stages
