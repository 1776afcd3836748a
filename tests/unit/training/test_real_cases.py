"""Learning from real cases: layouts, patients, truth, and that a run repeats."""

from __future__ import annotations

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
from lesionlens.base.errors import ConfigError, UnusableInputError
from lesionlens.base.grid import Grid
from lesionlens.base.labels import DrawingMethod, Label, MrSequence, Region, ReviewState
from lesionlens.base.provenance import sha256_of
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.review import CAVITY, Outline, Review, ReviewEvent
from lesionlens.base.run_context import RunContext
from lesionlens.base.text import counted
from lesionlens.cli.main import app
from lesionlens.imaging import samples
from lesionlens.imaging.preparation import working_grid
from lesionlens.imaging.preparation.prepare import prepare
from lesionlens.network import weights
from lesionlens.results.export.exporter import save
from lesionlens.results.review.log import ReviewLog, new_tracking_uid
from lesionlens.results.review.reopen import read_result, read_reviewed
from lesionlens.testing import Lesion, make_patient
from lesionlens.training.config import (
    DataConfig,
    PatchConfig,
    StageConfig,
)
from lesionlens.training.loop import TrainOptions, train
from lesionlens.training.real_cases import RealCases, pack_case, split_recorded
from lesionlens.training.references import find_real_cases, split
from lesionlens.training.stored_volumes import FolderSource, read

from .runs import small_recipe

pytestmark = pytest.mark.usefixtures("coarse")
FINE = working_grid._working_grid
"""Makes cubes of 1 mm, as outside of tests."""
STAGE = StageConfig(4, (32, 40, 32), (5.0, 5.0), batch=2)
DATA = DataConfig(workers=0, pool=2)
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


def test_a_patient_is_on_one_side_alone_and_it_is_recorded(root, tmp_path):
    parts = split_recorded(find(root), tmp_path, seed=0)
    learnt, held = ({case.patient for case in side} for side in (parts.training, parts.validation))
    assert learnt
    assert held
    assert not learnt & held
    record = json.loads((tmp_path / "split.json").read_text())
    assert set(record["training"]) == learnt
    names = [name for cases in record["validation"].values() for name in cases]
    assert sorted(names) == [case.name for case in parts.validation]


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
        split_recorded(find(root), tmp_path, seed=0)
    assert json.loads(file.read_text()) == record


def test_cases_added_later_leave_the_split_as_it_was(root, copy, tmp_path):
    first = split_recorded(find(root), tmp_path, seed=0)
    for number in range(3, 9):
        shutil.copytree(root / NAMES[0], copy / f"BraTS-GLI-{number:05d}-000")
    later = split_recorded(find(copy), tmp_path, seed=0)
    names = [{case.name for case in side} for side in (later.training, later.validation)]
    assert {case.name for case in first.training} <= names[0]
    assert {case.name for case in first.validation} <= names[1]


@pytest.mark.parametrize("packed", [True, False])
def test_a_case_under_two_names_is_not_trained_on_and_held_out(copy, tmp_path, packed):
    """Without patients.tsv each name is a patient, so that a copy was held out."""
    shutil.move(copy / NAMES[0], copy / "first")
    shutil.rmtree(copy / NAMES[1])
    for number in range(8):
        other = shutil.copytree(copy / "first", copy / f"copy{number}")
        if not packed:
            nib.save(nib.load(other / "t1.nii.gz"), other / "t1.nii")
            (other / "t1.nii.gz").unlink()
    with pytest.raises(ConfigError, match=r"one scan in the cases .*trained on.*held out"):
        RealCases(find(copy), tmp_path / "run", RECIPE)
    rows = "".join(f"copy{number}\tone\n" for number in range(8))
    (copy / "patients.tsv").write_text(f"case\tpatient\nfirst\tone\n{rows}")
    assert RealCases(find(copy), tmp_path / "another", RECIPE).parts.training


@settings(deadline=None)
@given(st.sets(st.text(min_size=1, max_size=6), min_size=2, max_size=30), st.integers(0, 9))
def test_a_split_repeats_keeps_both_sides_and_holds_about_a_fifth(patients, seed):
    counts = dict.fromkeys(patients, 1)
    held = split(counts, fraction=0.2, seed=seed, earlier={})
    assert held == split(dict(sorted(counts.items())), fraction=0.2, seed=seed, earlier={})
    assert sum(held.values()) == max(1, round(0.2 * len(patients)))


def test_one_patient_is_not_enough():
    with pytest.raises(ConfigError, match="two or more"):
        split({"one": 3}, fraction=0.2, seed=0, earlier={})


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match="no folder 'cases'"):
        find(tmp_path / "cases")


def test_the_sample_patient_is_refused_under_any_name(copy):
    other = copy / "BraTS-GLI-00009-000"
    shutil.copytree(copy / NAMES[0], other)
    shutil.copy(samples.STUDY / "flair.nii.gz", other / "flair.nii.gz")
    with pytest.raises(UnusableInputError, match=r"sample patient.*00009"):
        find(copy)


def test_a_case_without_truth_is_refused_by_name(copy):
    (copy / NAMES[1] / "seg.nii.gz").unlink()
    with pytest.raises(UnusableInputError, match=NAMES[1]):
        find(copy)


def test_a_case_that_cannot_be_read_is_refused_by_name(copy, tmp_path):
    for sequence in ("t1c", "flair"):
        (copy / NAMES[2] / f"{sequence}.nii.gz").write_bytes(b"no scan")
    with pytest.raises(UnusableInputError, match=f"case '{NAMES[2]}', which cannot be trained on"):
        RealCases(find(copy), tmp_path / "run", RECIPE)


def test_a_mask_of_whole_lesions_is_refused_unless_its_convention_is_named(copy):
    """It was trained on as core without an enhancing part."""
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
    monkeypatch.setattr(working_grid, "_working_grid", FINE)
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
    """Its case was taken for a healthy one."""
    case = find(root)[0]
    labels, grid = case.reference()
    affine = grid.affine.copy()
    affine[:3, 3] += 1000.0
    with pytest.raises(UnusableInputError, match="100% lies outside the images"):
        pack_case(_prepared(case), (labels, Grid(grid.shape, affine)), 5.0)


@pytest.fixture(scope="module")
def files(root, tmp_path_factory):
    cases = RealCases(find(root), tmp_path_factory.mktemp("run"), RECIPE)
    return cases._prepared_files([*cases.parts.training, *cases.parts.validation], STAGE)


@pytest.fixture
def out(files, tmp_path):
    """A folder of a run in which every case is prepared."""
    shutil.copytree(files[0].parent, tmp_path / "cases")
    return tmp_path


def test_batches_repeat_and_a_resumed_source_goes_on(files):
    whole = FolderSource(files, STAGE, DATA, 3, 0)
    first, second = whole.batch(2), whole.batch(2)
    resumed = FolderSource(files, STAGE, DATA, 3, 1).batch(2)
    assert torch.equal(second.channels, resumed.channels)
    assert torch.equal(second.labels, resumed.labels)
    assert not torch.equal(first.channels, second.channels)


def test_what_is_not_there_is_never_shown(files):
    (partial,) = [file for file in files if not read(file).present.all()]
    source = FolderSource([partial], STAGE, DATA, 0, 0)
    for _ in range(8):
        batch = source.batch(1)
        assert batch.present.any()
        assert not batch.present[0, [0, 2]].any()
        assert not batch.channels[0, [0, 2]].any()


RECIPE = small_recipe(1, 5.0)


def test_a_run_learns_from_cases_and_judges_on_those_held_out(root, out, random_weights):
    recipe = dataclasses.replace(RECIPE, init=str(random_weights))
    cases = RealCases(find(root), out, recipe)
    summary = train(recipe, out, TrainOptions(cases=cases))
    assert summary.finished
    _, info = weights.load(summary.weights)
    learnt = cases.parts.training
    before = weights.load(random_weights)[1].provenance.get("data", "unknown")
    assert (
        info.provenance["data"]
        == f"{before}, then {counted(len(learnt), 'real case')} of 1 patient"
    )
    train(recipe, out, TrainOptions(cases=cases))
    (line,) = (out / "validation.jsonl").read_text().splitlines()
    row = json.loads(line)  # once, although the finished run was called again
    assert 0 <= row["patients_wt"] <= 1
    assert len(list((out / "cases").glob("*.npz"))) == len(NAMES)
    made = [prepare(c.study(), RunContext()) for c in learnt]
    scans = {d for one in made for by in (one.scans, one.intensities) for d in by.values()}
    assert set(info.trained_on) == scans
    assert summary.trained_before == ()
    held = cases.parts.validation
    assert cases.in_training_data(scans) == ()
    known = next(iter(prepare(held[0].study(), RunContext()).scans.values()))
    assert cases.in_training_data({known, "another"}) == (held[0].name,)


def test_a_stop_while_cases_are_prepared_keeps_the_steps_before(root, tmp_path, random_weights):
    recipe = dataclasses.replace(RECIPE, init=str(random_weights))
    first = dataclasses.replace(RECIPE.stages[0], steps=2)
    second = dataclasses.replace(RECIPE.stages[0], spacing_mm=(4.0, 4.0))
    recipe = dataclasses.replace(recipe, stages=(first, second))
    stop, begun = threading.Event(), []

    def progress(stage, fraction):
        if stage.startswith("preparing") and not fraction:
            begun.append(stage)
            if len(begun) > 1:
                stop.set()

    context = RunContext(progress=progress, cancel=stop)
    cases = RealCases(find(root), tmp_path, recipe, context)
    summary = train(recipe, tmp_path, TrainOptions(cases=cases), context=context)
    assert (summary.step, summary.finished) == (2, False)
    again = RealCases(find(root), tmp_path, recipe)
    assert train(recipe, tmp_path, TrainOptions(cases=again)).resumed_at == 2


@pytest.fixture
def rerun(copy, tmp_path, random_weights):
    """Train on the cases in `copy`, in sessions of one folder; return cases, summary, weights."""

    def run(steps):
        recipe = dataclasses.replace(small_recipe(steps, 5.0), init=str(random_weights))
        data = dataclasses.replace(recipe.data, held_out=0.0)
        cases = RealCases(find(copy), tmp_path / "run", dataclasses.replace(recipe, data=data))
        summary = train(recipe, tmp_path / "run", TrainOptions(cases=cases))
        return cases, summary, weights.load(summary.weights)[1]

    return run


def test_weights_remember_cases_that_were_removed_between_sessions(copy, rerun):
    cases, _, before = rerun(1)
    gone = set(cases.training[NAMES[2]].scans)
    shutil.rmtree(copy / NAMES[2])
    _, summary, after = rerun(2)
    assert gone <= set(after.trained_on) == set(before.trained_on)
    assert "3 real cases of 2 patients" in after.provenance["data"]
    assert summary.differing == (NAMES[2],)


def test_a_case_that_was_trained_on_is_not_held_out_under_another_name(copy, rerun, tmp_path):
    rerun(1)
    shutil.move(copy / NAMES[2], copy / "renamed")
    split = {"training": {}, "validation": {"renamed": ["renamed"]}}
    (tmp_path / "run" / "split.json").write_text(json.dumps(split))
    with pytest.raises(ConfigError, match=r"held-out cases .* trained on before: renamed"):
        rerun(2)


def test_real_and_drawn_are_mixed_whole_and_in_windows(root, out):
    data = dataclasses.replace(DATA, drawn_share=0.5, drawn_kept=2, paintings=1)
    patches = PatchConfig(0.5, (32, 40, 32), (4.0, 5.0), (16, 16, 16))
    stage = dataclasses.replace(STAGE, patches=patches)
    cases = RealCases(find(root), out, RECIPE)
    source = cases.source(stage, data, 3, 0)
    windows = [source.batch(1).labels.shape[2:] == (16, 16, 16) for _ in range(24)]
    assert 6 < sum(windows) < 18
    assert len(list((out / "drawn").glob("*/*/*.npz"))) == 2 + 4
    resumed = cases.source(stage, data, 3, 23)
    assert torch.equal(
        resumed.batch(1).channels, cases.source(stage, data, 3, 23).batch(1).channels
    )
    handed = [part.shown for inner in source._sources for part in inner._sources]
    assert all(handed)


def test_a_run_on_cases_never_continues_on_synthetic_brains_nor_the_reverse(
    root, tmp_path, random_weights
):
    recipes = [dataclasses.replace(small_recipe(n, 5.0), init=str(random_weights)) for n in (1, 2)]
    for with_cases in (True, False):
        out = tmp_path / str(with_cases)
        own, other = TrainOptions(cases=RealCases(find(root), out, recipes[0])), TrainOptions()
        first, second = (own, other) if with_cases else (other, own)
        train(recipes[0], out, first)
        with pytest.raises(ConfigError, match="that would continue with"):
            train(recipes[1], out, second)
        assert train(recipes[1], out, first).step == 2


def test_nobody_is_held_out_where_the_recipe_says_so(root, tmp_path):
    recipe = dataclasses.replace(RECIPE, data=dataclasses.replace(DATA, held_out=0.0))
    parts = RealCases(find(root), tmp_path, recipe).parts
    assert (len(parts.training), parts.validation) == (len(NAMES), ())


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
    with pytest.raises(UnusableInputError, match="no signed review"):
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
    """What enhances was learnt as oedema, or as core, without a word."""
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


@pytest.mark.parametrize("kind", ["references", "signed reviews"])
def test_the_command_trains_further_and_its_weights_can_be_used(
    root, tmp_path, random_weights, kind
):
    given = [str(root)]
    if kind == "signed reviews":
        for seed, name in enumerate(("one", "two")):
            save_reviewed(tmp_path, name, seed)
        given = [str(tmp_path / "results"), "--studies", str(tmp_path / "studies")]
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        "validation_volumes = 0\ndata = {workers = 0, drawn_share = 0.5, drawn_kept = 2}\n"
        "stages = [{steps = 9, shape = [32, 40, 32], spacing_mm = [5.0, 5.0], batch = 1}]\n"
    )
    run = ["--out", str(tmp_path / "run"), "--recipe", str(recipe), "--steps", "2"]
    done = CliRunner().invoke(
        app, ["finetune", *given, *run, "--weights", str(random_weights), "--device", "cpu"]
    )
    assert done.exit_code == 0, done.output
    assert "2 of 2 steps" in done.output
    _, info = weights.load(tmp_path / "run" / "weights.safetensors")
    assert info.version.endswith("+tuned")
    assert info.trained_on
    row = json.loads((tmp_path / "run" / "validation.jsonl").read_text())
    assert 0 <= row["patients_wt"] <= 1
