"""Checks of attention maps: each region's map on its own region, at its own coarseness."""

import numpy as np
import pytest
from scipy import ndimage

from lesionlens.analysis.explain import checks
from lesionlens.analysis.findings.components import ComponentMask
from lesionlens.base.labels import Label, Region
from lesionlens.base.records.prediction import Trace


@pytest.fixture(scope="module")
def study(make_prepared):
    return make_prepared()


@pytest.fixture(scope="module")
def places(study):
    """Two balls in the brain, far from each other."""
    inside = np.argwhere(study.brain)
    out = []
    for quantile in (0.25, 0.75):
        at = inside[np.abs(inside - np.quantile(inside, quantile, axis=0)).sum(1).argmin()]
        away = ((np.indices(study.brain.shape) - at.reshape(3, 1, 1, 1)) ** 2).sum(0)
        out.append((away <= 25) & study.brain)
    return out


def checked(study, flagged, spacing_mm=0.0, **maps):
    grid = study.working
    labels = np.where(flagged, Label.ENHANCING, 0).astype(np.uint8)
    components = ComponentMask(labels, flagged.astype(np.int32), 1, grid)
    cross = {region: maps.get(region.value, flagged.astype(np.float32)) for region in Region}
    trace = Trace(cross, "a test", ("one",), spacing_mm=spacing_mm)
    return checks.check_maps(trace, cross, components, study)


@pytest.mark.parametrize("region", Region)
def test_a_map_of_its_region_passes(study, places, region):
    found = checked(study, places[0])[region]
    assert found.reliable
    assert found.peak_inside
    assert found.mass_inside == pytest.approx(1)
    assert found.volume_share < 0.2


@pytest.mark.parametrize("region", Region)
def test_a_map_of_another_place_fails_and_so_do_those_of_its_layer(study, places, region):
    flagged, elsewhere = places
    found = checked(study, flagged, **{region.value: elsewhere.astype(np.float32)})
    assert not found[region].peak_inside
    assert found[region].mass_inside == 0
    assert {r: c.reliable for r, c in found.items()} == dict.fromkeys(Region, False)


def test_a_map_that_is_partly_elsewhere_fails_though_its_peak_is_inside(study, places):
    flagged, elsewhere = places
    found = checked(study, flagged, wt=flagged + elsewhere * np.float32(0.5))[Region.WT]
    assert found.peak_inside
    assert found.reliable is False


def test_a_map_that_lies_outside_by_its_coarseness_alone_is_not_contradicted(study, places):
    flagged = places[0]
    cubes = ndimage.uniform_filter(flagged.astype(np.float32), 8)
    coarse = dict.fromkeys(("wt", "tc", "et"), cubes)
    assert checked(study, flagged, **coarse)[Region.WT].reliable is False
    found = checked(study, flagged, spacing_mm=32.0, **coarse)[Region.WT]
    assert found.attainable < checks.MIN_NEAR
    assert found.reliable is None
    assert checks.too_coarse(found)
    moved = dict.fromkeys(coarse, np.roll(cubes, 20, axis=1))
    assert checked(study, flagged, spacing_mm=32.0, **moved)[Region.WT].reliable is False


def test_without_flag_or_attention_nothing_is_judged(study, places):
    flagged = places[0]
    nothing = np.zeros_like(flagged)
    for found in (checked(study, nothing), checked(study, flagged, wt=nothing.astype(np.float32))):
        assert found[Region.WT].reliable is None
        assert found[Region.WT].peak_inside is None


def test_an_even_map_has_the_mass_of_its_volume(study, places):
    found = checked(study, places[0], wt=study.brain.astype(np.float32))[Region.WT]
    assert found.mass_inside == pytest.approx(found.volume_share)
    assert found.reliable is False
