"""Rejection note (IHE IOCM): a later result replaces an earlier one in the archive.

A Key Object Selection titled "Rejected for Quality Reasons" lists superseded objects; an archive
that supports IOCM hides them, any other keeps them together with the note.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata

from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from pydicom.dataset import Dataset

from lesionlens.base.codes import MANUFACTURER, REJECTED_FOR_QUALITY
from lesionlens.base.errors import UnusableInputError
from lesionlens.results.export.dicom.content_items import mark_separate
from lesionlens.results.export.dicom.identity import concept, of_new_instance

SUPERSEDED = "Superseded by a later, reviewed result (research use only)"


def rejection_of(objects: Sequence[Dataset]) -> KeyObjectSelectionDocument:
    """Build a note that rejects objects of one study.

    Parameters
    ----------
    objects : sequence of Dataset
        Headers of the earlier Segmentation, SR, maps and selections.

    Raises
    ------
    UnusableInputError
        There are no objects, they belong to several studies, or one is not a LesionLens object.
    """
    studies = {str(dataset.StudyInstanceUID) for dataset in objects}
    foreign = [dataset for dataset in objects if dataset.get("Manufacturer") != MANUFACTURER]
    if len(studies) != 1 or foreign:
        raise UnusableInputError(
            found=f"{len(objects)} objects of {len(studies)} studies, {len(foreign)} of them "
            "not by LesionLens",
            expected="objects of LesionLens, of one study",
            next_step="Name the folder of the earlier result's DICOM objects",
        )
    content = KeyObjectSelection(
        document_title=concept(REJECTED_FOR_QUALITY),
        referenced_objects=objects,
        description=SUPERSEDED,
    )
    mark_separate(content[0])
    note = KeyObjectSelectionDocument(
        evidence=objects,
        content=content,
        software_versions=metadata.version("lesionlens"),
        **of_new_instance("rejection"),
    )
    note.copy_patient_and_study_information(objects[0])
    return note
