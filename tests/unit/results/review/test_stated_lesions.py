"""What the objects of a lesion state: its parts, who flagged and who outlined it, its number."""

from __future__ import annotations

import numpy as np
import pytest

from lesionlens.base.labels import DrawingMethod, Region, Source
from lesionlens.base.records.findings import LESION_PARTS
from lesionlens.results.review.report_items import ReportedCandidate
from lesionlens.results.review.segments import Part, ReadSegment, SegmentKind
from lesionlens.results.review.stated_lesions import StatedLesion, StatedLesions, stated_lesions


def segment(uid: str | None = None, **values: object) -> ReadSegment:
    fields = {
        "label": "", "part": Part.WHOLE, "kind": SegmentKind.LESION, "resampled": False
    }  # fmt: skip
    return ReadSegment(tracking_uid=uid, mask=np.ones((1, 1, 1), bool), **{**fields, **values})


def stated(segments, reported=None, *, own_segments=True, own_report=True) -> StatedLesions:
    return stated_lesions(
        segments, reported or {}, own_segments=own_segments, own_report=own_report
    )


@pytest.mark.parametrize(
    ("parts", "absent", "unknown"),
    [
        ((Part.WHOLE,), (), LESION_PARTS),
        ((Part.OEDEMA,), (), LESION_PARTS),
        ((Part.WHOLE, Part.CORE), (), {Region.ET}),
        ((Part.WHOLE,), (Region.TC,), {Region.ET}),
        ((Part.WHOLE, Part.ENHANCING), (), set()),
        ((Part.WHOLE,), (Region.TC, Region.ET), set()),
    ],
)
def test_parts_without_a_segment_are_unknown_unless_the_report_denies_them(parts, absent, unknown):
    own, other = [segment("1.1", part=part) for part in parts], segment("1.2")
    reported = {"1.1": ReportedCandidate(absent=frozenset(absent))}
    by_lesion = stated([*own, other], reported)
    assert by_lesion["1.1"].unknown == unknown
    assert by_lesion["1.2"].unknown == LESION_PARTS
    of_others = stated([*own, other], own_segments=False)
    assert of_others["1.2"].unknown == of_others["1.1"].unknown == of_others[None].unknown, (
        "segments of other programs apply to all lesions"
    )


def test_the_report_says_who_flagged_a_candidate_before_its_segments_do():
    segments = [segment("1.1", is_networks=True), segment("1.2", is_networks=True), segment("1.3")]
    reported = {"1.2": ReportedCandidate(source=Source.READER)}
    lesions = stated(segments, reported)
    sources = {uid: lesions[uid].source for uid in ("1.1", "1.2", "1.3", "another", None)}
    others = dict.fromkeys(("1.3", "another", None), Source.SEGMENTATION)
    assert sources == {"1.1": Source.NETWORK, "1.2": Source.READER, **others}
    of_others = stated(segments, reported, own_segments=False, own_report=False)
    assert {of_others[uid].source for uid in sources} == {Source.SEGMENTATION}


def test_how_a_lesion_was_outlined_is_known_where_its_segments_agree():
    manual, automatic = DrawingMethod.MANUAL, DrawingMethod.AUTOMATIC
    segments = [segment(uid, drawing_method=method) for uid, method in (
        ("1.1", manual), ("1.1", manual), ("1.2", manual), ("1.2", automatic), ("1.3", None),
    )]  # fmt: skip
    methods = {uid: lesion.method for uid, lesion in stated(segments).items()}
    assert methods == {None: None, "1.1": manual, "1.2": None, "1.3": None}
    methods = {uid: lesion.method for uid, lesion in stated(segments[:3]).items()}
    assert methods == {None: manual, "1.1": manual, "1.2": manual}


def test_numbers_are_those_of_the_report_or_else_of_the_segments():
    segments = [
        segment("1.1", label="3 whole tumour"),
        segment("1.2", label="4 whole tumour"),
        segment("1.3"),
    ]
    reported = {
        "1.2": ReportedCandidate(number=7),
        "1.3": ReportedCandidate(),
    }
    lesions = stated(segments, reported)
    assert [lesions[uid].number for uid in ("1.1", "1.2", "1.3", None)] == [3, 7, None, None]
    of_others = stated(segments, reported, own_segments=False, own_report=False)
    assert [of_others[uid].number for uid in ("1.1", "1.2", "1.3")] == [None] * 3
    assert [lesions[uid].reported for uid in ("1.1", "1.2")] == [None, reported["1.2"]]


def test_an_outline_is_redrawn_if_a_reader_took_part_in_the_networks():
    """An added lesion was outlined by a reader too, and would get an edit that nobody made."""
    assisted, automatic = DrawingMethod.SEMIAUTOMATIC, DrawingMethod.AUTOMATIC
    assert StatedLesion(source=Source.NETWORK, method=assisted).is_redrawn
    assert not StatedLesion(source=Source.NETWORK, method=automatic).is_redrawn
    for source in (Source.READER, Source.SEGMENTATION):
        assert not StatedLesion(source=source, method=assisted).is_redrawn
