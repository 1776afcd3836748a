"""Find and reject earlier, unreviewed objects when a reviewed result is sent.

A rejection note (IHE IOCM) names them. They are known from the record of sent objects, otherwise
from the series descriptions in the archive, which state whether a LesionLens object was reviewed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from pydicom.dataset import Dataset

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.records.analysis import Document
from lesionlens.base.run_context import RunContext
from lesionlens.imaging.reading.dicom.documents import MANUFACTURER, rejected_objects, sent_objects
from lesionlens.results.export.dicom.identity import says_unreviewed
from lesionlens.results.export.dicom.rejection import rejection_of
from lesionlens.site.pacs.delivery import Delivery
from lesionlens.site.pacs.files import ObjectKind, kind_of, read_outgoing
from lesionlens.site.pacs.intake import Pacs

_OWN = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Rows", "Columns")
"""Copied from the new object: patient and study attributes."""
_IMAGES = (ObjectKind.SEG, ObjectKind.PM, ObjectKind.SC)


def earlier_objects(
    archive: Pacs,
    result: Path,
    files: Sequence[Path],
    address: str,
    kinds: Sequence[ObjectKind],
    context: RunContext,
) -> tuple[Dataset, ...]:
    """Return the headers of the objects that a reviewed result supersedes in an archive.

    Parameters
    ----------
    archive : Pacs
        Queried if nothing is recorded.
    result : Path
        Result folder with the record of sent objects.
    kinds : sequence of ObjectKind
        Types to include; all if empty.

    Returns
    -------
    tuple of Dataset
        Headers with the result's patient and study, and the UIDs of an earlier object.

    Raises
    ------
    UnusableInputError
        The result is not reviewed or not of LesionLens, or no earlier object is known.
    """
    headers = [item.header() for item in read_outgoing(files)]
    new = _reviewed(headers)
    study = str(new.StudyInstanceUID)
    known = sent_objects(result, address, says_unreviewed)
    known = tuple(one for one in known if one.study_uid == study)
    known = known or archive.objects_of(study, says_unreviewed, context=context)
    done = {str(one.SOPInstanceUID) for one in headers} | rejected_objects(result)
    left = [
        one
        for one in known
        if one.sop_instance_uid not in done and (not kinds or kind_of(one.sop_class_uid) in kinds)
    ]
    if not left:
        raise UnusableInputError(
            found="no earlier unreviewed LesionLens objects of this study in the archive",
            expected="objects that were sent earlier and are not yet rejected",
            next_step="Send it without --supersede",
            in_window="Send it without a rejection note",
        )
    return tuple(_header(one, new) for one in left)


def reject(
    archive: Pacs, earlier: Sequence[Dataset], *, same_patient: bool, context: RunContext
) -> Delivery:
    """Send a note that rejects earlier objects."""
    with TemporaryDirectory(prefix="lesionlens-") as place:
        note = Path(place) / "rejection.dcm"
        rejection_of(earlier).save_as(note, enforce_file_format=True)
        return archive.send([note], same_patient=same_patient, context=context.quiet())


def _reviewed(headers: Sequence[Dataset]) -> Dataset:
    """Return one header of a reviewed LesionLens result."""
    ours = [one for one in headers if one.get("Manufacturer") == MANUFACTURER]
    unreviewed = [one for one in ours if says_unreviewed(str(one.get("SeriesDescription", "")))]
    studies = {str(one.StudyInstanceUID) for one in ours}
    if unreviewed or len(studies) != 1:
        raise UnusableInputError(
            found="--supersede with an unreviewed result"
            if unreviewed
            else f"--supersede with objects of LesionLens of {len(studies)} studies",
            expected="the reviewed result of one study",
            next_step="Review it and export it again, or omit --supersede",
            in_window="Review it and export it again",
        )
    return ours[0]


def _header(one: Document, new: Dataset) -> Dataset:
    made = Dataset()
    for element in new:
        if element.VR != "SQ" and element.keyword not in _OWN:
            made.add(element)
    made.SOPClassUID, made.SOPInstanceUID = one.sop_class_uid, one.sop_instance_uid
    made.SeriesInstanceUID = one.series_uid
    if kind_of(one.sop_class_uid) in _IMAGES:
        made.Rows = made.Columns = 1  # otherwise the note would classify it as an image
    return made
