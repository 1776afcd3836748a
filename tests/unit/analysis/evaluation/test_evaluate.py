"""Evaluation of result folders."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from tests.helpers.json_files import edited_json
from tests.phantoms.analysis import make_analysis, write_study

from lesionlens.analysis.evaluation.cases import find_cases
from lesionlens.analysis.evaluation.evaluate import evaluate
from lesionlens.analysis.evaluation.metrics import candidate_hits
from lesionlens.analysis.evaluation.score_case import score_case
from lesionlens.analysis.evaluation.summary import CaseScore, froc_curve, summarise
from lesionlens.base.errors import ConfigError, UnusableInputError
from lesionlens.base.grid import Grid
from lesionlens.base.labels import DrawingMethod, ReviewState
from lesionlens.base.provenance import sha256_of
from lesionlens.base.records.files import CandidateRow
from lesionlens.base.records.review import Outline, Review
from lesionlens.cli import checks
from lesionlens.cli.evaluate import evaluate as command
from lesionlens.results.export.exporter import save
from lesionlens.results.review.log import ReviewLog

from . import evaluation


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return evaluation.write_cohort(tmp_path_factory.mktemp("cohort"))


@pytest.fixture
def case(cohort, tmp_path):
    """A copy of case a, which a test may change."""
    return shutil.copytree(cohort[1] / "a", tmp_path / "cases" / "a")


def state_inputs(result, rows):
    """State in the run.json of a result of which files it was made."""
    place = result / "run.json"
    run = json.loads(place.read_text()) if place.is_file() else {}
    place.write_text(json.dumps(run | {"inputs": rows}))


@pytest.fixture(scope="module")
def scores(cohort):
    results, cases = cohort
    return {s.case: s for s in evaluate(results, find_cases(cases), lambda _: None)}


def test_a_right_answer_scores_one(scores):
    right = scores["a"].metrics
    assert right["wt"] == right["tc"] == right["et"] == right["lesion_dice_wt"] == 1
    assert right["hd95_wt"] == right["fp"] == 0
    assert right["sensitivity"] == right["point_wt"] == right["lesion_f1_wt"] == 1
    assert right["ece"] < 0.01


def test_a_missed_lesion_and_a_false_candidate_count(scores):
    half = scores["b"].metrics
    assert 0 < half["wt"] < 1
    assert half["sensitivity"] == 0.5
    assert half["fp"] == 1
    assert half["lesion_f1_wt"] == 0.5
    assert half["lesion_dice_wt"] < half["wt"]


def test_a_healthy_case_has_no_dice(scores):
    assert scores["c"].healthy
    assert "wt" not in scores["c"].metrics
    assert scores["c"].metrics["fp"] == 1


def test_a_case_without_result_counts_as_nothing(scores):
    lost = scores["d"]
    assert lost.failed
    assert lost.metrics["wt"] == lost.metrics["sensitivity"] == lost.metrics["lesion_f1_wt"] == 0
    assert [lost.metrics[f"lesion_hd95_{r}"] for r in lost.regions] == [374.0] * 3
    assert "no result" in lost.problems[0]


def test_the_means_have_intervals_and_count_failures(scores):
    summary = summarise(list(scores.values()))
    values = [scores[name].metrics["wt"] for name in "abd"]
    assert summary.means["wt"] == pytest.approx(np.mean(values))
    low, high = summary.intervals["wt"]
    assert low < summary.means["wt"] < high
    assert summary.means["failures"] == 1
    assert summary.means["healthy_candidates"] == 1


def test_a_failed_case_does_not_lower_the_rate_of_false_candidates(scores):
    """It counted as a scan without any, so that each crash improved the FROC curve."""
    analysed = [score for score in scores.values() if not score.failed]
    rates = [point.false_per_scan for point in froc_curve(analysed)]
    crashed = CaseScore("e", True, failed=True)
    with_crash = froc_curve([*analysed, crashed])
    assert [point.false_per_scan for point in with_crash] == rates
    assert max(rates) > 0


def test_a_truth_on_another_grid_is_brought_over(cohort, tmp_path):
    results, cases = cohort
    case = tmp_path / "cases" / "a"
    shutil.copytree(cases / "a", case)
    image = nib.load(case / "seg.nii.gz")
    turn = np.diag([-1.0, 1.0, 1.0, 1.0])
    turn[0, 3] = image.shape[0] - 1
    data = np.asanyarray(image.dataobj)[::-1]
    nib.save(nib.Nifti1Image(data, image.affine @ turn), case / "seg.nii.gz")
    (score,) = evaluate(results, find_cases(case.parent), lambda _: None)
    assert score.metrics["wt"] == 1


def _moved_truth(cohort, tmp_path, voxels):
    """Copy case a with its reference moved by some voxels along i."""
    case = tmp_path / "cases" / "a"
    shutil.copytree(cohort[1] / "a", case)
    image = nib.load(case / "seg.nii.gz")
    affine = image.affine.copy()
    affine[:3, 3] += affine[:3, 0] * voxels
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), affine), case / "seg.nii.gz")
    (score,) = evaluate(cohort[0], find_cases(case.parent), lambda _: None)
    return score, np.argwhere(np.asanyarray(image.dataobj) > 0)[:, 0], image.shape[0]


def test_a_truth_of_other_images_is_a_failure_not_a_healthy_case(cohort, tmp_path):
    """It had "0 of 0" lesions, and the candidate of a found lesion was called false."""
    score, _, _ = _moved_truth(cohort, tmp_path, 1000)
    assert score.failed
    assert "outside" in score.problems[0]
    assert (score.metrics["wt"], score.metrics["sensitivity"], score.metrics["found"]) == (0, 0, 0)
    assert score.metrics["lesions"] > 0


def test_fractions_are_no_labels(cohort, case):
    """Halved labels were rounded, and scored as another tissue."""
    image = nib.load(case / "seg.nii.gz")
    halves = np.asanyarray(image.dataobj).astype(np.float32) / 2
    nib.save(nib.Nifti1Image(halves, image.affine), case / "seg.nii.gz")
    with pytest.raises(UnusableInputError, match="reference of case a"):
        evaluate(cohort[0], find_cases(case.parent), lambda _: None)


def test_without_t1c_nothing_of_an_earlier_result_is_enhancing(cohort, tmp_path):
    shutil.copytree(cohort[0] / "a", tmp_path / "results" / "a")
    shutil.copytree(cohort[1] / "a", tmp_path / "cases" / "a")
    with edited_json(tmp_path / "results" / "a" / "findings.json") as findings:
        findings["sequences"]["flair"] = findings["sequences"].pop("t1c")
        findings["reference"] = "flair"
    (tmp_path / "cases" / "a" / "t1c.nii.gz").rename(tmp_path / "cases" / "a" / "flair.nii.gz")
    (score,) = evaluate(tmp_path / "results", find_cases(tmp_path / "cases"), lambda _: None)
    assert (score.metrics["wt"], score.metrics["tc"], score.metrics["et"]) == (1, 1, 0)
    assert any("nothing is shown as enhancing, which counts as" in one for one in score.problems)
    (tmp_path / "results" / "a" / "attention_et.nii.gz").unlink(missing_ok=True)
    (score,) = evaluate(tmp_path / "results", find_cases(tmp_path / "cases"), lambda _: None)
    assert not any("attention_et" in problem for problem in score.problems)


def _without_parts(folder, *regions):
    """Change a result to one of an engine that does not segment these regions."""
    path = folder / "findings.json"
    with edited_json(path) as findings:
        for candidate in findings["candidates"]:
            candidate["volume_ml"] |= dict.fromkeys(regions)
    run = json.loads((folder / "run.json").read_text())
    for row in run["files"] or ():
        if row["file"] == path.name:
            row["sha256"] = sha256_of(path)
    (folder / "run.json").write_text(json.dumps(run))


@pytest.mark.parametrize("regions", [("tc", "et"), ("et",)])
def test_a_region_that_an_engine_does_not_segment_has_no_figures(cohort, tmp_path, regions):
    """Dice 0 for them, also of a result without a candidate and of a case without a result."""
    results = tmp_path / "results"
    shutil.copytree(cohort[0], results)
    for name in "abc":
        _without_parts(results / name, *regions)
    evaluation.write_result(results / "e", evaluation.head(), tmp_path / "studies")
    shutil.copytree(cohort[1], tmp_path / "cases")
    shutil.copytree(tmp_path / "cases" / "a", tmp_path / "cases" / "e")
    scores = {
        score.case: score
        for score in evaluate(results, find_cases(tmp_path / "cases"), lambda _: None)
    }
    scored = {"wt", "tc", "et"} - set(regions)
    for name in "abde":
        metrics = scores[name].metrics
        assert scored <= metrics.keys()
        assert not [key for key in metrics if key.rpartition("_")[2] in regions]
        assert any("engine does not segment" in problem for problem in scores[name].problems)
    assert not any("attention_et" in p for score in scores.values() for p in score.problems)
    assert scores["d"].failed
    assert scores["d"].metrics["wt"] == scores["e"].metrics["wt"] == 0
    means = summarise([*scores.values()]).means
    assert scored <= means.keys()
    assert not means.keys() & set(regions)


def test_a_case_that_the_weights_were_trained_on_is_named(cohort, scores, tmp_path):
    shutil.copytree(cohort[0] / "a", tmp_path / "results" / "a")
    shutil.copytree(cohort[1] / "a", tmp_path / "cases" / "a")
    place = tmp_path / "results" / "a" / "run.json"
    run = json.loads(place.read_text()) if place.is_file() else {}
    place.write_text(json.dumps(run | {"trained_on": ["t1", "flair"]}))
    (score,) = evaluate(tmp_path / "results", find_cases(tmp_path / "cases"), lambda _: None)
    assert any("trained on this study (T1, FLAIR)" in problem for problem in score.problems)
    assert not any("trained on this" in p for one in scores.values() for p in one.problems)


def test_results_of_swapped_names_are_noticed(cohort, tmp_path):
    for name in "ab":
        shutil.copytree(cohort[0] / name, tmp_path / "results" / name)
        shutil.copytree(cohort[1] / name, tmp_path / "cases" / name)
        image = tmp_path / "cases" / name / "t1c.nii.gz"
        rows = [{"file": "t1c.nii.gz", "sha256": sha256_of(image)}]
        state_inputs(tmp_path / "results" / name, rows)
    cases = find_cases(tmp_path / "cases")
    for swapped in (False, True):
        scores = evaluate(tmp_path / "results", cases, lambda _: None)
        assert [any("swapped" in p for p in s.problems) for s in scores] == [swapped] * 2
        (tmp_path / "results" / "a").rename(tmp_path / "x")
        (tmp_path / "results" / "b").rename(tmp_path / "results" / "a")
        (tmp_path / "x").rename(tmp_path / "results" / "b")


@pytest.mark.parametrize("damage", ["missing", "other grid", "no json", "label 7"])
def test_a_damaged_result_fails_alone(cohort, tmp_path, damage):
    results, cases = tmp_path / "results", cohort[1]
    shutil.copytree(cohort[0], results)
    path = results / "a" / "segmentation.nii.gz"
    image = nib.load(path)
    data = np.asanyarray(image.dataobj).copy()
    if damage == "missing":
        path.unlink()
    elif damage == "other grid":
        nib.save(nib.Nifti1Image(data, np.diag([3.0, 3.0, 3.0, 1.0])), path)
    elif damage == "no json":
        (results / "a" / "findings.json").write_text("{}")
    else:
        data[0, 0, 0] = 7
        nib.save(nib.Nifti1Image(data, image.affine), path)
    found = {s.case: s for s in evaluate(results, find_cases(cases), lambda _: None)}
    assert found["a"].failed
    assert found["a"].metrics["wt"] == 0
    assert not found["b"].failed


@pytest.mark.parametrize("files", ["*.nii.gz", "seg.nii.gz", "t1c.nii.gz"])
def test_a_case_that_is_stored_in_another_order_scores_alike(cohort, scores, tmp_path, files):
    """Results of DICOM lie on its order, references often on another: each counted as Dice 0."""
    shutil.copytree(cohort[1] / "b", tmp_path / "b")
    for path in (tmp_path / "b").glob(files):
        image = nib.load(path)
        order = np.array([[2, 1], [0, -1], [1, 1]])
        nib.save(image.as_reoriented(order), path)
    (case,) = find_cases(tmp_path)
    score = score_case(case, cohort[0] / "b", None)
    assert not score.failed
    assert score.metrics == scores["b"].metrics


@pytest.fixture(scope="module")
def reviewed(cohort, tmp_path_factory):
    """Case b as the network made it, and after a reader shrank, added and rejected."""
    folder = tmp_path_factory.mktemp("reviewed")
    answered = evaluation.head(evaluation.MOVED, evaluation.FALSE)
    analysis = make_analysis(answered, write_study(answered, folder / "study"))
    labels, ids = analysis.volumes.labels.data, analysis.findings.components
    save(analysis, folder / "own" / "b")
    first, second = analysis.findings.candidates
    log = ReviewLog()

    def outline(uid, mask):
        corner = tuple(int(a) for a in np.argwhere(mask).min(axis=0))
        box = tuple(
            slice(a, b + 1) for a, b in zip(corner, np.argwhere(mask).max(axis=0), strict=True)
        )
        return Outline(uid, corner, (mask * np.maximum(labels, 2))[box].astype(np.uint8))

    shrunk = ndimage.binary_erosion(ids == first.id)
    added = np.zeros_like(shrunk)
    added[2:6, 2:6, 2:6] = True
    reader = "A. Reader"
    log.decide(first.tracking_uid, ReviewState.EDITED, reader=reader,
             outline=outline(first.tracking_uid, shrunk))  # fmt: skip
    log.add(outline("2.25.4242", added), DrawingMethod.MANUAL, reader=reader)
    log.decide(second.tracking_uid, ReviewState.REJECTED, reader=reader)
    save(replace(analysis, review=log.review), folder / "edited" / "b")
    return folder


def test_of_a_reviewed_result_what_the_network_made_is_scored(cohort, reviewed):
    """Dice was of the reader's voxels, and the counts were of the network's candidates."""
    case = next(c for c in find_cases(cohort[1]) if c.name == "b")
    own, edited = (score_case(case, reviewed / name / "b", None) for name in ("own", "edited"))
    assert (own.reviewed, edited.reviewed) == (False, True)
    assert edited.metrics == own.metrics
    assert edited.hits == own.hits
    assert edited.problems == own.problems
    assert own.metrics["candidates"] == 2
    notes = command(reviewed / "edited", cohort[1]).notes
    (note,) = (note for note in notes if "reviewed" in note)
    assert note == (
        "1 of 4 results were reviewed: what the network made is scored, without readers' edits, "
        "additions and rejections"
    )
    assert not any("were reviewed" in note for note in command(reviewed / "own", cohort[1]).notes)


@pytest.mark.parametrize("name", ["segmentation", "candidates", "probability_wt", "attention_wt"])
def test_a_result_with_a_replaced_file_is_scored_with_a_notice(cohort, reviewed, tmp_path, name):
    shutil.copytree(reviewed / "own", tmp_path / "results")
    file = tmp_path / "results" / "b" / f"{name}.nii.gz"
    image = nib.load(file)
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj) * 0, image.affine), file)
    scores = evaluate(tmp_path / "results", find_cases(cohort[1]), lambda _: None)
    score = next(one for one in scores if one.case == "b")
    assert not score.failed
    assert (score.metrics["wt"] == 0) is (name == "segmentation")
    assert f"changed since it was written: {name}.nii.gz" in score.problems


def _damaged(path, how):
    """Make a NIfTI file what it should not be."""
    image = nib.load(path)
    data = np.asanyarray(image.dataobj).astype(np.float32)
    if how == "cut off":
        path.write_bytes(path.read_bytes()[:-400])
    elif how == "garbled":
        body = bytearray(path.read_bytes())
        body[len(body) // 2 : len(body) // 2 + 60] = b"\xff" * 60
        path.write_bytes(body)
    elif how == "four dimensions":
        nib.save(nib.Nifti1Image(np.stack([data, data], -1), image.affine), path)
    elif how == "no numbers":
        nib.save(nib.Nifti1Image(np.full_like(data, np.nan), image.affine), path)
    elif how == "beyond one":
        nib.save(nib.Nifti1Image(data + 5, image.affine), path)
    elif how == "another grid":
        nib.save(nib.Nifti1Image(data[:-3], image.affine), path)
    else:
        path.write_bytes(b"")


DAMAGES = ("cut off", "garbled", "four dimensions", "no numbers", "beyond one", "another grid", "")


@pytest.mark.parametrize("how", [d for d in DAMAGES if d != "another grid"])
def test_a_damaged_truth_is_refused_by_name(cohort, case, how):
    _damaged(case / "seg.nii.gz", how)
    with pytest.raises(UnusableInputError, match=r"case a|a/seg\.nii\.gz"):
        evaluate(cohort[0], find_cases(case.parent), lambda _: None)


def test_nothing_to_score_is_refused(cohort, tmp_path):
    with pytest.raises(UnusableInputError, match="no result"):
        evaluate(tmp_path, find_cases(cohort[1]), lambda _: None)
    with pytest.raises(ConfigError, match="no case"):
        find_cases(tmp_path)


def test_the_command_writes_json_and_a_picture(cohort, tmp_path):
    results, cases = cohort
    answer = command(results, cases, json=tmp_path / "s.json", plot=tmp_path / "s.png")
    content = json.loads((tmp_path / "s.json").read_text())
    assert [case["case"] for case in content["cases"]] == list("abcd")
    assert content["intervals_95"]["wt"][0] <= content["means"]["wt"]
    assert sum(content["reliability"]["voxels_wt"]["count"]) > 0
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
    assert any("no result" in note for note in answer.notes)
    assert content["cases"][0]["made_by"].startswith("phantom 1")
    assert content["cases"][3]["made_by"] is None
    assert "lesionlens" in content


def test_results_that_no_case_names_and_mixed_weights_are_told(cohort, tmp_path):
    results, cases = tmp_path / "results", cohort[1]
    shutil.copytree(cohort[0], results)
    (results / "a").rename(results / "of another")
    shutil.copytree(cohort[0] / "a", results / "a")
    run = json.loads((results / "a" / "run.json").read_text())
    (results / "a" / "run.json").write_text(json.dumps(run | {"weights_sha256": "ab" * 32}))
    notes = command(results, cases).notes
    assert "No reference case is named of another: skipped" in notes
    assert "Results of 2 engines or weights are scored together" in notes


def test_the_command_refuses_a_place_that_cannot_be(cohort, tmp_path, monkeypatch):
    with pytest.raises(UnusableInputError):
        command(*cohort, json=tmp_path / "not there" / "s.json")
    with pytest.raises(UnusableInputError, match="no folder"):
        command(tmp_path / "nothing", cohort[1])
    monkeypatch.setattr(checks.os, "access", lambda *_: False)
    with pytest.raises(UnusableInputError, match=r"(?i)no permission"):
        command(*cohort, json=tmp_path / "s.json")


def test_conventions_come_by_name_or_table(cohort, tmp_path):
    results, cases = cohort
    table = tmp_path / "c.tsv"
    table.write_text("case\tconvention\na\tmsd(1=ED)\n")
    target = tmp_path / "s.json"
    command(results, cases, convention=str(table), json=target)
    rows = {c["case"]: c["metrics"] for c in json.loads(target.read_text())["cases"]}
    assert rows["a"]["wt"] == 1
    assert rows["a"]["tc"] < 1
    with pytest.raises(ConfigError, match="brats1999"):
        command(results, cases, convention="brats1999")


@pytest.fixture
def plain(cohort, tmp_path):
    """The same outlines as another program leaves them: a file a case, and truths alone."""
    for number, (kind, root) in enumerate(zip(("ours", "truth"), cohort, strict=True)):
        (tmp_path / kind).mkdir()
        for name in "abc":
            file = root / name / ("segmentation.nii.gz", "seg.nii.gz")[number]
            shutil.copy(file, tmp_path / kind / f"{name}{('', '-seg')[number]}.nii.gz")
    return tmp_path / "ours", tmp_path / "truth"


def test_plain_segmentations_have_the_overlap_of_results(cohort, plain, scores):
    for truths in (cohort[1], plain[1]):
        found = {s.case: s for s in evaluate(plain[0], find_cases(truths), lambda _: None)}
        for name in "abc":
            wanted = scores[name].metrics
            keys = (*(k for k in wanted if "dice" in k or "hd95" in k), "lesions", "found", "fp")
            assert {k: found[name].metrics[k] for k in keys} == {k: wanted[k] for k in keys}, name
            assert not found[name].problems
        assert summarise(list(found.values())).froc[0]["sensitivity"] is None


def test_plain_segmentations_lie_in_folders_too_and_follow_the_convention(plain, tmp_path):
    folders, image = tmp_path / "folders", nib.load(plain[0] / "a.nii.gz")
    (folders / "a").mkdir(parents=True)
    data = np.asanyarray(image.dataobj)
    other = np.array([0, 2, 1, 3], np.uint8)[data]  # Decathlon: 1 oedema, 2 core
    nib.save(nib.Nifti1Image(other, image.affine), folders / "a" / "answer_of_net.nii.gz")
    cases = [c for c in find_cases(plain[1]) if c.name == "a"]
    truth = nib.load(plain[1] / "a-seg.nii.gz")
    turned = np.array([0, 2, 1, 3], np.uint8)[np.asanyarray(truth.dataobj)]
    nib.save(nib.Nifti1Image(turned, truth.affine), plain[1] / "a-seg.nii.gz")
    (score,) = evaluate(folders, cases, lambda _: "msd")
    assert (score.metrics["wt"], score.metrics["tc"], score.metrics["et"]) == (1, 1, 1)
    nib.save(nib.Nifti1Image(data + 40, image.affine), folders / "a" / "answer_of_net.nii.gz")
    (score,) = evaluate(folders, cases, lambda _: None)
    assert score.failed
    assert "answer_of_net.nii.gz" in score.problems[0].lower()


def test_a_reference_is_not_scored_against_itself(plain, tmp_path):
    """The folder of the cases in place of the results had a Dice of 1, without a word."""
    cases = [case for case in find_cases(plain[1]) if case.name == "a"]
    folder = tmp_path / "cases"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "seg.nii.gz").symlink_to(cases[0].reference_path)
    with pytest.raises(UnusableInputError, match="reference of case 'a'"):
        evaluate(folder, cases, lambda _: None)


def test_a_cavity_is_no_part_of_a_tumour(cohort, tmp_path):
    shutil.copytree(cohort[0] / "a", tmp_path / "a")
    image = nib.load(tmp_path / "a" / "segmentation.nii.gz")
    data = np.asanyarray(image.dataobj).copy()
    data[:3] = 4
    nib.save(nib.Nifti1Image(data, image.affine), tmp_path / "a" / "segmentation.nii.gz")
    cases = [c for c in find_cases(cohort[1]) if c.name == "a"]
    (score,) = evaluate(tmp_path, cases, lambda _: None)
    assert score.metrics["wt"] == 1


def test_a_mask_of_whole_lesions_is_no_reference_of_core_and_enhancing_part(cohort, tmp_path):
    """All of it was taken as core: Dice 0 for the enhancing part, without a word."""
    shutil.copytree(cohort[1] / "a", tmp_path / "a")
    file = tmp_path / "a" / "seg.nii.gz"
    image = nib.load(file)
    mask = (np.asanyarray(image.dataobj) > 0).astype(np.uint8)
    nib.save(nib.Nifti1Image(mask, image.affine), file)
    cases = find_cases(tmp_path)
    (score,) = evaluate(cohort[0], cases, lambda _: None)
    assert score.metrics["wt"] == score.metrics["sensitivity"] == 1
    assert not {key for key in score.metrics if key.endswith(("tc", "et"))}
    assert any("label 1 alone" in problem for problem in score.problems)
    (named,) = evaluate(cohort[0], cases, lambda _: "brats23")
    assert named.metrics["et"] == 0
    assert not any("label 1 alone" in problem for problem in named.problems)


def test_a_candidate_without_a_peak_is_found_by_its_voxels(tmp_path):
    patient = evaluation.head(evaluation.LEFT)
    analysis = make_analysis(patient, write_study(patient, tmp_path / "study"))
    (one,) = (
        CandidateRow.of(replace(c, peak_mm=None), Review()) for c in analysis.findings.candidates
    )
    labels = analysis.volumes.labels
    ids = np.where(labels.data > 0, one.id, 0)
    (hit,), counted = candidate_hits((one,), ids, labels.data > 0, labels.grid)
    assert (hit.lesions, hit.false_positive, len(counted)) == ((1,), False, 1)
    (missed,), _ = candidate_hits((one,), np.zeros_like(ids), labels.data > 0, labels.grid)
    assert missed.false_positive


def test_an_l_shaped_candidate_around_a_lesion_is_false():
    """Its box spans the lesion, and its own voxels are 16 mm away from it."""
    grid = Grid((60, 60, 20), np.eye(4))
    lesion, ids = np.zeros((2, *grid.shape), np.uint8)
    lesion[30:40, 30:40, 5:15] = 1
    ids[5:14, 5:45, 5:15] = ids[5:45, 5:14, 5:15] = 1
    candidate = SimpleNamespace(id=1, score=0.95, peak_mm=(10, 10, 10))
    (hit,), counted = candidate_hits((candidate,), ids, lesion > 0, grid)
    assert (hit.score, hit.lesions, hit.false_positive, len(counted)) == (0.95, (), True, 1)
