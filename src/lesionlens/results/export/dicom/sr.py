"""Structured report: Comprehensive 3D SR by TID 1500, unverified until a reader verifies it.

Each candidate is one measurement group (TID 1411) for each region that has voxels, all with the
candidate's tracking UID; a group points at the one segment that is its region. A resection cavity
is one group with its volume. Readers build a
table from the first group: its measures are volume, long and short axis, and every other group has
the first of them, in this order. What is not a group of a region (the notice, how far the review
is, that nothing was flagged) stands in a container of its own.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pydicom
from highdicom.sr import (
    CodeContentItem,
    Comprehensive3DSR,
    ContainerContentItem,
    DateTimeContentItem,
    LanguageOfContentItemAndDescendants,
    MeasurementReport,
    ObservationContext,
    PnameContentItem,
    RelationshipTypeValues,
    TextContentItem,
)
from highdicom.sr.value_types import ContentSequence
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from lesionlens.base import codes as own
from lesionlens.base.labels import RESEARCH_USE_NOTICE
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.response import RESPONSE_BASIS_FIELDS, SignedResponse
from lesionlens.results.export import caveats
from lesionlens.results.export.dicom import groups, identity
from lesionlens.results.export.dicom.containers import separate
from lesionlens.results.export.dicom.refs import SourceFrames
from lesionlens.results.export.dicom.seg import SegmentMask
from lesionlens.results.export.sentence import Sentences
from lesionlens.results.review.report_items import TRACKING_UID, items_below


def build_sr(
    analysis: Analysis,
    sources: SourceFrames,
    segments: tuple[SegmentMask, ...],
    pointed_at: groups.ReferencedObjects,
) -> Comprehensive3DSR:
    """Build the report.

    Parameters
    ----------
    segments : tuple of SegmentMask
        Segments of the Segmentation.
    pointed_at : groups.ReferencedObjects
        Objects written before.
    """
    root = _root(analysis, groups.groups_of(analysis, sources, segments, pointed_at))
    root.ContentSequence.append(_about_the_whole(analysis))
    separate(root)
    return Comprehensive3DSR(
        evidence=[*sources.datasets, *pointed_at.every],
        content=root,
        is_complete=True,
        is_final=False,
        is_verified=False,
        previous_versions=_predecessors(analysis, sources) or None,
        **identity.of_new_object(analysis, "sr"),
    )


def _predecessors(analysis: Analysis, sources: SourceFrames) -> list[Dataset]:
    """Return the earlier reports of the same study, as highdicom expects them."""
    found = []
    for document in analysis.run.documents:
        if document.study_uid == sources.datasets[0].StudyInstanceUID:
            made = Dataset()
            made.StudyInstanceUID, made.SeriesInstanceUID = document.study_uid, document.series_uid
            made.SOPClassUID = document.sop_class_uid
            made.SOPInstanceUID = document.sop_instance_uid
            found.append(made)
    return found


def _root(analysis: Analysis, found: list[Any]) -> Dataset:
    """Return the report's root with its groups, or without their container if there are none."""
    context = ObservationContext(
        observer_person_context=identity.reader(analysis),
        observer_device_context=identity.observer(analysis),
    )
    procedure = identity.concept(own.BRAIN_MRI)
    language = LanguageOfContentItemAndDescendants(identity.concept(own.ENGLISH))
    if found:
        report = MeasurementReport(
            observation_context=context,
            procedure_reported=procedure,
            imaging_measurements=found,
            language_of_content_item_and_descendants=language,
        )
        return report[0]
    # highdicom requires a group, but TID 1500 does not, and OHIF fails on a group without
    # coordinates.
    root = ContainerContentItem(codes.DCM.ImagingMeasurementReport, template_id="1500")
    modifier = RelationshipTypeValues.HAS_CONCEPT_MOD
    root.ContentSequence = ContentSequence()
    root.ContentSequence.extend([*language, *context])
    root.ContentSequence.append(CodeContentItem(codes.DCM.ProcedureReported, procedure, modifier))
    return root


def _about_the_whole(analysis: Analysis) -> ContainerContentItem:
    """Return the container of statements on the whole result."""
    contains = RelationshipTypeValues.CONTAINS
    made = ContainerContentItem(identity.concept(own.QUALITATIVE), relationship_type=contains)
    items: list[Any] = []
    if not identity.exported(analysis):
        none = own.NO_CANDIDATE if not analysis.findings.candidates else own.NONE_ACCEPTED
        items.append((own.CONCLUSION, none))
    items.append((own.REVIEW, _review(analysis)))
    signed = analysis.review.events[-1:] if analysis.review.signed else ()
    made.ContentSequence = ContentSequence(
        [
            CodeContentItem(identity.concept(name), identity.concept(value), contains)
            for name, value in items
        ]
        + [
            TextContentItem(identity.concept(own.COMMENT), _notice(analysis), contains),
            TextContentItem(
                identity.concept(own.SENTENCE), Sentences(analysis).of_study(), contains
            ),
        ]
        + [
            TextContentItem(identity.concept(own.LIMIT), words, contains)
            for words in caveats.limits(analysis)
        ]
        + _response_of(analysis)
        + [item for event in signed for item in groups.signed_by(event, own.REVIEW_SIGNED)],
        is_root=False,
    )
    return made


def _response_of(analysis: Analysis) -> list[Any]:
    """Return the valid response; one signed on outdated measurements is only named."""
    signed = analysis.review.response
    if signed is None:
        return []
    if not analysis.response_outdated:
        return [_response(signed)]
    words = f"A response signed by {signed.reader} is left out: it was signed on other measures"
    contains = RelationshipTypeValues.CONTAINS
    return [TextContentItem(identity.concept(own.LIMIT), words, contains)]


def _response(signed: SignedResponse) -> CodeContentItem:
    """Return a reader's signed response with its basis."""
    has = RelationshipTypeValues.HAS_PROPERTIES
    item = CodeContentItem(
        identity.concept(own.RESPONSE),
        identity.concept(own.RESPONSES[signed.category]),
        RelationshipTypeValues.CONTAINS,
    )
    basis = {name: getattr(signed, name) for name in RESPONSE_BASIS_FIELDS}
    words = "; ".join(f"{name}={value or 'none'}" for name, value in basis.items())
    measures = json.dumps([asdict(one) for one in signed.measures])
    children: list[Any] = [
        CodeContentItem(identity.concept(own.RESPONSE_BASIS), identity.concept(own.RANO), has),
        TextContentItem(identity.concept(own.RESPONSE_BASIS), words, has),
        TextContentItem(identity.concept(own.RESPONSE_MEASURES), measures, has),
        *(TextContentItem(identity.concept(own.RESPONSE_STEP), s, has) for s in signed.steps),
        PnameContentItem(
            identity.concept(own.REVIEW_READER), identity.reader_name(signed.reader), has
        ),
    ]
    moment = groups.moment(signed.time)
    if moment:
        children.append(DateTimeContentItem(identity.concept(own.REVIEW_TIME), moment, has))
    item.ContentSequence = ContentSequence(children, is_root=False)
    return item


def _review(analysis: Analysis) -> own.Code:
    done = identity.decided(analysis)
    if not done:
        return own.REVIEW_DONE if analysis.review.signed else own.REVIEW_NONE
    return own.REVIEW_DONE if done == len(analysis.findings.candidates) else own.REVIEW_BEGUN


def _notice(analysis: Analysis) -> str:
    flagged, _, more = analysis.findings.conclusion.partition("; ")
    sentences = [RESEARCH_USE_NOTICE, f"{flagged.capitalize()} flagged{more and '; '}{more}."]
    done, every = identity.decided(analysis), len(analysis.findings.candidates)
    if not every and analysis.review.signed:
        sentences.append(f"Signed by a reader: {analysis.review.signed}.")
    elif not done:
        sentences.append("Nobody has reviewed this result.")
    else:
        sentences.append(
            f"Reviewed: {done} of {every}; sent here: {len(identity.exported(analysis))}."
        )
    return " ".join(sentences)


def check_sr(path: Path, analysis: Analysis, segments: tuple[SegmentMask, ...]) -> None:
    """Read a report back and compare its tracking UIDs.

    Raises
    ------
    ExportError
        They are not those of the exported candidates and the segments.
    """
    found = {
        str(item.UID)
        for item in items_below(pydicom.dcmread(path))
        if item.get("ValueType") == "UIDREF"
        and item.ConceptNameCodeSequence[0].CodeValue == TRACKING_UID
    }
    expected = {one.tracking_uid for one in segments}
    expected |= {one.tracking_uid for one in identity.exported(analysis)}  # or without an outline
    if found != expected:
        raise identity.differs("other tracking UIDs in sr.dcm, read back, than in the result")
