"""LesionLens objects that an archive holds of a study when a result is sent there.

Earlier, unreviewed ones are rejected by a note (IHE IOCM) when a reviewed result is sent. They are
known from the record of sent objects, otherwise from the series descriptions in the archive, which
state whether a LesionLens object was reviewed. Others that the archive lists beside the recorded
ones are named in a notice: they may be of an interrupted delivery, or of another analysis. So are
other readers' reports, which the sent one does not replace.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from pydicom.dataset import Dataset

from lesionlens.base.codes import MANUFACTURER
from lesionlens.base.errors import CancelledError, LesionLensError, UnusableInputError
from lesionlens.base.records.analysis import Document
from lesionlens.base.run_context import RunContext
from lesionlens.base.text import counted
from lesionlens.results.documents import (
    own_header,
    predecessors_of,
    rejected_objects,
    sent_objects,
)
from lesionlens.results.export.dicom.identity import (
    is_reviewed_report_description,
    is_unreviewed_description,
)
from lesionlens.results.export.dicom.ko import rejection_of
from lesionlens.site.pacs.delivery import Delivery
from lesionlens.site.pacs.files import ObjectKind, kind_of, read_outgoing
from lesionlens.site.pacs.intake import Pacs

_OBJECT_KEYWORDS = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Rows", "Columns")
"""Copied from the new object: patient and study attributes."""
_UNLISTED_NOTICE = (
    "Only objects that are recorded as sent are rejected: the archive did not list its objects, so "
    "that others may remain unreviewed there."
)
_IMAGE_KINDS = (ObjectKind.SEG, ObjectKind.PM, ObjectKind.SC)


def earlier_objects(
    archive: Pacs,
    result: Path,
    files: Sequence[Path],
    address: str,
    kinds: Sequence[ObjectKind],
    context: RunContext,
) -> tuple[tuple[Dataset, ...], tuple[str, ...]]:
    """Return the headers of the objects that a reviewed result supersedes in an archive.

    Parameters
    ----------
    archive : Pacs
        Its unreviewed objects of the study are superseded if the record names none that is left.
    result : Path
        Result folder with the record of sent objects.
    kinds : sequence of ObjectKind
        Types to include; all if empty.

    Returns
    -------
    tuple of Dataset
        Headers with the result's patient and study, and the UIDs of an earlier object.
    tuple of str
        A notice if the archive has other unreviewed objects of the study, or did not list them.

    Raises
    ------
    UnusableInputError
        The result is not reviewed or not of LesionLens, or no earlier object is known.
    """
    headers = [item.header() for item in read_outgoing(files)]
    new_header = _reviewed(headers)
    study = str(new_header.StudyInstanceUID)
    excluded_uids = {str(h.SOPInstanceUID) for h in headers} | rejected_objects(result)

    def superseded_among(documents: Iterable[Document]) -> tuple[Document, ...]:
        return tuple(
            document
            for document in documents
            if document.study_uid == study
            and document.sop_instance_uid not in excluded_uids
            and (not kinds or kind_of(document.sop_class_uid) in kinds)
        )

    recorded = superseded_among(sent_objects(result, address, is_unreviewed_description))
    notices: tuple[str, ...] = ()
    try:
        listed = archive.objects_of(study, is_unreviewed_description, context=context)
        superseded = recorded or superseded_among(listed)
        notices = _other_notices(superseded_among(listed), superseded)
    except CancelledError:
        raise
    except LesionLensError:
        if not recorded:
            raise
        superseded, notices = recorded, (_UNLISTED_NOTICE,)
    if not superseded:
        raise UnusableInputError(
            found="no earlier unreviewed LesionLens objects of this study in the archive",
            expected="objects that were sent earlier and are not yet rejected",
            next_step="Send it without --supersede",
            in_window="Send it without a rejection note",
        )
    return tuple(_header(document, new_header) for document in superseded), notices


def _other_notices(listed: Sequence[Document], superseded: Sequence[Document]) -> tuple[str, ...]:
    """Return a notice if an archive lists unreviewed objects that are not to be superseded."""
    superseded_uids = {document.sop_instance_uid for document in superseded}
    count = sum(document.sop_instance_uid not in superseded_uids for document in listed)
    if not count:
        return ()
    return (
        f"The archive lists {counted(count, 'other unreviewed LesionLens object')} of this study, "
        "of an interrupted delivery or of another analysis: not rejected. Send with --supersede "
        "again to reject them too.",
    )


def reject(
    archive: Pacs, earlier: Sequence[Dataset], *, same_patient: bool, context: RunContext
) -> Delivery:
    """Send a note that rejects earlier objects."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rejection.dcm"
        rejection_of(earlier).save_as(path, enforce_file_format=True)
        return archive.send([path], same_patient=same_patient, context=context.quiet())


def _reviewed(headers: Sequence[Dataset]) -> Dataset:
    """Return one header of a reviewed LesionLens result."""
    own_headers = [header for header in headers if header.get("Manufacturer") == MANUFACTURER]
    unreviewed = [
        header
        for header in own_headers
        if is_unreviewed_description(str(header.get("SeriesDescription", "")))
    ]
    studies = {str(header.StudyInstanceUID) for header in own_headers}
    if unreviewed or len(studies) != 1:
        raise UnusableInputError(
            found="--supersede with an unreviewed result"
            if unreviewed
            else f"--supersede with objects of LesionLens of {len(studies)} studies",
            expected="the reviewed result of one study",
            next_step="Review it and export it again, or omit --supersede",
            in_window="Review it and export it again",
        )
    return own_headers[0]


def _header(document: Document, new_header: Dataset) -> Dataset:
    header = Dataset()
    for element in new_header:
        if element.VR != "SQ" and element.keyword not in _OBJECT_KEYWORDS:
            header.add(element)
    header.SOPClassUID, header.SOPInstanceUID = document.sop_class_uid, document.sop_instance_uid
    header.SeriesInstanceUID = document.series_uid
    if kind_of(document.sop_class_uid) in _IMAGE_KINDS:
        header.Rows = header.Columns = 1  # otherwise the note would classify it as an image
    return header


def other_reports_notices(
    archive: Pacs, sent: Iterable[Path], context: RunContext
) -> tuple[str, ...]:
    """Return a notice if an archive holds reviewed reports that the sent ones do not replace.

    Two readers may continue one study at the same time; whoever opens it then sees the newest
    report. The archive's series descriptions tell whether a report was reviewed.

    Parameters
    ----------
    sent : iterable of Path
        Files that the archive has now.
    """
    headers = [header for header in map(own_header, sent) if header is not None]
    reports = [header for header in headers if header.Modality == "SR"]
    known = {str(report.SOPInstanceUID) for report in reports}.union(*map(predecessors_of, reports))
    try:
        listed = {
            document.sop_instance_uid
            for study in sorted({str(report.StudyInstanceUID) for report in reports})
            for document in archive.objects_of(
                study, is_reviewed_report_description, context=context
            )
        }
    except LesionLensError:
        return ("Whether the archive holds other reports of this study could not be checked.",)
    count = len(listed - known)
    if not count:
        return ()
    return (
        "The archive holds other reviewed LesionLens reports of this study, which this one does "
        f"not replace ({count}). Whoever opens the study sees the newest report: compare them.",
    )
