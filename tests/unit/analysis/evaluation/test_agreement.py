"""Two outlines of one study: volumes, Dice, and the places that one of both drew alone."""

from dataclasses import replace

import numpy as np
from tests.phantoms.analysis import make_analysis, write_study

from lesionlens.analysis.evaluation.agreement import agreement, known_regions
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Label, Region
from lesionlens.engines.testing.simple import make_patient
from lesionlens.napari.model.state.second import SecondResult

SHAPE = (30, 30, 30)
GRID = Grid(SHAPE, np.diag([2.0, 1.0, 1.0, 1.0]))


def box(low, high, label=Label.OEDEMA):
    labels = np.zeros(SHAPE, np.uint8)
    labels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = label
    return labels


def test_equal_outlines_disagree_nowhere():
    one = box((5, 5, 5), (15, 15, 15))
    found = agreement(one, one, GRID)
    assert found.disagreements == ()
    assert not found.parts.any()
    assert found.unlisted_ml == 0.0
    whole = found.regions[0]
    assert (whole.region, whole.first_ml, whole.second_ml, whole.dice) == (Region.WT, 2.0, 2.0, 1.0)


def test_each_side_is_named_with_its_volume_and_a_voxel_within():
    both = box((5, 5, 5), (15, 15, 15))
    first = both | box((20, 5, 5), (26, 11, 11))
    second = both | box((5, 20, 20), (9, 24, 24))
    found = agreement(first, second, GRID)
    sides = [(one.by_first, round(one.volume_ml, 3)) for one in found.disagreements]
    assert sides == [(True, 0.432), (False, 0.128)]
    for one in found.disagreements:
        i, j, k = np.rint(GRID.to_voxel(one.point_mm)).astype(int)
        assert found.parts[i, j, k] == one.number


def test_the_place_of_a_part_in_one_thick_slice_is_its_middle():
    """Counted in voxels, all of its depths were one, and the first corner was shown."""
    grid = Grid(SHAPE, np.diag([1.0, 1.0, 5.0, 1.0]))
    for corner in ((10, 10, 10), (0, 10, 10)):  # within the images, and at their edge
        part = box(corner, np.add(corner, (9, 9, 1)))
        (found,) = agreement(part, np.zeros_like(part), grid).disagreements
        assert np.rint(grid.to_voxel(found.point_mm)).tolist() == [*np.add(corner, (4, 4, 0))]


def test_a_rim_of_one_voxel_counts_in_dice_alone():
    first, second = box((5, 5, 5), (15, 15, 15)), box((5, 5, 5), (15, 15, 16))
    found = agreement(first, second, GRID)
    assert found.disagreements == ()
    assert found.regions[0].dice < 1.0
    assert found.unlisted_ml == 0.2


def test_without_t1c_no_enhancing_tumour_is_compared():
    one = box((5, 5, 5), (15, 15, 15))
    rows = agreement(one, one, GRID, (Region.WT, Region.TC)).regions
    assert [row.region for row in rows] == [Region.WT, Region.TC]


def test_a_lesion_that_one_reader_alone_outlined_is_a_disagreement_down_to_its_last_voxel():
    """Adopting the other result left its protruding voxels as a candidate of less than 0.1 ml."""
    both = box((5, 5, 5), (15, 15, 15))
    lesion = box((20, 20, 20), (24, 24, 24)) | box((24, 22, 22), (27, 23, 23))
    lesion |= box((27, 23, 23), (28, 24, 24))  # joined by a corner
    for first, second in ((both | lesion, both), (both, both | lesion)):
        found = agreement(first, second, GRID)
        assert np.array_equal(found.parts == 1, lesion > 0)
        assert [part.number for part in found.disagreements] == [1]
        assert found.unlisted_ml == 0.0


def test_a_part_that_one_of_both_does_not_distinguish_is_not_compared(tmp_path):
    """An outline of whole lesions was told to have 0 ml of core and a Dice of 0 there."""
    patient = make_patient(spacing_mm=4.0)
    analysis = make_analysis(patient, write_study(patient, tmp_path))
    candidates = analysis.findings.candidates
    for parts, known in (
        ((), tuple(Region)),
        ((Region.ET,), (Region.WT, Region.TC)),
        ((Region.TC, Region.ET), (Region.WT,)),
    ):
        changed = tuple(c.without_parts(parts) for c in candidates)
        other = replace(analysis, findings=replace(analysis.findings, candidates=changed))
        assert known_regions(other) == known
        for first, second in ((analysis, other), (other, analysis)):
            compared = SecondResult.of("B", second, first)
            for shown in (compared, compared.against(first)):
                assert tuple(row.region for row in shown.agreement.regions) == known
