"""Fine-tuning: layouts, patients, references, and a run that judges itself and goes on."""

import dataclasses
import json
import shutil
import threading

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from tests.phantoms.analysis import make_analysis, write_study
from tests.phantoms.files import write_nifti
from typer.testing import CliRunner

from lesionlens.analysis.evaluation.label_conventions import read_conventions
from lesionlens.base.errors import ConfigError, UnusableInputError, WeightsError
from lesionlens.base.grid import Grid
from lesionlens.base.labels import DrawingMethod, Label, MrSequence, Region, ReviewState
from lesionlens.base.provenance import sha256_of
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.review import CAVITY, Outline, Review, ReviewEvent
from lesionlens.base.run_context import RunContext
from lesionlens.cli.main import app
from lesionlens.imaging import samples
from lesionlens.imaging.preparation import prepare as preparation
from lesionlens.imaging.preparation.prepare import prepare
from lesionlens.network import weights
from lesionlens.results.export.exporter import save
from lesionlens.results.review.log import ReviewLog, new_tracking_uid
from lesionlens.results.review.reopen import read_result, read_reviewed
from lesionlens.testing import Lesion, make_patient
from lesionlens.training.augmentation import PreparedCase, training_batch
from lesionlens.training.cases import TrainingCases, pack_case, recorded_split, split
from lesionlens.training.finetune import FinetuneJob, finetune
from lesionlens.training.references import find_real_cases

pytestmark = pytest.mark.usefixtures("coarse")
FINE = preparation._working_grid
"""Makes cubes of 1 mm, as outside of tests."""
CPU = torch.device("cpu")
NAMES = ("BraTS-GLI-00001-000", "BraTS-GLI-00001-001", "BraTS-GLI-00002-000")
LEFT, RIGHT = Lesion((-28.0, 8.0, 26.0), 20.0), Lesion((30.0, -30.0, 20.0), 12.0)


def find(root, **how):
    return find_real_cases(root, convention=read_conventions(None, root).of, **how).cases


def signed(review):
    log = ReviewLog(review)
    log.sign("seen", reader="A. Reader")
    return log.review


def write_head(folder, *lesions, seed=0):
    """Images and truth of a head at 4 mm."""
    write_nifti(make_patient(seed, spacing_mm=4.0, lesions=lesions), folder, reference=True)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three examinations of two patients; the last has FLAIR and T1c alone."""
    place = tmp_path_factory.mktemp("real")
    for seed, name in enumerate(NAMES):
        write_head(place / name, LEFT, seed=seed)
    for gone in ("t1", "t2"):
        (place / NAMES[2] / f"{gone}.nii.gz").unlink()
    return place


@pytest.fixture
def copy(root, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(root, tmp_path / "copy")


def test_a_patient_is_on_one_side_and_it_is_recorded(root, tmp_path):
    held_out = recorded_split(find(root), tmp_path / "split.json")
    assert sorted(held_out.values()) == [False, True]
    record = json.loads((tmp_path / "split.json").read_text())
    assert {p for p, is_held_out in held_out.items() if is_held_out} == set(record["validation"])
    names = [name for side in record.values() for cases in side.values() for name in cases]
    assert sorted(names) == sorted(NAMES)


@pytest.mark.parametrize(
    "record",
    [
        {"training": ["BraTS-GLI-00001"], "held_out": ["BraTS-GLI-00002"]},
        {"training": ["BraTS-GLI-00001"], "validation": "BraTS-GLI-00002"},
        {"training": ["BraTS-GLI-00001"], "validation": "P7"},  # without a letter twice
        {"training": ["a", "b"], "validation": ["b"]},
        ["BraTS-GLI-00001"],
        {"training": 2},
    ],
)
def test_a_split_by_hand_that_is_misspelt_is_refused_and_kept(root, tmp_path, record):
    file = tmp_path / "split.json"
    file.write_text(json.dumps(record))
    with pytest.raises(ConfigError, match=r"split.json.*cannot be used"):
        recorded_split(find(root), file)
    assert json.loads(file.read_text()) == record


def test_cases_added_later_leave_the_split_as_it_was(root, copy, tmp_path):
    first = recorded_split(find(root), tmp_path / "split.json")
    for number in range(3, 9):
        shutil.copytree(root / NAMES[0], copy / f"BraTS-GLI-{number:05d}-000")
    later = recorded_split(find(copy), tmp_path / "split.json")
    assert first.items() <= later.items()


def test_a_case_under_two_names_is_not_trained_on_and_held_out(copy, tmp_path):
    shutil.move(copy / NAMES[0], copy / "first")
    shutil.rmtree(copy / NAMES[1])
    for number in range(8):
        other = shutil.copytree(copy / "first", copy / f"copy{number}")
        nib.save(nib.load(other / "t1.nii.gz"), other / "t1.nii")
        (other / "t1.nii.gz").unlink()
    with pytest.raises(ConfigError, match=r"is held out, but one of its scans is trained on"):
        TrainingCases(find(copy), tmp_path / "run", (2.0,))
    rows = "".join(f"copy{number}\tone\n" for number in range(8))
    (copy / "patients.tsv").write_text(f"case\tpatient\nfirst\tone\n{rows}")
    assert TrainingCases(find(copy), tmp_path / "another", (2.0,)).training


@settings(deadline=None)
@given(st.sets(st.text(min_size=1, max_size=6), min_size=2, max_size=30))
def test_a_split_repeats_keeps_both_sides_and_holds_a_quarter(patients):
    held = split(patients, {})
    assert held == split(sorted(patients, reverse=True), {})
    assert sum(held.values()) == max(1, round(0.25 * len(patients)))


def test_one_patient_is_not_enough():
    with pytest.raises(ConfigError, match="need a patient"):
        split(["one", "one"], {})


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match="no folder 'cases'"):
        find(tmp_path / "cases")


def test_the_sample_patient_is_refused_under_any_name(copy):
    other = copy / "BraTS-GLI-00009-000"
    shutil.copytree(copy / NAMES[0], other)
    shutil.copy(samples.STUDY / "flair.nii.gz", other / "flair.nii.gz")
    with pytest.raises(UnusableInputError, match=r"00009.*sample patient"):
        find(copy)


def test_a_case_without_truth_is_refused_by_name(copy):
    (copy / NAMES[1] / "seg.nii.gz").unlink()
    with pytest.raises(UnusableInputError, match=NAMES[1]):
        find(copy)


def test_a_case_that_cannot_be_read_is_refused_by_name(copy, tmp_path):
    for sequence in ("t1c", "flair"):
        (copy / NAMES[2] / f"{sequence}.nii.gz").write_bytes(b"no scan")
    with pytest.raises(UnusableInputError, match=f"Case '{NAMES[2]}' cannot be trained on"):
        TrainingCases(find(copy), tmp_path / "run", (2.0,))


def test_a_mask_of_whole_lesions_is_refused_unless_its_convention_is_named(copy):
    file = copy / NAMES[0] / "seg.nii.gz"
    image = nib.load(file)
    mask = (np.asanyarray(image.dataobj) > 0).astype(np.uint8)
    nib.save(nib.Nifti1Image(mask, image.affine), file)
    with pytest.raises(UnusableInputError, match="label 1 alone"):
        find(copy)[0].reference()
    named, _ = find_real_cases(copy, convention=lambda _: "brats23").cases[0].reference()
    assert np.unique(named).tolist() == [0, 1]


def _prepared(case):
    return prepare(case.study(), RunContext())


def test_the_truth_keeps_its_volume_and_its_side(root, monkeypatch):
    monkeypatch.setattr(preparation, "_working_grid", FINE)
    case = find(root)[0]
    packed = pack_case(_prepared(case), case.reference(), 5.0)
    labels, grid = case.reference()
    for level, values in ((1, (1, 2, 3)), (3, (3,))):
        wanted = np.isin(labels, values).sum() * grid.voxel_ml
        assert (packed.code > level).sum() * 0.125 == pytest.approx(wanted, rel=0.3)
    assert packed.code.shape == packed.channels.shape[1:]
    middle = np.argwhere(packed.code > 1).mean(axis=0)
    assert middle[0] < (packed.code.shape[0] - 1) / 2
    assert packed.present.all()


def test_a_reference_of_other_images_is_not_trained_on(root):
    case = find(root)[0]
    labels, grid = case.reference()
    affine = grid.affine.copy()
    affine[:3, 3] += 1000.0
    with pytest.raises(UnusableInputError, match="100% of the reference lies outside"):
        pack_case(_prepared(case), (labels, Grid(grid.shape, affine)), 5.0)


def head(shape=(24, 30, 26)):
    """A brain with a lesion on its left side, and T2 missing."""
    code = np.zeros(shape, np.uint8)
    code[2:-2, 2:-2, 2:-2] = 1
    code[3:11, 9:21, 7:19] = 2
    code[4:10, 10:20, 8:18] = 4
    image = np.random.default_rng(0).normal(size=(4, *shape)) + 3 * (code == 4)
    present = np.array([True, True, False, True])
    image = image * (code > 0) * present[:, None, None, None]
    return PreparedCase(image.astype(np.float16), code, (code > 1).astype(np.uint8), present)


@pytest.mark.parametrize("window", [None, (16, 16, 16)])
def test_batches_repeat_and_stay_a_scan(window):
    for seed in range(6):
        batch, again = (training_batch(head(), window, seed) for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(batch, again, strict=True))
        assert batch.present.any()
        assert not batch.channels[0, ~batch.present[0]].any()
        assert not batch.channels[:, :, ~batch.brain[0]].any()
        assert not (batch.labels[0].any(0) & ~batch.brain[0]).any()
        assert bool((batch.bounds[0, :, 0] < batch.bounds[0, :, 1]).all())
        if window is None:
            assert float(batch.bounds.abs().min()) == 1
        else:
            assert batch.brain.shape[1:] == window


def test_image_and_reference_change_together():
    """A lesion that is bright stays bright where its label is, on the side that it is on."""
    sides = set()
    for seed in range(12):
        batch = training_batch(head(), None, seed)
        inside = batch.labels[0, 2] > 0
        assert 0 < int(inside.sum()) < int(batch.labels[0, 0].sum())
        shown = batch.channels[0, batch.present[0]].mean(0)
        assert float(shown[inside].mean()) > float(shown[batch.brain[0] & ~inside].mean()) + 1
        middle = inside.nonzero().float().mean(0)[0] / inside.shape[0]
        sides.add(bool(middle < 0.5))
    assert sides == {True, False}  # half of the volumes are mirrored


@pytest.fixture
def job(root, tmp_path, random_weights):
    return FinetuneJob(root, tmp_path / "run", steps=2, weights=str(random_weights))


def test_a_run_learns_on_one_side_and_judges_on_the_other(job, random_weights):
    done = finetune(job, device=CPU)
    assert (done.step, done.trained_before) == (2, ())
    network, info = weights.load(done.weights)
    before, old = weights.load(random_weights)
    start = before.state_dict()
    assert any(not torch.equal(t, start[name]) for name, t in network.state_dict().items())
    cases = TrainingCases(find(job.cases), job.out, (2.0,))
    known = {scan for case in cases.training for scan in cases.scans(case)}
    assert set(info.trained_on) == known | set(old.trained_on)
    assert cases.among(known) == ()
    assert list(done.held_out.index) == [case.name for case in cases.held_out]
    assert cases.among(cases.scans(cases.held_out[0])) == (cases.held_out[0].name,)
    assert f"then {len(cases.training)} real cases of 1 patients" in info.provenance["data"]
    assert info.provenance["parent_sha256"] == old.sha256
    assert done.held_out.stack().between(0, 1).all()
    assert list(done.held_out.columns[:2]) == ["wt before", "tc before"]
    assert all(name in (job.out / "held_out.html").read_text() for name in done.held_out.index)


@pytest.mark.slow
def test_a_run_goes_on_from_its_file_as_if_it_had_not_stopped(job, tmp_path):
    whole = finetune(dataclasses.replace(job, out=tmp_path / "whole", steps=3), device=CPU)
    stop = threading.Event()
    context = RunContext(lambda stage, _: stop.set() if "step" in stage else None, stop)
    three = dataclasses.replace(job, steps=3)
    first = finetune(three, device=CPU, context=context)
    assert (first.step, first.held_out) == (1, None)
    second = finetune(three, device=CPU)
    assert (second.resumed_at, second.step) == (1, 3)
    states = [weights.load(run.weights)[0].state_dict() for run in (whole, second)]
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_other_weights_and_other_runs_are_refused(job, refining_weights, tmp_path):
    finetune(dataclasses.replace(job, steps=1), device=CPU)
    with pytest.raises(WeightsError, match="started with other weights"):
        finetune(dataclasses.replace(job, weights=str(refining_weights)), device=CPU)
    (job.out / "checkpoint.safetensors").unlink()
    with pytest.raises(UnusableInputError, match="another run"):
        finetune(job, device=CPU)


@pytest.mark.slow
def test_weights_remember_removed_cases_and_refuse_renamed_ones(copy, job):
    job = dataclasses.replace(job, cases=copy, steps=6)
    job.out.mkdir()
    record = {"training": {"BraTS-GLI-00001": []}, "validation": {"BraTS-GLI-00002": []}}
    (job.out / "split.json").write_text(json.dumps(record))
    first = weights.load(finetune(job, device=CPU).weights)[1]
    assert len(first.trained_on) == 2 * 4 * 2  # two cases of four scans, two digests each
    shutil.move(copy / NAMES[1], copy / "renamed")
    record["validation"]["renamed"] = []
    (job.out / "split.json").write_text(json.dumps(record))
    with pytest.raises(ConfigError, match=r"trained on held-out cases before: renamed"):
        finetune(job, device=CPU)
    shutil.rmtree(copy / "renamed")
    second = weights.load(finetune(job, device=CPU).weights)[1]
    assert set(first.trained_on) == set(second.trained_on)


@pytest.fixture(scope="module")
def reviewed(tmp_path_factory):
    place = tmp_path_factory.mktemp("reviewed")
    return place, save_reviewed(place, "one")


def save_reviewed(place, name, seed=0):
    """Save a result of two candidates, the first accepted and the second rejected; sign it."""
    patient = make_patient(seed, spacing_mm=4.0, lesions=(LEFT, RIGHT))
    study = write_study(patient, place / "studies" / name)
    analysis = make_analysis(patient, study)
    states = (ReviewState.ACCEPTED, ReviewState.REJECTED)
    events = tuple(
        ReviewEvent(candidate.tracking_uid, state, "A. Reader", "2026-01-05T10:15:00Z")
        for candidate, state in zip(analysis.findings.candidates, states, strict=True)
    )
    analysis = dataclasses.replace(analysis, review=signed(Review(events)))
    save(analysis, place / "results" / name)
    return analysis


def test_what_a_reader_accepted_is_the_truth(reviewed):
    place, analysis = reviewed
    (case,) = find(place / "results", studies=place / "studies")
    labels, grid = case.reference()
    components = analysis.findings.components
    np.testing.assert_array_equal(labels > 0, components == 1)
    assert grid.matches(case.study().series["t1c"].grid)


def test_an_outline_that_was_drawn_anew_since_it_was_accepted_is_no_truth(reviewed, tmp_path):
    """The decision is carried over to the outline of other weights, which no reader has seen."""
    place, analysis = reviewed
    shutil.copytree(place / "results" / "one", tmp_path / "one")
    labels = analysis.volumes.labels
    drawn = labels.data.copy()
    mine = np.argwhere(analysis.findings.components == 1)
    kinds = drawn[tuple(mine.T)]
    one, other = tuple(mine[0]), tuple(mine[np.flatnonzero(kinds != kinds[0])[0]])
    drawn[one], drawn[other] = drawn[other], drawn[one]  # two parts of equal volumes as before
    again = dataclasses.replace(
        analysis,
        volumes=dataclasses.replace(
            analysis.volumes, labels=dataclasses.replace(labels, data=drawn)
        ),
        run=dataclasses.replace(analysis.run, started="2026-01-06T10:15:00+00:00"),
        review=Review(),
    )
    save(again, tmp_path / "one")
    with pytest.raises(UnusableInputError, match="not signed"):
        find(tmp_path, studies=place / "studies")
    review = signed(read_result(tmp_path / "one").review)
    save(dataclasses.replace(again, review=review), tmp_path / "one")
    (case,) = find(tmp_path, studies=place / "studies")
    np.testing.assert_array_equal(case.reference()[0] > 0, again.findings.components == 1)


def test_what_a_reader_redrew_is_the_truth_in_place_of_what_the_network_drew(reviewed, tmp_path):
    place, analysis = reviewed
    first, second = analysis.findings.candidates
    log = ReviewLog(analysis.review)
    drawn = Outline(first.tracking_uid, (3, 4, 5), np.full((2, 2, 2), 3, np.uint8))
    log.decide(first.tracking_uid, ReviewState.EDITED, outline=drawn)
    log.decide(second.tracking_uid, ReviewState.REJECTED)
    save(dataclasses.replace(analysis, review=signed(log.review)), tmp_path / "one")
    (case,) = find(tmp_path, studies=place / "studies")
    labels, _ = case.reference()
    assert (labels[drawn.box] == 3).all()
    assert np.count_nonzero(labels) == 8


def test_the_truth_is_what_the_window_shows_where_outlines_overlap(reviewed, tmp_path):
    """A later analysis flags regions that readers' outlines cover already."""
    place, analysis = reviewed
    first, second = analysis.findings.candidates
    components = analysis.findings.components

    def over(candidate, uid):
        box = ndimage.find_objects(components)[candidate.id - 1]
        corner = tuple(side.start for side in box)
        return Outline(uid, corner, np.where(components[box] == candidate.id, 2, 0).astype("uint8"))

    log = ReviewLog()
    log.decide(first.tracking_uid, ReviewState.ACCEPTED)
    log.add(over(second, new_tracking_uid()), DrawingMethod.MANUAL, reader="A. Reader")
    log.decide(second.tracking_uid, ReviewState.REJECTED)
    save(dataclasses.replace(analysis, review=signed(log.review)), tmp_path / "one")
    shown = read_reviewed(tmp_path / "one")
    rejected = [
        candidate.id
        for candidate in shown.findings.candidates
        if shown.review.state_of(candidate.tracking_uid) is ReviewState.REJECTED
    ]
    hidden = np.isin(shown.findings.components, rejected)
    (case,) = find(tmp_path, studies=place / "studies")
    labels, _ = case.reference()
    np.testing.assert_array_equal(labels, np.where(hidden, 0, shown.volumes.labels.data))


def test_nothing_enhances_in_what_is_learnt_without_t1c(tmp_path, monkeypatch):
    monkeypatch.setattr(Analysis, "__post_init__", lambda _: None)
    patient = make_patient(spacing_mm=4.0, lesions=(LEFT, RIGHT))
    study = write_study(patient, tmp_path / "studies" / "one", sequences=(MrSequence.FLAIR,))
    analysis = make_analysis(patient, study)
    first, second = analysis.findings.candidates
    log = ReviewLog(analysis.review)
    drawn = Outline(first.tracking_uid, (3, 4, 5), np.full((2, 2, 2), Label.ENHANCING, np.uint8))
    log.decide(first.tracking_uid, ReviewState.EDITED, outline=drawn)
    log.decide(second.tracking_uid, ReviewState.ACCEPTED)
    analysis = dataclasses.replace(analysis, review=signed(log.review))
    assert (analysis.volumes.labels.data == Label.ENHANCING).any()
    save(analysis, tmp_path / "results" / "one")
    (case,) = find(tmp_path / "results", studies=tmp_path / "studies")
    labels, _ = case.reference()
    assert not (labels == Label.ENHANCING).any()
    assert (labels[drawn.box] == Label.CORE).all()


@pytest.mark.parametrize("parts", [(Region.TC, Region.ET), (Region.ET,)], ids=len)
def test_outlines_without_the_parts_of_a_lesion_are_not_trained_on(reviewed, tmp_path, parts):
    place, analysis = reviewed
    first, second = analysis.findings.candidates
    whole = np.where(analysis.findings.components > 0, np.uint8(Label.OEDEMA), np.uint8(0))
    undivided = dataclasses.replace(
        analysis,
        volumes=dataclasses.replace(
            analysis.volumes, labels=Volume(whole, analysis.volumes.labels.grid)
        ),
        findings=dataclasses.replace(
            analysis.findings,
            candidates=tuple(
                dataclasses.replace(c, volume_ml={**dict.fromkeys(Region, 0.0), **known})
                for c in (first, second)
                for known in [{Region.WT: c.volume_ml[Region.WT]} | dict.fromkeys(parts)]
            ),
        ),
    )
    save(undivided, tmp_path / "one")
    with pytest.raises(UnusableInputError, match=r"does not distinguish .*enhancing tumour"):
        find(tmp_path, studies=place / "studies")
    log = ReviewLog(analysis.review)
    box = ndimage.find_objects(analysis.findings.components)[first.id - 1]
    corner = tuple(side.start for side in box)
    drawn = np.where(analysis.findings.components[box] == first.id, 2, 0).astype(np.uint8)
    drawn[tuple(np.argwhere(drawn)[0])] = Label.ENHANCING
    outline = Outline(first.tracking_uid, corner, drawn)
    log.decide(first.tracking_uid, ReviewState.EDITED, outline=outline)
    save(dataclasses.replace(undivided, review=signed(log.review)), tmp_path / "one")
    (case,) = find(tmp_path, studies=place / "studies")
    assert np.count_nonzero(case.reference()[0] == Label.ENHANCING) == 1


@pytest.mark.parametrize("redrawn", [False, True])
def test_the_cavity_of_a_result_is_truth_as_a_reader_left_it(reviewed, tmp_path, redrawn):
    place, analysis = reviewed
    grid = analysis.volumes.labels.grid
    found = np.zeros(grid.shape, bool)
    found[4:8, 4:8, 4:8] = True
    drawn = Outline(CAVITY, (30, 40, 30), np.full((2, 2, 2), Label.CAVITY, np.uint8))
    review = analysis.review
    if redrawn:
        event = ReviewEvent(CAVITY, ReviewState.EDITED, "A. Reader", "2026-01-05T10:16:00Z",
                            outline=drawn.sha256)  # fmt: skip
        review = dataclasses.replace(
            review, events=(*review.events, event), outlines={drawn.sha256: drawn}
        )
        review = signed(review)
    volumes = dataclasses.replace(analysis.volumes, cavity=Volume(found, grid))
    save(dataclasses.replace(analysis, volumes=volumes, review=review), tmp_path / "results/one")
    (case,) = find(tmp_path / "results", studies=place / "studies")
    assert case.cavity
    cavity = case.reference()[0] == Label.CAVITY
    wanted = np.zeros_like(found)
    wanted[drawn.box if redrawn else (slice(4, 8),) * 3] = True
    np.testing.assert_array_equal(cavity, wanted)


def test_a_review_of_the_sample_patient_is_refused(reviewed, tmp_path):
    place, analysis = reviewed
    inputs = (("t1.nii.gz", sha256_of(samples.STUDY / "t1.nii.gz")),)
    run = dataclasses.replace(analysis.run, inputs=inputs)
    save(dataclasses.replace(analysis, run=run), tmp_path / "results" / "one")
    with pytest.raises(UnusableInputError, match="sample patient"):
        find(tmp_path / "results", studies=place / "studies")


def test_results_need_their_own_studies(reviewed, tmp_path):
    place, _ = reviewed
    with pytest.raises(ConfigError, match="--studies"):
        find(place / "results")
    with pytest.raises(UnusableInputError, match="no study 'one'"):
        find(place / "results", studies=tmp_path)
    write_head(tmp_path / "one", seed=5)
    (case,) = find(place / "results", studies=tmp_path)
    with pytest.raises(UnusableInputError, match="not the one reviewed"):
        case.study()


def test_results_without_a_signature_are_named_and_not_used(reviewed, tmp_path):
    place, analysis = reviewed
    shutil.copytree(place / "results", tmp_path / "results")
    unsigned = dataclasses.replace(analysis, review=Review(analysis.review.events[:2]))
    save(unsigned, tmp_path / "results" / "two")
    found = find_real_cases(
        tmp_path / "results", studies=place / "studies", convention=lambda _: None
    )
    assert [case.name for case in found.cases] == ["one"]
    assert found.left_out == (("two", "not signed"),)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["references", "signed reviews", "treated"])
def test_command_trains_and_its_weights_can_be_used(copy, tmp_path, random_weights, kind):
    given = [str(copy)]
    if kind == "signed reviews":
        for seed, name in enumerate(("one", "two")):
            save_reviewed(tmp_path, name, seed)
        given = [str(tmp_path / "results"), "--studies", str(tmp_path / "studies")]
    elif kind == "treated":
        given += ["--convention", "brats24"]
        for name in NAMES:
            image = nib.load(copy / name / "seg.nii.gz")
            labels = np.asanyarray(image.dataobj).astype(np.uint8)
            near = labels[8:14, 20:26, 18:24]
            near[near == 0] = Label.CAVITY
            nib.save(nib.Nifti1Image(labels, image.affine), copy / name / "seg.nii.gz")
    run = ["--out", str(tmp_path / "run"), "--steps", "2", "--weights", str(random_weights)]
    done = CliRunner().invoke(app, ["finetune", *given, *run, "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert "2 of 2 steps" in done.output
    network, info = weights.load(tmp_path / "run" / "weights.safetensors")
    assert info.version.endswith("+tuned")
    assert info.trained_on
    assert ("cavity" in done.output) is (kind == "treated")
    assert info.config.regions == network.queries.query.shape[0] == 3 + (kind == "treated")


def test_training_writes_nothing_among_the_cases(tmp_path):
    cases = tmp_path / "cases"
    cases.mkdir()
    done = CliRunner().invoke(app, ["finetune", str(cases), "--out", str(cases / "run")])
    assert done.exit_code == 2
    assert not list(cases.iterdir())
