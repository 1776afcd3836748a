"""Structured report: Comprehensive 3D SR by TID 1500, unverified until a reader verifies it.

Each candidate has one measurement group (TID 1411) per region with voxels, all with the candidate's
tracking UID; a group refers to the one segment that is its region. A resection cavity has one group
with its volume. Viewers build a table from the first group: its measurements are volume, long and
short axis; every other group has the first of them, in this order. Statements that belong to no
region (the notice, the review progress, that nothing was flagged) are in a separate container.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from highdicom.sr import (
    CodeContentItem,
    Comprehensive3DSR,
    ContainerContentItem,
    LanguageOfContentItemAndDescendants,
    MeasurementReport,
    ObservationContext,
    RelationshipTypeValues,
)
from highdicom.sr.value_types import ContentSequence
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as dicom_codes

from lesionlens.base import codes
from lesionlens.base.errors import ExportError
from lesionlens.base.labels import RESEARCH_USE_NOTICE, ReviewState
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.response import SignedResponse
from lesionlens.results.export import caveats
from lesionlens.results.export.dicom import groups, identity, values
from lesionlens.results.export.dicom.content_items import (
    CONTAINS,
    HAS_PROPERTIES,
    code_item,
    mark_separate,
    number_item,
    reader_item,
    text_item,
    time_items,
)
from lesionlens.results.export.dicom.framed import FramedResult
from lesionlens.results.export.dicom.refs import SourceFrames


def build_sr(
    seg: Dataset | None, attention: Dataset | None, result: FramedResult
) -> Comprehensive3DSR:
    """Build the report.

    Parameters
    ----------
    seg, attention : Dataset or None
        The Segmentation, if there is a segment, and `attention.dcm`, normally of the whole tumour.
    """
    if result.segments and seg is None:
        raise ExportError(
            found="that seg.dcm, which it points at, is missing",
            expected="a Segmentation",
            next_step="See why seg.dcm was left out",
        )
    analysis, sources = result.analysis, result.sources
    root = _root(analysis, groups.groups_of(result, seg, attention))
    root.ContentSequence.append(_summary_container(result))
    mark_separate(root)
    return Comprehensive3DSR(
        evidence=[*sources.datasets, *(ds for ds in (attention, seg) if ds is not None)],
        content=root,
        is_complete=True,
        is_final=False,
        is_verified=False,
        previous_versions=_predecessors(analysis, sources) or None,
        **identity.of_new_object(analysis, "sr"),
    )


def _predecessors(analysis: Analysis, sources: SourceFrames) -> list[Dataset]:
    """Return the earlier reports of the same study, as highdicom expects them."""
    predecessors = []
    for document in analysis.run.documents:
        if document.study_uid == sources.datasets[0].StudyInstanceUID:
            predecessor = Dataset()
            predecessor.StudyInstanceUID = document.study_uid
            predecessor.SeriesInstanceUID = document.series_uid
            predecessor.SOPClassUID = document.sop_class_uid
            predecessor.SOPInstanceUID = document.sop_instance_uid
            predecessors.append(predecessor)
    return predecessors


def _root(analysis: Analysis, measurement_groups: list[Any]) -> Dataset:
    """Return the report's root with its groups, or without their container if there are none."""
    context = ObservationContext(
        observer_person_context=identity.reader(analysis),
        observer_device_context=identity.observer(analysis),
    )
    procedure = identity.concept(codes.BRAIN_MRI)
    language = LanguageOfContentItemAndDescendants(identity.concept(codes.ENGLISH))
    if measurement_groups:
        report = MeasurementReport(
            observation_context=context,
            procedure_reported=procedure,
            imaging_measurements=measurement_groups,
            language_of_content_item_and_descendants=language,
        )
        return report[0]
    # highdicom requires a group, but TID 1500 does not, and OHIF fails on a group without
    # coordinates.
    root = ContainerContentItem(dicom_codes.DCM.ImagingMeasurementReport, template_id="1500")
    modifier = RelationshipTypeValues.HAS_CONCEPT_MOD
    root.ContentSequence = ContentSequence()
    root.ContentSequence.extend([*language, *context])
    root.ContentSequence.append(
        CodeContentItem(dicom_codes.DCM.ProcedureReported, procedure, modifier)
    )
    return root


def _summary_container(result: FramedResult) -> ContainerContentItem:
    """Return the container of statements on the whole result."""
    analysis = result.analysis
    container = ContainerContentItem(
        identity.concept(codes.QUALITATIVE), relationship_type=CONTAINS
    )
    items: list[Any] = []
    if not identity.exported(analysis):
        any_flagged = analysis.findings.candidates or analysis.run.omitted
        conclusion = codes.NONE_ACCEPTED if any_flagged else codes.NO_CANDIDATE
        items.append(code_item(codes.CONCLUSION, conclusion))
    items += [
        code_item(codes.REVIEW, _review_code(analysis)),
        text_item(codes.COMMENT, _notice_text(analysis)),
        *_omission_items(analysis),
        text_item(codes.SENTENCE, result.sentences.of_study()),
        *(text_item(codes.LIMIT, limitation) for limitation in caveats.limits(analysis)),
        *_response_items(analysis),
    ]
    if (signature := analysis.review.signature) is not None:
        items += groups.reader_items(signature, codes.REVIEW_SIGNED)
    container.ContentSequence = ContentSequence(items, is_root=False)
    return container


def _omission_items(analysis: Analysis) -> list[Any]:
    """Return how many candidates the objects omit, and on how many of them a reader decided."""
    exported, state_of = identity.exported(analysis), analysis.review.state_of
    decided_count, total = analysis.review_counts
    if total == len(exported):
        return []
    decided_exported = sum(state_of(candidate.tracking_uid).decided for candidate in exported)
    return [
        number_item(codes.OMITTED, total - len(exported)),
        number_item(codes.OMITTED_DECIDED, decided_count - decided_exported),
    ]


def _response_items(analysis: Analysis) -> list[Any]:
    """Return the signed response, or only a note if its measurements are outdated."""
    signed = analysis.review.response
    if signed is None:
        return []
    if not analysis.response_outdated:
        return [_response_item(signed)]
    reader, basis = identity.reader_name(signed.reader), "other measurements or decisions"
    text = f"A response signed by {reader} is omitted: it was signed on {basis}"
    return [text_item(codes.LIMIT, text)]


def _response_item(signed: SignedResponse) -> CodeContentItem:
    """Return a reader's signed response with its basis."""
    item = code_item(codes.RESPONSE, codes.RESPONSES[signed.category])
    measures_json = json.dumps([asdict(measure) for measure in signed.measures])
    reader = identity.reader_name(signed.reader)
    children: list[Any] = [
        code_item(codes.RESPONSE_BASIS, codes.RANO, HAS_PROPERTIES),
        text_item(codes.RESPONSE_BASIS, f"baseline={signed.baseline}", HAS_PROPERTIES),
        text_item(codes.RESPONSE_MEASURES, measures_json, HAS_PROPERTIES),
        reader_item(reader, HAS_PROPERTIES),
        *time_items(signed.time, HAS_PROPERTIES),
    ]
    item.ContentSequence = ContentSequence(children, is_root=False)
    return item


def _review_code(analysis: Analysis) -> codes.Code:
    decided_count, total = analysis.review_counts
    if not decided_count:
        return codes.REVIEW_DONE if analysis.review.signed else codes.REVIEW_NONE
    return codes.REVIEW_DONE if decided_count == total else codes.REVIEW_BEGUN


def _notice_text(analysis: Analysis) -> str:
    flagged, _, additional = analysis.findings.conclusion.partition("; ")
    omitted = analysis.run.omitted
    besides = f", besides {omitted} that the earlier objects omit" if omitted else ""
    sentences = [
        RESEARCH_USE_NOTICE,
        f"{flagged.capitalize()} flagged{besides}{f'; {additional}' if additional else ''}.",
    ]
    decided_count, total = analysis.review_counts
    if not total and analysis.review.signed:
        statement = values.BY_VR["UT"](analysis.review.signed)
        sentences.append(f"Signed by a reader: {statement}.")
    elif not decided_count:
        sentences.append(f"Nobody has reviewed this result{_acts_besides(analysis)}.")
    else:
        sentences.append(
            f"Reviewed: {decided_count} of {total}; sent here: {len(identity.exported(analysis))}."
        )
    return " ".join(sentences)


def _acts_besides(analysis: Analysis) -> str:
    """Return what readers did in a result that nobody has reviewed."""
    state_of = analysis.review.state_of
    states = [state_of(candidate.tracking_uid) for candidate in analysis.findings.candidates]
    deferred = states.count(ReviewState.DEFERRED)
    parts = [f"; decisions deferred by a reader: {deferred}"] if deferred else []
    if analysis.review.response:
        parts.append("; a reader signed the response to treatment alone")
    return "".join(parts)
