"""Doubtful parts: where a voxel is undecided and at most one sequence shows it."""

from dataclasses import replace

import numpy as np
import pytest

from lesionlens.analysis.findings import doubtful
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.evidence import SequenceEvidence
from lesionlens.base.records.findings import Candidate, Location, MapAgreement

NATIVE = Grid((30, 24, 20), np.diag([-1.0, 1.0, 1.0, 1.0]))
COARSE = Grid((10, 8, 7), np.array([[3.0, 0, 0, -28], [0, 3, 0, 1], [0, 0, 3, 1], [0, 0, 0, 1]]))
CANDIDATE = Candidate(
    *(1, "2.25.1", 0.9, (0, 0, 0), ((0, 0, 0), (1, 1, 1)), (0, 0, 0), {}, None, None, None),
    *(Location(None, None), 0.2, MapAgreement(None, None), None),
)  # fmt: skip
T1, T1C, T2, FLAIR = MrSequence


def outlined():
    components = np.zeros(NATIVE.shape, np.int32)
    components[3:27, 3:21, 3:18] = 1
    return components


def evidence_of(doubted, **there):
    """Every sequence adds .2 everywhere; within voxels of the coarse grid what `there` has."""
    shares = {s: np.full(COARSE.shape, 0.2, np.float32) for s in MrSequence}
    for name, value in there.items():
        shares[MrSequence(name)][doubted] = value
    return SequenceEvidence(shares, np.zeros(COARSE.shape, np.float32), COARSE)


LEFT = np.s_[:4]
"""On the coarse grid, whose first axis runs against the native one: the last native voxels."""


def found_with(uncertainty=0.7, components=None, **there):
    unsure = np.full(NATIVE.shape, uncertainty, np.float32)
    components = outlined() if components is None else components
    evidence = evidence_of(LEFT, **there)
    return doubtful.doubtful_parts([CANDIDATE], components, unsure, evidence, NATIVE)


def test_a_part_that_one_sequence_shows_is_named_with_its_volume_and_reason():
    (part,), numbers = found_with(t1=0.0, t1c=-0.1, t2=-0.2, flair=0.4)
    assert (part.number, part.candidate) == (1, 1)
    assert part.in_favour == (FLAIR,)
    assert part.against == (T2, T1C)
    assert part.reason == "FLAIR alone shows it; T2 and T1c speak against it"
    assert part.volume_ml == pytest.approx((numbers == 1).sum() / 1000)
    assert numbers[26, 10, 10] == 1
    assert numbers[5, 10, 10] == 0
    assert part.centroid_mm[0] < -15
    assert part.uncertainty == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("uncertainty", "there"),
    [
        (0.45, {"t1": 0.0, "t1c": 0.0, "t2": 0.0}),
        (0.9, {"t1": 0.0, "t1c": 0.0}),
    ],
)
def test_what_is_decided_or_shown_by_two_sequences_is_not_doubted(uncertainty, there):
    parts, numbers = found_with(uncertainty, **there)
    assert parts == ()
    assert not numbers.any()


def test_a_small_part_is_not_named():
    components = outlined()
    components[15:] = 0
    components[21, 10, 10] = 1
    assert found_with(components=components, t1=0, t1c=0, t2=0, flair=0)[0] == ()


def test_a_part_of_exactly_the_minimum_volume_is_named_whatever_its_header_rounds():
    components = np.zeros(NATIVE.shape, np.int32)
    components[20:26, 3:13, 3:8] = 1  # 300 voxels
    affine = NATIVE.affine.copy()
    affine[:3, :3] *= 1 - 1e-7
    unsure = np.full(NATIVE.shape, 0.7, np.float32)
    evidence = evidence_of(LEFT, t1=0.0, t1c=0.0, t2=0.0)
    parts, _ = doubtful.doubtful_parts(
        [CANDIDATE], components, unsure, evidence, Grid(NATIVE.shape, affine)
    )
    assert [part.volume_ml for part in parts] == [pytest.approx(0.3)]


def test_a_part_that_a_reader_left_out_is_named_no_longer():
    parts, numbers = found_with(t1=0.0, t1c=0.0, t2=0.0)
    components = outlined()
    same, drawn = doubtful.remaining_parts(parts, numbers, components, None, NATIVE)
    assert same == parts
    np.testing.assert_array_equal(drawn, numbers)
    components[numbers == 1] = 0
    none, drawn = doubtful.remaining_parts(parts, numbers, components, None, NATIVE)
    assert none == ()
    assert not drawn.any()


def test_a_part_of_an_edited_outline_is_measured_where_it_lies_in_it():
    """It kept the volume that the network drew, and the candidate that it was split or merged from.

    So the report named 23 ml of doubt in an outline of 11, or of a candidate that was not there.
    """
    (part,), numbers = found_with(t1=0.0, t1c=0.0, t2=0.0)
    before = np.argwhere(numbers == 1)
    components, unsure = outlined(), np.full(NATIVE.shape, 0.7, np.float32)
    components[numbers == 1] = 2  # split off
    unsure[numbers == 1] = 0.9
    cut = before[: len(before) // 3]
    components[tuple(cut.T)] = 0
    (left,), drawn = doubtful.remaining_parts((part,), numbers, components, unsure, NATIVE)
    rest = before[len(before) // 3 :]
    assert (left.number, left.candidate) == (1, 2)
    assert left.volume_ml == pytest.approx(len(rest) / 1000)
    assert left.centroid_mm == pytest.approx(NATIVE.to_mm(rest.mean(axis=0)))
    assert left.uncertainty == pytest.approx(0.9)
    np.testing.assert_array_equal(np.argwhere(drawn), rest)


def test_no_sequence_in_favour_is_said_so():
    (part,), _ = found_with(t1=0.0, t1c=0.0, t2=0.0, flair=-0.3)
    assert part.reason == "no sequence shows it on its own; FLAIR speaks against it"
    assert replace(part, against=()).reason == "no sequence shows it on its own"
