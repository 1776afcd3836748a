"""Key Object Selections: where each candidate is largest, and which objects are superseded."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata

from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from pydicom.dataset import Dataset

from lesionlens.base.codes import MANUFACTURER, OF_INTEREST, REJECTED_FOR_QUALITY
from lesionlens.base.errors import UnusableInputError
from lesionlens.results.export.dicom import identity
from lesionlens.results.export.dicom.content_items import mark_separate
from lesionlens.results.export.dicom.framed import FramedResult

SUPERSEDED = "Superseded by a later, reviewed result (research use only)"


def build_ko(result: FramedResult) -> KeyObjectSelectionDocument | None:
    """Build the Key Object Selection.

    Returns
    -------
    KeyObjectSelectionDocument or None
        None without a candidate, and for a multi-frame source, because a selection refers to whole
        instances.
    """
    analysis, sources = result.analysis, result.sources
    if sources.frame_numbers is not None:
        return None
    frames = map(result.best_frame, identity.exported(analysis))
    key_images = [sources.datasets[frame] for frame in dict.fromkeys(frames)]
    if not key_images:
        return None
    content = KeyObjectSelection(
        document_title=identity.concept(OF_INTEREST),
        referenced_objects=key_images,
        observer_device_context=identity.observer(analysis),
        description="Where each candidate region is largest (research use only)",
    )
    mark_separate(content[0])
    selection = KeyObjectSelectionDocument(
        evidence=key_images, content=content, **identity.of_new_object(analysis, "key_objects")
    )
    # highdicom does this for all other objects
    selection.copy_patient_and_study_information(key_images[0])
    return selection


def rejection_of(objects: Sequence[Dataset]) -> KeyObjectSelectionDocument:
    """Build a note that rejects objects of one study (IHE IOCM).

    An archive that supports IOCM hides them, any other keeps them together with the note.

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
        document_title=identity.concept(REJECTED_FOR_QUALITY),
        referenced_objects=objects,
        description=SUPERSEDED,
    )
    mark_separate(content[0])
    note = KeyObjectSelectionDocument(
        evidence=objects,
        content=content,
        software_versions=metadata.version("lesionlens"),
        **identity.of_new_instance("rejection"),
    )
    note.copy_patient_and_study_information(objects[0])
    return note
