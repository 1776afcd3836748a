"""Notices about DICOM objects of a result: whose they are, and what they do not contain."""

from __future__ import annotations

from collections.abc import Mapping

from pydicom.dataset import Dataset

from lesionlens.analysis.followup.patient import NO_COMPARISON
from lesionlens.base.labels import Source
from lesionlens.base.records.patient import Patient, PatientField, in_words
from lesionlens.base.records.study import PreparedStudy, Study
from lesionlens.results.review import report_items
from lesionlens.results.review.report_items import ReportedCandidate
from lesionlens.results.review.sent_objects import Objects, referenced


def identity_notices(
    objects: Objects, study: Study, prepared: PreparedStudy, n_read: int
) -> list[str]:
    """Return notices about empty segments, other objects, another patient or another frame."""
    datasets = [ds for ds in (objects.seg, objects.report, *objects.maps) if ds is not None]
    fields = {f for ds in datasets for f in study.patient.compared(Patient.of(ds.get)).conflicts}
    notices = []
    empty_count = (
        0
        if objects.seg is None
        else sum(int(item.SegmentNumber) > 0 for item in objects.seg.SegmentSequence) - n_read
    )
    if empty_count:
        notices.append(
            "Segments without a marked pixel (in fractional ones, at least one half): "
            f"{empty_count}"
        )
    if objects.other_count:
        notices.append(f"The newest Segmentation is used, not the others ({objects.other_count})")
    if objects.other_reviewed_count:
        notices.append(
            "The newest LesionLens report is used, not the other reviewed ones that no report "
            f"replaces ({objects.other_reviewed_count})"
        )
    if fields:
        field_names = in_words(f for f in PatientField if f in fields)
        notices.append(
            f"{field_names[0].upper()}{field_names[1:]} differ{'' if len(fields) > 1 else 's'} "
            "between the DICOM objects and the images. Do they belong to one patient?"
        )
    images = {f.sop_instance_uid for f in study.series[prepared.reference].files}
    frame, seg = prepared.native.frame_uid, objects.seg
    seg_frame = None if seg is None else seg.get("FrameOfReferenceUID")
    differs = bool(frame and seg_frame) and seg_frame != frame
    if seg is not None and differs and not images & referenced(seg):
        notices.append(
            "The Segmentation has another frame of reference than the reference: it was not "
            "registered to it. Check its position"
        )
    return notices


def omission_notices(
    report: Dataset, reported: Mapping[str, ReportedCandidate], uids: list[str | None]
) -> list[str]:
    """Return notices about what the objects do not contain."""
    statements = [reported[u] for u in uids if u is not None and u in reported]
    scored = any(statement.score is not None for statement in statements)
    by_readers = sum(statement.source is Source.READER for statement in statements)
    notices = [] if scored or by_readers == len(uids) else ["The objects contain no score"]
    notices.append(
        "Reopened from DICOM objects: they contain no probabilities, uncertainty, "
        "contributions of sequences or checks of the attention maps"
    )
    if report_items.omitted_count(report):
        notices.append("Candidates that no reader accepted are not in the DICOM objects")
    lost_count = sum(c.decided for uid, c in reported.items() if uid not in uids)
    if lost_count:
        notices.append(
            "Decisions in the report on candidates that the Segmentation does not contain were "
            f"left out: {lost_count}"
        )
    if report_items.has(report, report_items.TIME_POINT):
        notices.append(NO_COMPARISON)
    return [*notices, *report_items.unreadable_statements(report)]
