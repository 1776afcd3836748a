"""Names are doubted: exchanged sequences are found, right ones are not accused."""

from itertools import combinations

import numpy as np
import pytest

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import MrSequence
from lesionlens.base.run_context import RunContext
from lesionlens.engines.testing.simple import make_patient
from lesionlens.imaging.preparation import exchanged_names, quality
from lesionlens.imaging.preparation.prepare import PrepareOptions, prepare
from lesionlens.imaging.reading.readers import open_study

T1, T1C, T2, FLAIR = MrSequence
PAIRS = list(combinations(MrSequence, 2))


@pytest.fixture(scope="module")
def head():
    return make_patient(spacing_mm=3.0)


@pytest.fixture(scope="module")
def images(head):
    return {sequence: volume.data for sequence, volume in head.sequences.items()}


def test_right_names_are_not_doubted(images, head):
    check = exchanged_names.check(images, head.brain.data)
    assert check is not None
    assert check.passed


@pytest.mark.parametrize("pair", PAIRS)
def test_exchanged_names_are_found_and_named(images, head, pair):
    one, other = pair
    swapped = {**images, one: images[other], other: images[one]}
    check = exchanged_names.check(swapped, head.brain.data)
    assert check is not None
    assert not check.passed
    assert f"{one.display_name} and {other.display_name} seem exchanged" in check.message


def test_two_sequences_alone_are_told_apart(images, head):
    as_named = {T2: images[T2], FLAIR: images[FLAIR]}
    assert exchanged_names.exchanged(as_named, head.brain.data) is None
    found = exchanged_names.exchanged({T2: images[FLAIR], FLAIR: images[T2]}, head.brain.data)
    assert found is not None
    assert found == (T2, FLAIR)


def test_the_unit_of_brightness_plays_no_part(images, head):
    factors = dict(zip(MrSequence, (1e-6, 1.0, 30.0, 1e6), strict=True))
    scaled = {s: v * np.float32(factors[s]) for s, v in images.items()}
    scaled[T2], scaled[FLAIR] = scaled[FLAIR], scaled[T2]
    found = exchanged_names.exchanged(scaled, head.brain.data)
    assert found is not None
    assert found == (T2, FLAIR)


def test_one_sequence_is_not_compared(images, head):
    assert exchanged_names.check({T2: images[T2]}, head.brain.data) is None


def test_one_image_under_two_names_is_refused(images, head):
    twice = {**images, FLAIR: images[T2] * np.float32(0.5) + np.float32(3)}
    with pytest.raises(UnusableInputError, match="T2 and FLAIR are the same"):
        exchanged_names.check(twice, head.brain.data)


def test_preparing_a_study_with_exchanged_names_says_so(make_study):
    folder = make_study()
    named = {T2: folder / "flair.nii.gz", FLAIR: folder / "t2.nii.gz"}
    study = open_study(folder, named=named)
    options = PrepareOptions(edge_mm=4.0, strip=False, sides=False, cache=False)
    found = prepare(study, RunContext(), options)
    (check,) = (q for q in found.quality if q.check == "names")
    assert not check.passed


def test_uptake_in_t1_instead_of_t1c_fails_the_check_of_contrast(images, head):
    swapped = {T1: images[T1C], T1C: images[T1]}
    check = quality.contrast_agent(swapped, head.brain.data)
    assert check is not None
    assert not check.passed
