"""Names are doubted: swapped sequences are found, right ones are not accused."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pytest

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import MrSequence
from lesionlens.imaging.preparation.checks import swapped_names
from lesionlens.imaging.preparation.checks.swapped_names import NameVerdict
from lesionlens.testing import make_patient

T1, T1C, T2, FLAIR = MrSequence
PAIRS = list(combinations(MrSequence, 2))


@pytest.fixture(scope="module")
def head():
    return make_patient(spacing_mm=3.0)


@pytest.fixture(scope="module")
def images(head):
    return {sequence: volume.data for sequence, volume in head.sequences.items()}


def judged(images, head):
    found = swapped_names.judge(images, head.brain.data)
    assert found is not None
    return found


def test_right_names_are_not_doubted(images, head):
    check = swapped_names.check(images, head.brain.data)
    assert check is not None
    assert check.passed


@pytest.mark.parametrize("pair", PAIRS)
def test_swapped_names_are_found_and_named(images, head, pair):
    one, other = pair
    swapped = {**images, one: images[other], other: images[one]}
    check = swapped_names.check(swapped, head.brain.data)
    assert check is not None
    assert not check.passed
    assert f"{one.display_name} and {other.display_name} seem to be swapped" in check.message


def test_two_sequences_alone_are_told_apart(images, head):
    as_named = {T2: images[T2], FLAIR: images[FLAIR]}
    assert judged(as_named, head) == NameVerdict()
    assert judged({T2: images[FLAIR], FLAIR: images[T2]}, head).swapped == (T2, FLAIR)


def test_the_unit_of_brightness_plays_no_part(images, head):
    factors = dict(zip(MrSequence, (1e-6, 1.0, 30.0, 1e6), strict=True))
    scaled = {s: v * np.float32(factors[s]) for s, v in images.items()}
    scaled[T2], scaled[FLAIR] = scaled[FLAIR], scaled[T2]
    assert judged(scaled, head).swapped == (T2, FLAIR)


def test_one_image_under_two_names_is_refused(images, head):
    twice = {**images, FLAIR: images[T2] * np.float32(0.5) + np.float32(3)}
    with pytest.raises(UnusableInputError, match="T2 and FLAIR are the same"):
        swapped_names.check(twice, head.brain.data)


@dataclass(frozen=True)
class Plain:
    """Images with one feature each, under the name that an image is given."""

    own: dict[MrSequence, float]

    def features(self, images):
        return {f"{name} value": self.own[image] for name, image in images.items()}


def verdict_of(*values, variance=0.1):
    """Judge four images of which T1 is usually 0, T1c 1, T2 5 and FLAIR 6."""
    model = [f"{s} value" for s in MrSequence], np.array([0.0, 1.0, 5.0, 6.0]), variance * np.eye(4)
    given = {s: s for s in MrSequence}
    images = Plain(dict(zip(MrSequence, values, strict=True)))
    return swapped_names.verdict(images, given, model)


def test_names_that_images_do_not_tell_apart_are_neither_confirmed_nor_contradicted():
    assert verdict_of(0.0, 1.0, 5.0, 6.0) == NameVerdict()
    assert verdict_of(0.5, 0.6, 5.0, 6.0).undecided == (T1, T1C)
    assert verdict_of(0.0, 1.0, 5.6, 5.4).undecided == (T2, FLAIR)


def test_a_swap_is_named_alone_only_if_no_other_fits_about_as_well():
    assert verdict_of(1.0, 0.0, 5.0, 6.0).swapped == (T1, T1C)
    assert verdict_of(0.5, 0.5, 6.0, 5.0).swapped == (T2, FLAIR)
    assert verdict_of(5.5, 1.0, 2.2, 4.0, variance=1.0).swapped == (T1, T2, FLAIR)
    in_a_circle = verdict_of(1.0, 5.0, 0.0, 6.0)
    assert in_a_circle.swapped == (T1, T1C, T2)


def test_a_check_that_cannot_tell_reads_as_no_confirmation(images, head):
    noise = np.random.default_rng(0).normal(0, 30, images[T1].shape).astype(np.float32)
    alike = {T1: images[T1], T1C: np.where(images[T1] > 0, (images[T1] + noise).clip(1), 0)}
    check = swapped_names.check(alike, head.brain.data)
    assert check is not None
    assert check.outcome is None
    assert "neither confirm nor contradict the names of T1 and T1c" in check.message
    apart = {T1: images[T1] * (head.brain.data[::-1] > 2), T2: images[T2]}
    seen = swapped_names.check(apart, head.brain.data)
    assert seen is not None
    assert seen.outcome is None
