"""What a report states of its candidates."""

from __future__ import annotations

from pydicom.dataset import Dataset

from lesionlens.base import codes
from lesionlens.base.labels import Label, ReviewState
from lesionlens.results.review.report_items import (
    FINDING,
    TRACKING_ID,
    TRACKING_UID,
    candidates_in,
)


def item(name: str, *children: Dataset, value: str = "", **fields: str) -> Dataset:
    made, concept = Dataset(), Dataset()
    concept.CodeValue = name
    made.ConceptNameCodeSequence, made.ContentSequence = [concept], list(children)
    if value:
        code = Dataset()
        code.CodeValue = value
        made.ConceptCodeSequence = [code]
    for field, text in fields.items():
        setattr(made, field, text)
    return made


def group(uid: str, *children: Dataset) -> Dataset:
    return item(codes.MEASUREMENT_GROUP.value, item(TRACKING_UID, UID=uid), *children)


def test_each_candidate_has_its_own_number_reader_time_and_decision():
    report = item(
        "",
        group(
            "1.1",
            item(TRACKING_ID, TextValue="Candidate 3, left frontal lobe"),
            item(codes.REVIEW_STATE.value, value="rejected"),
            item(codes.REVIEW_READER.value, PersonName="A. Reader"),
            item(codes.REVIEW_TIME.value, DateTime="20260105101500"),
            item(codes.REVIEW_REASON.value, TextValue="vessel"),
        ),
        group("1.1"),  # of its core
        group("1.2", item(TRACKING_ID, TextValue="Lesion 4")),
        group("1.3", item(FINDING, value=codes.LABEL_TYPES[Label.CAVITY].value)),
    )
    candidates = candidates_in(report)
    assert set(candidates) == {"1.1", "1.2"}
    first, second = candidates.values()
    decision = first.decision
    assert decision.tracking_uid == "1.1"
    assert (first.number, decision.state, decision.reader) == (3, ReviewState.REJECTED, "A. Reader")
    assert (decision.time, decision.reason) == ("2026-01-05T10:15:00Z", "vessel")
    assert (second.number, second.decision.state) == (None, ReviewState.UNREVIEWED)
    assert not second.decided
