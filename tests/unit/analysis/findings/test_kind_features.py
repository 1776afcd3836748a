"""Features of a candidate: what they measure, and that neither unit nor side matters."""

import functools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from tests.helpers.storage_order import grid_stored, orders, stored

from lesionlens.analysis.findings.anatomy import head_of
from lesionlens.analysis.findings.kind_features import (
    coarse_of,
    features_of,
    lattice_of,
    sphericity,
)
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import PreparedStudy

SHAPE = (64, 76, 60)
T1, T1C, T2, FLAIR = range(4)


def _offset(centre):
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"), -1)
    return grid - np.array(centre)


def ball(centre, radius):
    """A ball, in voxels."""
    return np.linalg.norm(_offset(centre), axis=-1) <= radius


@functools.cache
def head(present=(True, True, True, True), spacing_mm=2.0):
    """A brain with some texture, without a lesion."""
    rng = np.random.default_rng(0)
    middle = [(n - 1) / 2 for n in SHAPE]
    brain = np.linalg.norm(_offset(middle) / (np.array(SHAPE) * 0.47), axis=-1) <= 1
    noise = rng.normal(0, 12, SHAPE) + rng.normal(0, 2, (4, *SHAPE))  # tissue is in all of them
    noise = (noise + noise[:, ::-1]) / 2  # the mirror image of this brain is itself
    channels = np.where(brain, 100 + noise, 0).astype(np.float32)
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = [-spacing_mm * m for m in middle]
    grid = Grid(SHAPE, affine)
    shown = np.array(present)
    return PreparedStudy(
        channels=channels * shown[:, None, None, None],
        present=shown,
        brain=brain,
        working=grid,
        native=grid,
        to_native=np.eye(4),
        reference=MrSequence.FLAIR,
    )


def shown(study, changes):
    """The study with intensities added: (channel, mask, amount)."""
    channels = study.channels.copy()
    for channel, mask, amount in changes:
        channels[channel][mask] += amount
    return replace(study, channels=channels)


def measured(study, mask, number=1):
    return features_of(
        lattice_of(coarse := coarse_of(study, head_of(study)), coarse.sampled(mask)), number
    )


@pytest.fixture(scope="module")
def enhancing():
    """A ball that enhances in a head of 1 mm, its outline, and its features."""
    study = shown(head(spacing_mm=1.0), [(T1C, ball((23, 40, 31), 9), 60)])
    outline = ball((23, 40, 31), 9).astype(np.int32)
    return study, outline, measured(study, outline)


@settings(max_examples=16, deadline=None)
@given(order=orders())
def test_features_do_not_depend_on_the_order_in_which_voxels_are_stored(enhancing, order):
    study, outline, features = enhancing
    turned = grid_stored(study.native, order)
    to_native = np.linalg.inv(turned.affine) @ study.working.affine
    other = replace(study, native=turned, to_native=to_native)
    assert measured(other, stored(outline, order)) == features


@pytest.fixture
def ring():
    """A hollow ball that enhances, and its outline."""
    whole, inner = ball((22, 40, 32), 9), ball((22, 40, 32), 6)
    study = shown(
        head(), [(T1C, whole & ~inner, 60), (T1, inner, -30), (T1C, inner, -30), (FLAIR, whole, 40)]
    )
    return study, whole.astype(np.int32)


def test_a_ring_is_hollow_and_a_ball_is_not(ring):
    study, outline = ring
    solid = shown(head(), [(T1C, outline > 0, 60)])
    hollow, full = measured(study, outline), measured(solid, outline)
    assert hollow["uptake.hollow"] > 0.2 > full["uptake.hollow"]
    assert hollow["uptake.share"] < 0.8 < full["uptake.share"]
    assert hollow["uptake.inner"] < full["uptake.inner"]


def test_what_is_bright_on_t1_already_takes_up_nothing():
    blood = ball((22, 40, 32), 7)
    features = measured(shown(head(), [(T1, blood, 60), (T1C, blood, 60)]), blood.astype(np.int32))
    assert features["uptake.share"] < 0.1
    assert features["bright.share"] > 0.9


def test_fluid_is_dark_on_flair_and_bright_on_t2():
    hole = ball((22, 40, 32), 7)
    study = shown(head(), [(T1, hole, -60), (T2, hole, 80), (FLAIR, hole, -60)])
    features = measured(study, hole.astype(np.int32))
    assert features["fluid.t2"] > 0.9
    assert features["fluid.t1"] > 0.9
    assert measured(head(), hole.astype(np.int32))["fluid.t2"] < 0.1


def test_depth_tells_the_surface_from_the_middle():
    shallow, deep = (ball(c, 4).astype(np.int32) for c in ((7, 38, 30), (26, 38, 30)))
    assert measured(head(), shallow)["at_surface"] > measured(head(), deep)["at_surface"]
    assert measured(head(), deep)["depth_least"] > 20


def test_the_others_are_counted():
    several = ball((22, 40, 32), 6).astype(np.int32)
    alone = measured(head(), several)
    for number, centre in enumerate(((44, 40, 32), (44, 24, 32)), start=2):
        several[ball(centre, 3)] = number
    among = measured(head(), several)
    assert alone["count"] == 0 < among["count"]
    assert among["others"] > alone["others"]
    assert measured(head(), several, 2)["rank"] > among["rank"]


@pytest.mark.parametrize("gain", [(0.01, 0), (30, 500)])
def test_neither_unit_nor_offset_of_the_intensities_matters(ring, gain):
    study, outline = ring
    scale, offset = gain
    other = replace(study, channels=(study.channels * scale + offset).astype(np.float32))
    first, second = measured(study, outline), measured(other, outline)
    for name, value in first.items():
        assert second[name] == pytest.approx(value, rel=0.02, abs=0.02), name


def test_the_mirror_image_measures_the_same(ring):
    study, outline = ring
    other = replace(study, channels=study.channels[:, ::-1].copy(), brain=study.brain[::-1].copy())
    first, second = measured(study, outline), measured(other, outline[::-1].copy())
    for name, value in first.items():
        assert second[name] == pytest.approx(value, rel=0.02, abs=0.05), name


def test_a_native_grid_stored_in_another_order_measures_the_same(ring):
    study, outline = ring
    turn = np.array([[0, 0, 1, 0], [0, -1, 0, SHAPE[1] - 1], [1, 0, 0, 0], [0, 0, 0, 1.0]])
    turned = np.transpose(outline, (2, 1, 0))[:, ::-1].copy()
    grid = Grid(turned.shape, study.native.affine @ np.linalg.inv(turn))
    other = replace(study, native=grid, to_native=turn)
    assert measured(other, turned) == measured(study, outline)


def test_half_the_spacing_measures_about_the_same():
    """A working grid of 1 mm is averaged to 2 mm."""
    fine = head(spacing_mm=1.0)
    coarse = coarse_of(fine, head_of(fine))
    assert coarse is not None
    assert coarse.grid.spacing_mm == pytest.approx([2.0] * 3)
    assert coarse.brain.sum() * 8 == pytest.approx(fine.brain.sum(), rel=0.05)


def test_absent_sequences_have_no_features(ring):
    study, outline = ring
    part = replace(study, present=np.array([False, False, False, True]))
    names = set(measured(part, outline))
    assert {name.partition(".")[0] for name in names if "." in name} == {"flair"}
    every, some = (
        {name.partition(".")[0] for name in measured(replace(study, present=np.array(p)), outline)}
        for p in ([True] * 4, [False, True, False, True])
    )
    assert every - some == {"t1", "t2", "uptake", "fluid"}


def test_an_outline_between_the_lattice_points_is_not_measured():
    assert measured(head(), np.zeros(SHAPE, np.int32)) is None


def test_a_ball_is_rounder_than_a_plate():
    plate = np.zeros(SHAPE, bool)
    plate[10:40, 10:40, 20:22] = True
    assert sphericity(ball((30, 30, 30), 9)) == pytest.approx(1, abs=0.06)
    assert sphericity(plate) < 0.6
