"""Which of several DICOM objects of a study are its current ones."""

from __future__ import annotations

import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from lesionlens.base import codes
from lesionlens.base.codes import MANUFACTURER
from lesionlens.results.review.sent_objects import (
    SEGMENTATIONS,
    _is_truncated,
    _report_of,
    _without_superseded,
)


def made(uid: str, time: str, *references: str) -> Dataset:
    """Return an object of LesionLens that references others."""
    dataset = Dataset()
    dataset.Manufacturer, dataset.SOPInstanceUID = MANUFACTURER, uid
    dataset.SeriesDate, dataset.SeriesTime = "20260105", time
    dataset.ReferencedSOPSequence = [Dataset() for _ in references]
    for item, reference in zip(dataset.ReferencedSOPSequence, references, strict=True):
        item.ReferencedSOPInstanceUID = reference
    return dataset


def concept(code: codes.Code) -> list[Dataset]:
    item = Dataset()
    item.CodeValue = code.value
    return [item]


def report(uid: str, time: str, *references: str, state=codes.REVIEW_DONE) -> Dataset:
    """Return a report of LesionLens; of another program if it states no review."""
    dataset = made(uid, time, *references)
    if state is not None:
        item = Dataset()
        item.ConceptNameCodeSequence, item.ConceptCodeSequence = (
            concept(codes.REVIEW),
            concept(state),
        )
        dataset.ContentSequence = [item]
    return dataset


def test_the_decisions_are_those_of_a_report_on_this_segmentation():
    """A newer report on another Segmentation has decisions on other outlines."""
    seg = made("1.1", "100000")
    own, later = report("2.1", "100000", "1.1"), report("2.2", "120000", "1.2")
    assert _report_of(seg, [own, later]) is own
    assert _report_of(seg, [later]) == Dataset()
    again = report("2.3", "110000", "1.1")
    assert _report_of(seg, [again, own, later]) is again
    of_others = report("2.4", "130000", "1.1", "1.2", state=None)
    assert _report_of(seg, [own, of_others]) is own
    assert _report_of(seg, [of_others, later]) is of_others


@pytest.mark.parametrize(
    ("uid", "time", "manufacturer", "is_current"),
    [
        ("1.1", "090000", MANUFACTURER, True),  # the report references it
        ("1.2", "090000", MANUFACTURER, False),  # older than the report
        ("1.3", "110000", MANUFACTURER, True),  # newer
        ("1.4", "090000", "Another", True),
        ("1.5", "110000", MANUFACTURER, False),  # of a report that this one replaces
    ],
)
def test_a_segmentation_is_superseded_by_a_newer_report_that_does_not_reference_it(
    uid, time, manufacturer, is_current
):
    seg = made(uid, time)
    seg.Manufacturer = manufacturer
    current = _without_superseded([seg], report("2.1", "100000", "1.1"), {"1.5", "1.1"})
    assert current == ([seg] if is_current else [])


@pytest.mark.parametrize(("stored", "truncated"), [(8, False), (7, False), (6, True), (0, True)])
def test_a_file_that_ends_early_is_truncated_unless_padding_alone_is_missing(stored, truncated):
    """Some programs do not pad pixels of an odd length."""
    ds = Dataset()
    ds.SOPClassUID = SEGMENTATIONS[0]
    ds[0x7FE00010] = RawDataElement(Tag(0x7FE00010), "OB", 8, bytes(stored), 0, False, True)
    assert _is_truncated(ds) is truncated
