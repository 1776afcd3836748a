"""Candidates that are made of segments: their parts, their origin and their numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from tests.phantoms.analysis import make_analysis, write_study

from lesionlens.base.grid import Grid
from lesionlens.base.labels import DrawingMethod, Label, MrSequence, Source
from lesionlens.engines.testing.simple import Lesion, make_patient
from lesionlens.results.review.segment_candidates import (
    identified_components,
    renumbered,
    select_lesions,
)
from lesionlens.results.review.segments import Frame, Part, ReadSegment, SegmentKind, _segment
from lesionlens.results.review.stated_lesions import StatedLesion, StatedLesions


@pytest.fixture(scope="module")
def analysed(tmp_path_factory):
    """Two candidates."""
    lesions = (Lesion(), Lesion((30.0, -40.0, 12.0), 12.0))
    head = make_patient(spacing_mm=4.0, lesions=lesions)
    place = tmp_path_factory.mktemp("analysed")
    return make_analysis(head, write_study(head, place, sequences=(MrSequence.T1C,)))


GRID = Grid((6, 4, 4), np.eye(4))
BY_HAND, ASSISTED = DrawingMethod.MANUAL, DrawingMethod.SEMIAUTOMATIC


def segment(uid: str | None, part: Part, first: int, last: int) -> ReadSegment:
    """Return a segment between two slices of the first axis."""
    mask = np.zeros(GRID.shape, bool)
    mask[first : last + 1] = True
    return ReadSegment("a lesion", part, SegmentKind.LESION, uid, mask, resampled=False)


@pytest.mark.parametrize("order", [1, -1])
def test_the_inner_parts_of_a_candidate_lie_on_the_outer_ones_in_any_order(order):
    segments = [
        segment("1.1", Part.WHOLE, 0, 3),
        segment("1.1", Part.CORE, 1, 2),
        segment("1.1", Part.ENHANCING, 2, 2),
    ][::order]
    found = identified_components(segments, GRID)
    expected = (Label.OEDEMA, Label.CORE, Label.ENHANCING, Label.OEDEMA, 0, 0)
    assert tuple(found.mask.labels[:, 0, 0].tolist()) == expected
    assert (found.uids, found.mask.count) == (["1.1"], 1)


def test_no_hole_is_left_where_several_parts_share_a_voxel():
    """No part covered half of such a voxel, and it was lost from the whole lesion."""
    distance = np.linalg.norm(np.indices((32, 32, 32)) - 15.5, axis=0)
    coarse = Grid((16, 16, 16), np.array(
        [[-2, 0, 0, -0.5], [0, -2, 0, -0.5], [0, 0, 2, 0.5], [0, 0, 0, 1]], np.float64
    ))  # fmt: skip

    def drawn(name: str, mask: NDArray[np.bool_]) -> ReadSegment:
        item = Dataset()
        item.SegmentLabel = name
        planes = (np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, k]]) for k in range(32))
        frames = [Frame(1, mask[:, :, k].T, plane) for k, plane in enumerate(planes)]
        return _segment(item, frames, 1.0, coarse)

    whole = drawn("tumour", distance < 14)
    parts = [
        drawn("oedema", (distance >= 9) & (distance < 14)),
        drawn("enhancing", (distance >= 8) & (distance < 9)),
        drawn("necrosis", distance < 8),
    ]
    assert not np.array_equal(np.logical_or.reduce([part.mask for part in parts]), whole.mask)
    labels = identified_components(parts, coarse).mask.labels
    assert np.array_equal(labels > 0, whole.mask)
    core = drawn("core", distance < 9)
    assert np.array_equal((labels == Label.CORE) | (labels == Label.ENHANCING), core.mask)


def test_lesions_are_the_segments_labelled_so_or_else_all_that_are_no_anatomy():
    lesion = segment("1.1", Part.WHOLE, 0, 0)
    unknown = replace(lesion, label="Segment_2", kind=SegmentKind.UNKNOWN)
    organ = replace(lesion, label="tumour-free liver", kind=SegmentKind.ANATOMY)
    plain_organ = replace(unknown, label="brain stem", kind=SegmentKind.ANATOMY)
    assert select_lesions([lesion]) == ([lesion], [])
    found, notices = select_lesions([lesion, unknown, organ])
    assert found == [lesion]
    assert notices == ["Segments not used as candidates: Segment_2, tumour-free liver"]
    found, notices = select_lesions([unknown, organ])
    assert found == [unknown]
    assert notices == [
        "No segment is labelled as a lesion: 1 used as candidates",
        "Segments not used as candidates: tumour-free liver",
    ]
    found, notices = select_lesions([plain_organ])
    assert found == [plain_organ]
    assert notices == ["No segment is labelled as a lesion: 1 used as candidates"]
    assert select_lesions([]) == ([], [])


def test_each_candidate_has_the_uid_of_its_segments():
    segments = [segment(uid, Part.WHOLE, n, n) for uid, n in (("1.2", 4), ("1.1", 0), ("1.3", 2))]
    found = identified_components(segments, GRID)
    uids = {int(found.mask.components[n, 0, 0]): uid for uid, n in (("1.2", 4), ("1.1", 0))}
    assert {number: found.uids[number - 1] for number in uids} == uids
    assert found.mask.components[1, 0, 0] == 0


def test_the_origin_that_is_stated_goes_to_the_candidate(analysed):
    candidate = analysed.findings.candidates[0]

    def origin(source: Source, method: DrawingMethod | None):
        found = StatedLesion(source=source, method=method).with_origin(candidate)
        return found.source, found.drawn

    assert origin(Source.NETWORK, ASSISTED) == (Source.NETWORK, None)
    assert origin(Source.READER, ASSISTED) == (Source.READER, ASSISTED)
    assert origin(Source.READER, BY_HAND) == (Source.READER, BY_HAND)
    assert origin(Source.SEGMENTATION, BY_HAND) == (Source.SEGMENTATION, BY_HAND)
    assert origin(Source.SEGMENTATION, None) == (Source.SEGMENTATION, None)


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [((7, 3), (7, 3)), ((None, 4), (5, 4)), ((4, 4), (1, 2)), ((None, None), (1, 2))],
)
def test_candidates_have_the_numbers_of_the_objects_on_their_own_voxels(
    analysed, numbers, expected
):
    findings = analysed.findings
    uids = [c.tracking_uid for c in findings.candidates]
    stated = {u: StatedLesion(number=n) for u, n in zip(uids, numbers, strict=True)}
    found = renumbered(findings, StatedLesions(stated))
    assert {c.tracking_uid: c.id for c in found.candidates} == dict(
        zip(uids, expected, strict=True)
    )
    for candidate, number in zip(findings.candidates, expected, strict=True):
        np.testing.assert_array_equal(
            found.components == number, findings.components == candidate.id
        )
    assert [c.id for c in found.candidates] == sorted(expected)
