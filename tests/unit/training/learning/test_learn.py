"""From signed reviews to a proposal, with the smallest network."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
import sys
from contextlib import closing, nullcontext
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComprehensiveSRStorage, ExplicitVRLittleEndian
from tests.helpers.json_files import edited_json
from tests.helpers.stored_decisions import autosave_like_earlier_release
from tests.phantoms.analysis import make_analysis, write_study
from tests.unit.training.runs import small_recipe
from typer.testing import CliRunner

from lesionlens.base.errors import (
    CancelledError,
    ConfigError,
    UnusableInputError,
    WeightsError,
)
from lesionlens.base.files import user_folders
from lesionlens.base.files.folder_lock import folder_lock
from lesionlens.base.geometry import apply
from lesionlens.base.labels import (
    ComputePrecision,
    DrawingMethod,
    Phase,
    PromptKind,
    Region,
    ReviewAct,
    ReviewState,
)
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.followup import Alignment, Comparison
from lesionlens.base.records.prediction import EngineInfo
from lesionlens.base.records.prompts import PromptRound
from lesionlens.base.records.review import (
    WHOLE_STUDY,
    Outline,
    Review,
    ReviewEvent,
    UnaidedMark,
    UnaidedRead,
)
from lesionlens.base.records.study import PreparationStep, StepName
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.cli.main import app
from lesionlens.engines.engine_choice import EngineChoice
from lesionlens.engines.testing.simple import Lesion, make_patient
from lesionlens.imaging.reading.readers import open_study
from lesionlens.network import weights
from lesionlens.network.versions import Lineage, WeightsStore
from lesionlens.results.export.exporter import save
from lesionlens.results.review import store as store_module
from lesionlens.results.review.log import ReviewLog, new_tracking_uid
from lesionlens.results.review.outline_digests import outlines_of
from lesionlens.results.review.reopen import read_result
from lesionlens.site.database.records import ReadKey, Status, StudyEntry, StudyOutcome
from lesionlens.site.database.worklist_database import open_worklist_database
from lesionlens.site.worklist.read_session import ReadSession
from lesionlens.training.config import parse_config
from lesionlens.training.learning import held_out, signed_reviews
from lesionlens.training.learning.held_out import ScoredWeights
from lesionlens.training.learning.learn import BEGUN, LearnJob, _score_both, cautions, learn
from lesionlens.training.learning.page import html
from lesionlens.training.learning.proposal import MetricChange, digests, read_proposal
from lesionlens.training.learning.signed_reviews import gather
from lesionlens.training.references import refuse_marks

pytestmark = pytest.mark.usefixtures("coarse")
LEFT, RIGHT = Lesion((-28.0, 8.0, 26.0), 20.0), Lesion((30.0, -30.0, 20.0), 12.0)
RECIPE = parse_config({
    "network": "tiny",
    "validation_volumes": 0,
    "data": {"workers": 0, "drawn_share": 0.4, "drawn_kept": 1, "paintings": 1, "held_out": 0.34},
    "optimiser": {"warmup": 2},
    "stages": [{"steps": 3, "shape": [32, 40, 32], "spacing_mm": [5.0, 5.0], "batch": 1}],
})  # fmt: skip


def reviewed(place, name, seed, decide, sha256):
    """Write a study and its result, reviewed by `decide(log, candidates)`."""
    patient = make_patient(seed, spacing_mm=4.0, lesions=(LEFT, RIGHT))
    study = write_study(patient, place / "studies" / name)
    analysis = make_analysis(patient, study)
    log = ReviewLog()
    decide(log, analysis.findings.candidates)
    engine = analysis.run.engine
    about = EngineInfo(
        "lens", engine.version, sha256, engine.capabilities, engine.device, engine.calibrated,
        precision=ComputePrecision.FLOAT32,
    )  # fmt: skip
    now = {"lesionlens": version("lesionlens")}
    run = dataclasses.replace(analysis.run, engine=about, versions=now)
    save(dataclasses.replace(analysis, run=run, review=log.review), place / "results" / name)


def sign(log):
    log.decide(WHOLE_STUDY, ReviewState.ACCEPTED, reader="A. Reader", reason="nothing further")


def decide_all(state):
    def decide(log, candidates):
        for one in candidates:
            log.decide(one.tracking_uid, state, reader="A. Reader")
        sign(log)

    return decide


def edit_and_add(log, candidates):
    first, second = candidates
    drawn = Outline(first.tracking_uid, (3, 4, 5), np.full((2, 2, 2), 3, np.uint8))
    pointed = PromptRound(PromptKind.POINT, ((3, 4, 5),), (), Region.ET, 3, 2.5)
    log.decide(first.tracking_uid, ReviewState.EDITED, outline=drawn, prompts=(pointed,))
    log.decide(second.tracking_uid, ReviewState.REJECTED)
    own = Outline(new_tracking_uid(), (9, 9, 9), np.full((3, 3, 3), 2, np.uint8))
    log.add(own, DrawingMethod.MANUAL, reader="A. Reader")
    sign(log)


def unsigned(log, candidates):
    log.decide(candidates[0].tracking_uid, ReviewState.ACCEPTED)


@pytest.fixture(scope="module")
def digest(random_weights):
    return hashlib.sha256(random_weights.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def reviews(tmp_path_factory, digest):
    """Four studies; one is not signed."""
    place = tmp_path_factory.mktemp("learn")
    accept_all, reject_all = map(decide_all, (ReviewState.ACCEPTED, ReviewState.REJECTED))
    acts = {"a": accept_all, "b": edit_and_add, "c": reject_all, "d": unsigned}
    for seed, (name, act) in enumerate(acts.items()):
        reviewed(place, name, seed, act, digest)
    return place


@pytest.fixture
def store(tmp_path, monkeypatch):
    place = tmp_path / "data"
    monkeypatch.setattr(user_folders, "data", lambda: place)
    return WeightsStore()


def job(place, out, random_weights, **how):
    return LearnJob(place / "results", place / "studies", out, RECIPE, start=str(random_weights),
                    synthetic_volumes=2, **how)  # fmt: skip


def test_steps_with_a_recipe_are_refused(tmp_path):
    asked = ["learn", str(tmp_path), "--recipe", "mixed", "--steps", "5", "--out", "out"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 2
    assert "--steps together with --recipe" in done.stderr


def test_signed_reviews_are_counted_and_the_rest_is_named(reviews, digest):
    found = gather(reviews / "results", reviews / "studies")
    assert [one.case.name for one in found.reviews] == ["a", "b", "c"]
    assert found.counts == {
        "accepted": 2, "edited": 1, "added": 1, "rejected": 3, "nothing seen": 1,
        "outlined by prompts": 1,
    }  # fmt: skip
    assert found.left_out == (("d", "not signed"),)
    assert [one.drawn_by_weights for one in found.reviews] == [True, False, False]
    assert {one.weights_sha256 for one in found.reviews} == {digest}
    labels, _ = found.reviews[1].case.reference()
    assert (np.count_nonzero(labels == 3), np.count_nonzero(labels == 2)) == (8, 27)
    assert not found.reviews[2].case.reference()[0].any()


@pytest.mark.parametrize(("later", "pointed"), [("brush", 1), ("split", 2), ("undo", 0)])
def test_what_prompts_outlined_counts_as_that_after_a_later_brush_and_split(
    tmp_path, digest, later, pointed
):
    """The brush's outline is another one, without prompts: none was counted."""

    def decide(log, candidates):
        first, second = (one.tracking_uid for one in candidates)
        drawn = Outline(first, (3, 4, 5), np.full((2, 2, 2), 3, np.uint8))
        half = Outline(first, (3, 4, 5), np.full((1, 2, 2), 3, np.uint8))
        rest = Outline(new_tracking_uid(), (4, 4, 5), np.full((1, 2, 2), 3, np.uint8))
        prompt = PromptRound(PromptKind.POINT, ((3, 4, 5),), (), Region.ET, 3, 2.5)
        log.decide(first, ReviewState.EDITED, outline=drawn, prompts=(prompt,))
        if later == "undo":
            log.undo()
        if later == "split":
            with log.one_act():
                log.decide(first, ReviewState.EDITED, outline=half)
                log.add(rest, DrawingMethod.MANUAL)
        else:
            log.decide(first, ReviewState.EDITED, outline=half)
        log.decide(second, ReviewState.REJECTED)
        sign(log)

    for name in "ab":
        reviewed(tmp_path, name, 0, decide, digest)
    found = gather(tmp_path / "results", tmp_path / "studies")
    assert [one.counts["outlined by prompts"] for one in found.reviews] == [pointed] * 2


@pytest.mark.parametrize("source", ["added", "flagged"])
def test_what_prompts_outlined_counts_as_that_after_a_merge_and_what_was_merged_is_none_added(
    tmp_path, digest, source
):
    """The lesion that is no more was counted, as added too, and the one that holds it was not."""

    def decide(log, candidates):
        first, second = (one.tracking_uid for one in candidates)
        prompt = PromptRound(PromptKind.POINT, ((3, 4, 5),), (), Region.ET, 3, 2.5)
        gone = new_tracking_uid() if source == "added" else second
        drawn = Outline(gone, (3, 4, 5), np.full((2, 2, 2), 3, np.uint8))
        if source == "added":
            log.decide(second, ReviewState.REJECTED)
            log.add(drawn, DrawingMethod.SEMIAUTOMATIC, prompts=(prompt,))
        else:
            log.decide(gone, ReviewState.EDITED, outline=drawn, prompts=(prompt,))
        both = Outline(first, (3, 4, 5), np.full((3, 2, 2), 3, np.uint8))
        with log.one_act():
            log.decide(first, ReviewState.EDITED, outline=both)
            log.decide(gone, ReviewState.EDITED, outline=Outline.empty(gone))
        log.decide(first, ReviewState.EDITED, outline=both, prompts=(prompt,))
        sign(log)

    reviewed(tmp_path, "a", 0, decide, digest)
    found = gather(tmp_path / "results", tmp_path / "studies")
    assert (found.counts["added"], found.counts["outlined by prompts"]) == (0, 1)
    assert found.counts["edited"] == 1  # two flagged that were merged were two edited ones


def test_a_result_that_cannot_be_read_is_left_out_by_name(reviews, tmp_path):
    results = shutil.copytree(reviews / "results", tmp_path / "results")
    findings = results / "a" / "findings.json"
    findings.write_text(findings.read_text() + " ")
    found = gather(results, reviews / "studies")
    assert [one.case.name for one in found.reviews] == ["b", "c"]
    assert "changed since: findings.json" in dict(found.left_out)["a"]


def test_studies_that_are_elsewhere_are_named_as_the_reason(reviews, tmp_path):
    with pytest.raises(
        UnusableInputError, match=r"a is not used: no study 'a' in 'nothere'"
    ) as caught:
        gather(reviews / "results", tmp_path / "nothere")
    assert "Name the right folder with --studies" in caught.value.next_step, "all are signed"
    for studies in (None, reviews / "studies"):
        with pytest.raises(ConfigError, match="no folder 'nothere'"):
            gather(tmp_path / "nothere", studies)


def test_a_row_of_patients_that_fits_no_result_is_named(reviews, tmp_path):
    shutil.copytree(reviews / "results", tmp_path / "results")
    (tmp_path / "results" / "patients.tsv").write_text("case\tpatient\na\tone\nB\tone\n")
    found = gather(tmp_path / "results", reviews / "studies")
    assert [one.case.patient for one in found.reviews] == ["one", "b", "c"]
    assert dict(found.left_out)["B"] == "patients.tsv names it, and no result has this name"


def test_examinations_that_a_list_names_as_of_one_patient_are_one_patient(reviews, tmp_path):
    """They were split by the names of their folders: one trained on, the other held out."""
    results = shutil.copytree(reviews / "results", tmp_path / "results")
    with closing(open_worklist_database(results)) as database:
        places = {name: str(reviews / "studies" / name) for name in "abc"}
        whose = {"a": "P1", "b": "P1", "c": ""}
        database.add_studies([StudyEntry(n, places[n], whose[n]) for n in "abc"])
    for studies in (None, reviews / "studies"):
        found = gather(results, studies)
        assert [one.case.patient for one in found.reviews] == ["P1", "P1", "c"]
    (results / "patients.tsv").write_text("case\tpatient\na\tone\n")
    assert [one.case.patient for one in gather(results, None).reviews] == ["one", "P1", "c"]


def test_a_patient_whose_issuer_one_header_omits_is_one_patient(reviews, tmp_path):
    """One examination could be trained on and the other held out."""
    results = shutil.copytree(reviews / "results", tmp_path / "results")
    for name, number, issuer in (("a", "P1", "HOSPITAL"), ("b", "P1", ""), ("c", "P2", "")):
        header = Dataset()
        header.PatientID, header.IssuerOfPatientID = number, issuer
        header.SOPClassUID, header.SOPInstanceUID = ComprehensiveSRStorage, "1.2.3"
        header.file_meta = FileMetaDataset()
        header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        (results / name / "dicom").mkdir()
        header.save_as(results / name / "dicom" / "sr.dcm", enforce_file_format=True)
    found = gather(results, reviews / "studies")
    assert [one.case.patient for one in found.reviews] == ["P1", "P1", "P2"]


@pytest.fixture
def own_data(tmp_path, monkeypatch):
    """The user's data folder, where napari keeps decisions."""
    place = tmp_path / "data"
    monkeypatch.setattr(user_folders, "data", lambda: place)


def test_decisions_that_napari_keeps_count_without_an_export(reviews, own_data, tmp_path):
    """The last signature counts: of the reader named, of a worklist's reader, or in the result."""
    results = tmp_path / "list"
    shutil.copytree(reviews / "results" / "d", results / "d")
    saved = read_result(results / "d")
    log = rejecting_all(saved)
    patient = make_patient(3, spacing_mm=4.0, lesions=(LEFT, RIGHT))
    analysis = make_analysis(patient, write_study(patient, tmp_path / "again"))
    mine = dataclasses.replace(analysis, run=saved.run, findings=saved.findings, review=log.review)
    autosave_like_earlier_release(mine, "B. Reader")
    with pytest.raises(UnusableInputError, match="no signed review"):
        gather(results, reviews / "studies")
    found = gather(results, reviews / "studies", ["B. Reader"])
    assert found.counts["nothing seen"] == 1
    with pytest.raises(ConfigError, match="--studies"):
        gather(results, None)
    with closing(open_worklist_database(results)) as database:
        database.add_studies([StudyEntry("d", str(reviews / "studies" / "d"))])
        database.add_acts(
            ReadKey("d", "B. Reader"),
            [
                ReviewEvent(
                    WHOLE_STUDY,
                    ReviewState.UNREVIEWED,
                    None,
                    "2026-01-05T10:15:00Z",
                    act=ReviewAct.BEGIN,
                )
            ],
        )
    (listed,) = gather(results, None).reviews
    assert listed.study == reviews / "studies" / "d"
    assert not listed.case.reference()[0].any()


def keep_in_list(reviews, results, name, review):
    """Store a reader's decisions on a result in the log of a list, and nowhere else."""
    with closing(open_worklist_database(results)) as database:
        database.add_studies([StudyEntry(name, str(reviews / "studies" / name))])
        read_session = ReadSession(database, ReadKey(name, "B. Reader"))
        saved = read_result(results / name)
        read_session.continue_from(store_module.analysis_key(saved.run), Review())
        read_session.store_decisions(review)


def rejecting_all(saved):
    """Return the log of a reader who rejects all candidates of a result and signs."""
    log = ReviewLog()
    for one in saved.findings.candidates:
        log.decide(one.tracking_uid, ReviewState.REJECTED, reader="B. Reader")
    sign(log)
    return log


def rejected_in_a_list(reviews, results):
    """Copy the unsigned result into a list in which a reader rejects all and signs; return it."""
    shutil.copytree(reviews / "results" / "d", results / "d")
    saved = read_result(results / "d")
    log = rejecting_all(saved)
    keep_in_list(reviews, results, "d", log.review)
    return saved


def test_decisions_in_the_log_of_a_list_or_of_the_reader_count_without_an_export(
    reviews, own_data, tmp_path
):
    results = tmp_path / "list"
    rejected_in_a_list(reviews, results)
    assert gather(results, None).counts["nothing seen"] == 1


def marked_and_signed(results, at_mm, phase):
    """Let the reader of a list mark a position before or after the analysis is shown; sign."""
    saved = read_result(results / "d")
    with closing(open_worklist_database(results)) as database:
        key = ReadKey("d", "C. Reader")
        read_session = ReadSession(database, key, unaided_first=phase is Phase.UNAIDED)
        if phase is Phase.UNAIDED:
            read_session.mark(at_mm)
            read_session.sign()
        read_session.continue_from(store_module.analysis_key(saved.run), Review())
        if phase is Phase.AIDED:
            read_session.mark(at_mm)
        log = ReviewLog()
        for one in saved.findings.candidates:
            log.decide(one.tracking_uid, ReviewState.REJECTED, reader="C. Reader")
        log.sign("done", reader="C. Reader")
        read_session.store_decisions(log.review)
        return read_session.unaided_read()


@pytest.mark.parametrize("phase", Phase)
def test_a_lesion_that_its_reader_marked_and_did_not_outline_is_not_background(
    reviews, own_data, tmp_path, phase
):
    """It was trained as background, at the place that a signature calls a lesion."""
    for number, (at_mm, used) in enumerate([((0.0, 0.0, 60.0), False), (LEFT.centre_mm, True)]):
        results = tmp_path / f"list {number}"
        rejected_in_a_list(reviews, results)
        unaided = marked_and_signed(results, at_mm, phase)
        if used:
            assert gather(results, None).counts["nothing seen"] == 1
        else:
            with pytest.raises(
                UnusableInputError, match=r"a mark of its reader at \(0, 0, 60\) mm"
            ):
                gather(results, None)
        assert (unaided is not None) == (phase is Phase.UNAIDED)


def test_a_mark_that_travels_with_a_result_is_not_background(reviews, tmp_path):
    """As in an export, without the log."""
    saved = read_result(reviews / "results" / "a")
    mark = UnaidedMark("2.25.1", (0.0, 0.0, 60.0))
    reads = [UnaidedRead(who, "", "", 1.0, "1 mark", (mark,)) for who in ("A. Reader", "Another")]
    for read, refused in zip(reads, (True, False), strict=True):
        review = dataclasses.replace(saved.review, unaided=(read,))
        case = dataclasses.replace(saved, review=review)
        with pytest.raises(UnusableInputError, match="mark") if refused else nullcontext():
            refuse_marks(case, "a")


def test_a_mark_in_an_outline_that_a_reader_drew_is_not_refused(reviews):
    """The network's own outline is elsewhere."""
    saved = read_result(reviews / "results" / "a")
    grid, uid = saved.volumes.labels.grid, saved.findings.candidates[0].tracking_uid
    corner = Outline(uid, (0, 0, 0), np.full((2, 2, 2), 2, np.uint8))
    log = ReviewLog(saved.review)
    log.decide(uid, ReviewState.EDITED, reader="A. Reader", outline=corner)
    mark = UnaidedMark("2.25.1", tuple(apply(grid.affine, np.array([1.0, 1.0, 1.0]))))
    refuse_marks(dataclasses.replace(saved, review=log.review), "a", [mark])
    with pytest.raises(UnusableInputError, match="a mark of its reader"):
        refuse_marks(saved, "a", [mark])


def test_decisions_in_a_log_count_for_a_result_that_was_saved_with_a_comparison(
    reviews, own_data, tmp_path, monkeypatch
):
    """Its candidates have the prior's identifiers; those of the log are their own."""
    results = tmp_path / "list"
    saved = rejected_in_a_list(reviews, results)
    own = {f"2.25.{one.id}": one.tracking_uid for one in saved.findings.candidates}
    alignment = Alignment(((1.0, 0.0, 0.0, 0.0),) * 4, 0.0, 0.0, False, "T1c")
    candidates = tuple(
        dataclasses.replace(one, tracking_uid=f"2.25.{one.id}") for one in saved.findings.candidates
    )
    compared = dataclasses.replace(
        saved,
        findings=dataclasses.replace(saved.findings, candidates=candidates),
        followup=Comparison((), (), alignment, own),
    )
    monkeypatch.setattr(signed_reviews, "read_result", lambda *_, **__: compared)
    found = signed_reviews.read_signed(results / "d", ["B. Reader"])
    assert found.review.signed is not None
    states = {found.review.state_of(one.tracking_uid) for one in candidates}
    assert states == {ReviewState.REJECTED}


def keep_accepted(reviews, results):
    """Let the reader of a list accept all that is shown and sign; nothing is exported."""
    saved = read_result(results / "d")
    log = ReviewLog(outlines=lambda: outlines_of(saved))
    for one in saved.findings.candidates:
        log.decide(one.tracking_uid, ReviewState.ACCEPTED, reader="B. Reader")
    sign(log)
    keep_in_list(reviews, results, "d", log.review)


def analysed_again(reviews, results, change):
    """Replace the result of study `d` by one of the same weights with other findings."""
    saved = read_result(results / "d")
    patient = make_patient(3, spacing_mm=4.0, lesions=(LEFT, RIGHT))
    analysis = make_analysis(patient, open_study(reviews / "studies" / "d"))
    findings, labels = change(saved.findings, saved.volumes.labels.data.copy())
    volumes = dataclasses.replace(
        analysis.volumes, labels=Volume(labels, saved.volumes.labels.grid)
    )
    again = dataclasses.replace(analysis, run=saved.run, findings=findings, volumes=volumes)
    save(again, results / "d")


def one_less(findings, labels):
    """The second candidate is not found any more."""
    gone = findings.components == 2
    labels[gone] = 0
    return dataclasses.replace(
        findings,
        candidates=findings.candidates[:1],
        components=np.where(gone, 0, findings.components),
    ), labels


def parts_swapped(findings, labels):
    """Two voxels of the first candidate swap their parts."""
    mine = np.argwhere(findings.components == 1)
    kinds = labels[tuple(mine.T)]
    one, other = tuple(mine[0]), tuple(mine[np.flatnonzero(kinds != kinds[0])[0]])
    labels[one], labels[other] = labels[other], labels[one]
    return findings, labels


@pytest.mark.parametrize("change", [one_less, parts_swapped])
def test_what_a_log_says_of_other_outlines_is_no_truth(reviews, own_data, tmp_path, change):
    """Analysed again with other options, a lost lesion became background, and outlines that nobody
    had seen became truth: only what is saved in the result's folder was compared.
    """
    results = tmp_path / "list"
    shutil.copytree(reviews / "results" / "d", results / "d")
    (results / "d" / "review.json").unlink()
    keep_accepted(reviews, results)
    assert gather(results, None).counts["accepted"] == 2
    analysed_again(reviews, results, change)
    with pytest.raises(UnusableInputError, match="d is not used: signed before it was analysed"):
        gather(results, None)
    keep_accepted(reviews, results)
    (used,) = gather(results, None).reviews
    assert used.case.reference()[0].any()


def test_a_signature_that_the_log_of_a_list_withdrew_teaches_nothing(reviews, own_data, tmp_path):
    results = tmp_path / "list"
    shutil.copytree(reviews / "results" / "a", results / "a")
    saved = read_result(results / "a")
    assert saved.review.signed is not None
    log = ReviewLog(saved.review)
    log.withdraw("a second look", reader="B. Reader")
    keep_in_list(reviews, results, "a", log.review)
    with pytest.raises(UnusableInputError, match="no signed review among 1 result in"):
        gather(results, None)


def test_a_word_after_the_signature_opens_a_study_again(reviews, tmp_path):
    shutil.copytree(reviews / "results" / "a", tmp_path / "results" / "a")
    with edited_json(tmp_path / "results" / "a" / "review.json") as content:
        content["events"].append({**content["events"][0], "state": "deferred"})
    with pytest.raises(UnusableInputError, match="no signed review among 1 result in"):
        gather(tmp_path / "results", reviews / "studies")


@pytest.fixture(scope="module")
def begun(reviews, tmp_path_factory, random_weights):
    """A run that was stopped at once: cases are prepared, brains are drawn."""
    out = tmp_path_factory.mktemp("begun")
    return out, learn(job(reviews, out, random_weights), minutes=0)


def from_there(begun, out, *names):
    """Copy what was begun, or these parts of it alone: preparing takes long."""
    for name in names or [place.name for place in begun[0].iterdir()]:
        place = begun[0] / name
        (shutil.copytree if place.is_dir() else shutil.copy)(place, out / name)
    return out


@pytest.fixture(scope="module")
def learnt(reviews, begun, tmp_path_factory, random_weights):
    out = from_there(begun, tmp_path_factory.mktemp("out"))
    return out, learn(job(reviews, out, random_weights))


@pytest.mark.slow
def test_weights_are_proposed_and_compared_and_nothing_is_in_use(learnt, digest):
    out, found = learnt
    proposal = read_proposal(out)
    assert found.proposal == proposal
    assert proposal.parent.sha256 == digest != proposal.proposed.sha256
    _, info = weights.load(out / "proposed.safetensors")
    assert re.fullmatch(r"test\+tuned\.\d{8}\.\d{4}", info.version)
    assert "2 real cases of 2 patients" in info.provenance["data"]
    assert {"wt", "flagged_ml"} & {one.key for one in proposal.drawn}
    assert len(proposal.cases) == proposal.counts["held out (patients)"] == 1
    assert not set(proposal.trained_on) & set(proposal.held_out)
    assert len(proposal.trained_on) == 2
    assert WeightsStore().in_use is None
    assert any("Few held-out patients were compared: 1" in one for one in proposal.cautions)


@pytest.mark.slow
def test_what_was_reviewed_stands_for_the_weights_that_made_it(
    learnt, reviews, random_weights, monkeypatch
):
    """Nothing is analysed with the weights before: their results are there."""
    out, found = learnt
    name = found.proposal.cases[0].name
    before = out / "held_out" / "before" / name
    original = read_result(reviews / "results" / name).volumes.labels.data
    np.testing.assert_array_equal(read_result(before).volumes.labels.data, original)

    def refuse(*_):
        raise AssertionError("an analysis")

    monkeypatch.setattr(held_out, "analyse", refuse)  # a second call finds both sides complete
    again = learn(job(reviews, out, random_weights))
    assert again.proposal.patients == found.proposal.patients


@pytest.fixture
def scoring(reviews, tmp_path, random_weights, digest):
    """A scorer with an edited case, whose result the same weights made."""
    (held,) = (
        one
        for one in gather(reviews / "results", reviews / "studies").reviews
        if one.case.name == "b"
    )
    side = held_out.ScoredWeights("before", random_weights, digest)
    return (
        held_out.HeldOutScorer(reviews / "results", tmp_path / "held_out", EngineChoice()),
        [held],
        side,
    )


def copied(scoring):
    return scoring[0].folder / "before" / "b"


class Full(OSError):
    """A full disk, or any end of the process."""


def test_a_copy_that_was_cut_off_is_made_again_and_never_scored(scoring, monkeypatch):
    """A process that was killed while it copied the result left half of it."""
    scorer, held, side = scoring

    def scored():
        (score,) = scorer.score(held, side, SILENT)
        assert not score.failed
        return score.metrics

    whole = scored()
    assert not any(path.stat().st_mode & 0o077 for path in scorer.folder.rglob("*"))
    files = sorted(p.relative_to(copied(scoring)) for p in copied(scoring).rglob("*.nii.gz"))
    assert {"probability_wt.nii.gz", "review_edits/original/segmentation.nii.gz"} <= {
        file.as_posix() for file in files
    }
    for file in files:
        for harm in (Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:50])):
            harm(copied(scoring) / file)
            assert scored() == whole
    copies, real = [], shutil.copyfile

    def stop(source, target):
        copies.append(target)
        if len(copies) == 4:
            raise Full
        return real(source, target)

    shutil.rmtree(copied(scoring))
    monkeypatch.setattr(shutil, "copyfile", stop)
    with pytest.raises(Full):
        scored()
    monkeypatch.undo()
    assert scored() == whole


def test_a_result_of_replaced_files_is_not_scored(scoring, tmp_path, monkeypatch):
    """The study and its review were made anew under the same name; the weights are the same."""
    scorer, (held,), side = scoring
    shutil.copytree(held.study, tmp_path / "study")
    moved = dataclasses.replace(held, study=tmp_path / "study")
    assert not scorer.score([moved], side, SILENT)[0].failed
    analysed = []
    monkeypatch.setattr(held_out.HeldOutScorer, "_reuse", lambda *_: False)
    monkeypatch.setattr(
        held_out.HeldOutScorer, "_analyse", lambda *named: analysed.append(named[2].name)
    )
    scorer.score([moved], side, SILENT)
    assert analysed == []
    write_study(make_patient(9, spacing_mm=4.0), tmp_path / "study")
    scorer.score([moved], side, SILENT)
    assert analysed == ["b"]


def test_a_stop_while_a_case_is_analysed_scores_nothing(scoring, monkeypatch):
    scorer, held, side = scoring
    other = dataclasses.replace(side, sha256="0" * 64)
    stopped = StudyOutcome("b", Status.STOPPED, 130, "stopped")
    monkeypatch.setattr(held_out, "analyse", lambda *_: stopped)
    with pytest.raises(CancelledError):
        scorer.score(held, other, SILENT)


@pytest.mark.parametrize("other", ["precision", "brain"])
def test_a_result_that_was_computed_otherwise_does_not_stand_for_the_weights_before(
    scoring, monkeypatch, other
):
    scorer, held, side = scoring
    run = held_out.read_run_file(scorer.results / "b")
    brain = PreparationStep(
        StepName.BRAIN, None, done=True, message="hd-bet: 1300 ml.", on_request=True
    )
    change = {
        "precision": {"precision": "bfloat16"},
        "brain": {"preparation": (brain,)},
    }[other]
    monkeypatch.setattr(held_out, "read_run_file", lambda _: run.model_copy(update=change))
    analysed = []

    def analyse(job, *_):
        analysed.append(job.name)
        return StudyOutcome(job.name, Status.FAILED, 1, "no room on the disk")

    monkeypatch.setattr(held_out, "analyse", analyse)
    (score,) = scorer.score(held, side, SILENT)
    assert analysed == ["b"]
    assert score.failed
    assert score.problems[0] == "not analysed: no room on the disk"


def test_a_stored_result_of_another_precision_is_not_compared(scoring, monkeypatch):
    """The call that was interrupted ran on another device: one side was float32, one bfloat16."""
    scorer, held, side = scoring
    scorer.score(held, side, SILENT)
    run_file = copied(scoring) / "run.json"
    run_file.write_text(json.dumps(json.loads(run_file.read_text()) | {"precision": "bfloat16"}))
    analysed = []
    monkeypatch.setattr(held_out.HeldOutScorer, "_reuse", lambda *_: False)
    monkeypatch.setattr(
        held_out.HeldOutScorer, "_analyse", lambda *named: analysed.append(named[2].name)
    )
    scorer.score(held, side, SILENT)
    assert analysed == ["b"]


def test_a_failed_analysis_is_not_scored_by_an_older_result(scoring, monkeypatch):
    scorer, held, side = scoring
    scorer.score(held, side, SILENT)
    monkeypatch.setattr(
        held_out, "analyse", lambda job, *_: StudyOutcome(job.name, Status.FAILED, 1, "no memory")
    )
    (score,) = scorer.score(held, dataclasses.replace(side, sha256="0" * 64), SILENT)
    assert (score.failed, score.problems[0]) == (True, "not analysed: no memory")


@pytest.mark.slow
def test_a_held_out_case_without_a_result_is_a_caution(learnt, tmp_path, reviews, random_weights,
                                                       monkeypatch):  # fmt: skip
    out, found = learnt
    shutil.copytree(out, tmp_path / "out")
    name = found.proposal.cases[0].name
    shutil.rmtree(tmp_path / "out" / "held_out" / "after")
    monkeypatch.setattr(
        held_out, "analyse", lambda job, *_: StudyOutcome(job.name, Status.FAILED, 1, "no memory")
    )
    again = learn(job(reviews, tmp_path / "out", random_weights)).proposal
    assert again.cautions[0] == (
        f"{name} has no usable result after and is in none of the figures; the same command tries "
        "it again: not analysed: no memory"
    )
    assert again.patients == ()
    assert again.cases[0].before == found.proposal.cases[0].before
    assert again.cases[0].after == {}
    assert any("Few held-out patients were compared: 0" in one for one in again.cautions)
    assert again.drawn == found.proposal.drawn


@pytest.mark.slow
def test_a_review_withdrawn_after_training_is_named_and_its_patient_stays_trained_on(
    learnt, reviews, tmp_path, random_weights
):
    out, found = learnt
    shutil.copytree(out, tmp_path / "out")
    shutil.copytree(reviews, tmp_path / "site")
    held = found.proposal.cases[0].name
    gone = next(name for name in ("a", "b", "c") if name != held)
    shutil.rmtree(tmp_path / "site" / "results" / gone)
    later = learn(job(tmp_path / "site", tmp_path / "out", random_weights)).proposal
    assert later.trained_on == found.proposal.trained_on
    assert any("withdrawn after training" in one and gone in one for one in later.cautions)


@pytest.mark.slow
def test_the_page_shows_what_is_hostile_as_text(learnt):
    _, found = learnt
    case = found.proposal.cases[0].model_copy(update={"name": "<script>alert(1)</script>"})
    page = html(found.proposal.model_copy(update={"cases": (case,)}))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "http" not in page


def test_stopped_training_proposes_nothing_and_another_recipe_is_refused(
    reviews, begun, random_weights, tmp_path
):
    out, stopped = begun
    assert stopped.proposal is None
    other = dataclasses.replace(RECIPE, seed=7)
    with pytest.raises(ConfigError, match="started with other weights, another recipe"):
        learn(dataclasses.replace(job(reviews, out, random_weights), recipe=other))
    treated = dataclasses.replace(RECIPE, cavity=True)
    with pytest.raises(ConfigError, match="or without a resection cavity in a review"):
        learn(dataclasses.replace(job(reviews, out, random_weights), recipe=treated))
    damaged = from_there(begun, tmp_path, BEGUN)
    for content in ('{"parent_sha256": ', "[]", '{"parent_sha256": "0"}'):
        (damaged / BEGUN).write_text(content)
        with pytest.raises(ConfigError, match=r"damaged or unreadable begun\.json"):
            learn(job(reviews, damaged, random_weights))


def test_a_recipe_with_initial_weights_of_its_own_is_refused(tmp_path, random_weights):
    """Training started from other weights, without a word."""
    recipe = dataclasses.replace(RECIPE, init="mine.safetensors")
    with pytest.raises(ConfigError, match=r"init = 'mine\.safetensors'.*--weights"):
        learn(dataclasses.replace(job(tmp_path, tmp_path / "out", random_weights), recipe=recipe))
    assert not (tmp_path / "out").exists()


def test_a_recipe_that_forgets_unseen_is_refused(reviews, tmp_path, random_weights):
    bare = dataclasses.replace(RECIPE, data=dataclasses.replace(RECIPE.data, drawn_share=0.0))
    with pytest.raises(ConfigError, match="without synthetic brains"):
        learn(dataclasses.replace(job(reviews, tmp_path, random_weights), recipe=bare))


def test_stopped_training_goes_on_and_a_request_to_stop_is_heard_while_scoring(
    reviews, begun, tmp_path, random_weights
):
    class Late:
        def __init__(self):
            self.now = False

        def is_set(self):
            return self.now

    cancel = Late()

    def report(stage, fraction):
        cancel.now = stage.startswith("before")

    from_there(begun, tmp_path)
    with pytest.raises(CancelledError):
        learn(
            job(reviews, tmp_path, random_weights),
            context=RunContext(progress=report, cancel=cancel),
        )
    assert not (tmp_path / "proposal.json").exists()


def test_patients_trained_on_never_judge_later_weights(
    reviews, begun, tmp_path, random_weights, store
):
    """Patient c judged when v1 learnt, and judges again; a and b never do, though a once did.

    So also if an earlier run in the folder split the patients when b alone was signed.
    """
    line = Lineage("test+tuned.20260105", "0" * 64, digests(["a", "b"]), digests(["a", "c"]))
    store.accept(random_weights, line, by="A. Reader")
    first, second = (tmp_path / name for name in ("first", "second"))
    for out in (first, second):
        out.mkdir()
        from_there(begun, out, "cases")
        if out == second:
            shutil.copy(first / "begun.json", second)
            (second / "split.json").write_text('{"training": {"b": []}, "validation": {}}')
        learn(dataclasses.replace(job(reviews, out, "v1")), minutes=0)
        split = json.loads((out / "split.json").read_text())
        assert (set(split["training"]), set(split["validation"])) == ({"a", "b"}, {"c"})


def test_a_proposal_whose_weights_were_changed_cannot_be_accepted(tmp_path):
    with pytest.raises(UnusableInputError, match=r"no readable proposal\.json"):
        read_proposal(tmp_path)


@pytest.mark.slow
def test_changed_weights_are_not_those_that_were_compared(learnt, tmp_path):
    out, _ = learnt
    for name in ("proposal.json", "proposed.safetensors"):
        shutil.copy(out / name, tmp_path / name)
    place = tmp_path / "proposed.safetensors"
    place.write_bytes(place.read_bytes() + b"x")
    with pytest.raises(WeightsError, match="missing or not the file that was compared"):
        read_proposal(tmp_path)


def figure(better, before, after, interval, title="Dice"):
    return MetricChange(title=title, better=better, key="k", cases=5, before=before, after=after,
                    interval=interval)  # fmt: skip


def test_cautions_name_what_is_surely_worse_and_what_was_likely_forgotten():
    worse = figure(1, 0.8, 0.7, (-0.15, -0.05))
    better = figure(1, 0.7, 0.8, (0.05, 0.15))
    more_false = figure(-1, 0.1, 0.6, (0.2, 0.8), "false candidates")
    wide = figure(1, 0.8, 0.77, (-0.09, 0.03))
    assert cautions((worse, better, more_false), (wide,), [], "")[:3] == (
        "Dice: significantly worse on held-out patients",
        "false candidates: significantly worse on held-out patients",
        "Dice: 0.030 lower on synthetic brains, but not significantly",
    )
    assert [x for x in cautions((better,), (better,), [], "") if "worse" in x] == []


def test_cautions_name_held_out_cases_that_the_weights_before_were_trained_on():
    known = "trained on held-out cases, which favours them: case 7, case 9"
    assert any(known in one for one in cautions((), (), [], "", ("case 7", "case 9")))
    assert not any("were trained on" in one for one in cautions((), (), [], ""))


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no locks there")
def test_two_calls_do_not_score_into_one_folder(tmp_path):
    """One removed the result that the other was writing."""
    job = LearnJob(tmp_path / "results", None, tmp_path / "out")
    sides = [ScoredWeights(name, tmp_path / name, "") for name in ("before", "after")]
    (job.out / "held_out").mkdir(parents=True)
    with (
        folder_lock(job.out / "held_out"),
        pytest.raises(UnusableInputError, match="scores in 'out'"),
    ):
        _score_both(job, small_recipe(1, 6.0), [], sides, SILENT)
