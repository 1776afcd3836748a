"""What an image looks like is asked last, overrides nobody and is unsure rather than wrong."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lesionlens.base.errors import CancelledError, ReadError
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import EvidenceKind, Series
from lesionlens.base.run_context import RunContext
from lesionlens.imaging.preparation.checks import single_name, tissue_contrast
from lesionlens.imaging.preparation.checks.tissue_contrast import TissueContrast
from lesionlens.imaging.reading import sequence_from_image, unlabelled_series
from lesionlens.imaging.reading.readers import open_study
from lesionlens.imaging.reading.sequences import UNKNOWN, Guess
from lesionlens.network.synth.generator import GeneratorConfig, draw
from lesionlens.results.export.report_texts import load

T1, T1C, T2, FLAIR = MrSequence
DATA = Path(__file__).resolve().parents[4].parent / "shared/data"
RAMP = np.linspace(1, 900, 20 * 20 * 20).reshape(20, 20, 20).astype(np.float32)
SILENT = Series(
    None,
    UNKNOWN.evidence,
    0.0,
    Grid(RAMP.shape, np.diag([8.0, 8.0, 8.0, 1.0])),
    (),
    lambda: RAMP,
    "a.nii",
    evidence_kind=EvidenceKind.NOTHING,
)


@pytest.fixture
def looks_like(monkeypatch):
    """Make every image look like one sequence, and count how often it was asked."""
    asked = []

    def make(sequence):
        def guess(values, grid):
            asked.append(grid)
            return Guess(sequence, "the image itself", 0.45)

        monkeypatch.setattr(sequence_from_image, "guess", guess)
        return asked

    return make


def test_a_silent_series_is_taken_for_what_it_looks_like_with_a_notice(looks_like):
    looks_like(T2)
    found, notices = unlabelled_series.identify_by_image([SILENT], set())
    assert found[0].sequence is T2
    assert found[0].confidence < 0.5
    assert "a.nii" in notices[0]
    assert "--t2" in notices[0]


def test_a_name_or_header_that_speaks_is_never_asked_again(looks_like):
    asked = looks_like(FLAIR)
    told = replace(SILENT, sequence=T1, detected_by="file name", evidence_kind=EvidenceKind.TEXT)
    never = replace(
        SILENT, detected_by="a mask or segmentation by its name", evidence_kind=EvidenceKind.TEXT
    )
    found, notices = unlabelled_series.identify_by_image([told, never], set())
    assert found == [told, never]
    assert not asked
    assert not notices


@pytest.mark.parametrize("by_name", [True, False])
def test_a_sequence_that_is_there_already_is_not_given_twice(looks_like, by_name):
    looks_like(T2)
    other = replace(SILENT, sequence=T2, detected_by="file name", evidence_kind=EvidenceKind.TEXT)
    found, notices = unlabelled_series.identify_by_image(
        [SILENT, *([other] if by_name else [])], set() if by_name else {T2}
    )
    assert found[0].sequence is None
    assert "another" in found[0].detected_by
    assert not notices


def test_only_so_many_images_are_read(looks_like):
    asked = looks_like(None)
    unlabelled_series.identify_by_image([SILENT] * 20, set())
    assert len(asked) == unlabelled_series.MAX_IMAGES


def test_an_image_that_cannot_be_read_stays_silent(looks_like):
    def broken():
        raise ReadError(found="a", expected="b", next_step="c")

    looks_like(T2)
    found, _ = unlabelled_series.identify_by_image([replace(SILENT, load=broken)], set())
    assert found[0].sequence is None


def test_a_request_to_stop_is_heard():
    stop = threading.Event()
    stop.set()
    with pytest.raises(CancelledError):
        unlabelled_series.identify_by_image([SILENT], set(), context=RunContext(cancel=stop))


def test_a_head_without_tissue_is_none_of_the_four(patient):
    brain = patient.brain
    rng = np.random.default_rng(0)
    values = (brain.data * rng.normal(600, 25, brain.data.shape)).astype(np.float32)
    assert sequence_from_image.guess(values, brain.grid).sequence is None


@pytest.fixture(scope="module")
def drawn():
    """The four images of a synthetic brain, each measured once, and their grid."""
    known, measured = {}, sequence_from_image.measure_contrast

    def once(values, grid):
        key = values.tobytes()
        if key not in known:
            known[key] = measured(values, grid)
        return known[key]

    config = GeneratorConfig(shape=(56, 68, 56), spacing_mm=(3.0, 3.0))
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = -1.5 * (np.asarray(config.shape) - 1)
    with pytest.MonkeyPatch.context() as change:
        for module in (sequence_from_image, single_name):
            change.setattr(module, "measure_contrast", once)
        yield draw(config, [42]).channels[0].numpy(), Grid(config.shape, affine)


def test_a_drawn_brain_is_recognised_or_left_open_never_mistaken(drawn):
    images, grid = drawn
    found = [sequence_from_image.guess(image, grid).sequence for image in images]
    assert found[2] is T2
    assert all(s in (None, mine) for s, mine in zip(found, MrSequence, strict=True))


@pytest.mark.parametrize(
    ("chances", "distance", "doubted"),
    [
        ([0.5, 0.49, 0.00009, 0.00991], 1.0, True),
        ([0.5, 0.49, 0.0002, 0.0098], 1.0, False),
        ([0.5, 0.49, 0.00009, 0.00991], 7.0, False),
    ],
)
def test_a_single_image_that_contradicts_its_name_is_named(monkeypatch, chances, distance, doubted):
    found = TissueContrast(0.8, (0.3, 0.5), (1.2, 1.6))
    monkeypatch.setattr(single_name, "measure_contrast", lambda *_: found)
    monkeypatch.setattr(tissue_contrast, "posterior", lambda *_: (np.array(chances), distance))
    named = replace(SILENT, sequence=T2, evidence_kind=EvidenceKind.TEXT)
    check = single_name.check(named, RAMP)
    assert (check is not None) is doubted
    if check is not None:
        assert (check.check, check.passed) == ("names", False)
        assert "called T2 looks like another sequence, most likely T1" in check.message
    by_image = replace(named, evidence_kind=EvidenceKind.IMAGE)
    assert single_name.check(by_image, RAMP) is None


def test_a_single_image_is_doubted_under_a_wrong_name_alone(drawn):
    images, grid = drawn

    def doubted(image, name):
        one = replace(SILENT, sequence=name, evidence_kind=EvidenceKind.TEXT, grid=grid)
        return single_name.check(one, image) is not None

    assert not any(map(doubted, images, MrSequence))
    assert all(doubted(images[2], name) for name in (T1, T1C, FLAIR))


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize(
    "case", ["tumour/BraTS2021_01480", "non_tumour_ms/openms_patient01_study2"]
)
def test_a_real_sequence_is_recognised_or_left_open_never_mistaken(case):
    if not (DATA / case).is_dir():
        pytest.skip("the developers' folder of real scans is not here")
    for sequence, series in open_study(DATA / case).series.items():
        assert sequence_from_image.guess(series.load(), series.grid).sequence in (None, sequence)


@pytest.fixture
def guess_of(monkeypatch):
    """Return the guess for an image with these probabilities of the four sequences."""
    found = TissueContrast(0.8, (0.3, 0.5), (1.2, 1.6))
    monkeypatch.setattr(tissue_contrast, "register_tissues", lambda *_: (None, None))
    monkeypatch.setattr(tissue_contrast, "measure_tissues", lambda *_: found)

    def guess(chances):
        monkeypatch.setattr(tissue_contrast, "posterior", lambda *_: (np.array(chances), 1.0))
        return sequence_from_image.guess(RAMP, SILENT.grid)

    return guess


def test_an_unsure_image_names_the_two_likeliest(guess_of):
    guess = guess_of([0.28, 0.7, 0.01, 0.01])
    assert guess.sequence is None
    assert guess.ranked == ((MrSequence.T1C, 0.7), (MrSequence.T1, 0.28))


def test_no_sequence_is_recognised_with_certainty(guess_of):
    evidence = guess_of([0.0, 0.0, 0.9999, 0.0001]).evidence
    assert evidence.startswith("the image itself, >99%: grey")
    assert load("de").message(evidence).startswith("das Bild selbst, >99 %: graue Substanz")


def test_a_field_of_view_of_metres_is_no_head_and_takes_no_time(monkeypatch):
    """A head of 50 mm voxels was resampled to 3 mm: minutes, and gigabytes."""
    monkeypatch.setattr(tissue_contrast, "on_ras_grid", None)
    grid = Grid((64, 64, 64), np.diag([50.0, 50.0, 50.0, 1.0]))
    found = sequence_from_image.guess(np.ones(grid.shape, np.float32), grid)
    assert found.sequence is None
