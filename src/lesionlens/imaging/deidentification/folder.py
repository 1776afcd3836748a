"""De-identify a folder of DICOM files into a copy, completely or not at all."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lesionlens.base.errors import LesionLensError, ReadError, UnusableInputError
from lesionlens.base.files.manifest import OwnedFiles
from lesionlens.base.files.staging import staged
from lesionlens.base.records.patient import Patient, conflict_among, in_words
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.imaging.deidentification.clean import Cleaner, coded, identifying_words
from lesionlens.imaging.deidentification.defacing import (
    METHOD,
    DefacingOutcome,
    Faces,
    find_faces,
    remove_face,
)
from lesionlens.imaging.deidentification.profile import Options
from lesionlens.imaging.deidentification.pseudonyms import Pseudonyms
from lesionlens.imaging.reading.dicom.bounded import DAMAGED, read_dicom
from lesionlens.imaging.reading.dicom.scan import looks_like_dicom, walk

FACES_REMAIN = (
    "Faces remain: a surface of the head can be drawn from the images, and a person known by it. "
    "No face was taken off (Clean Recognizable Visual Features, 113102, was not done)"
)
SOME_REMAIN = (
    "Faces remain in some images: no brain, or no place of the pixels in the patient, was found "
    "there by which to take them off (113102)"
)
TAKEN_OFF = (
    "with the face taken off by a template: eyes, nose, mouth, brow and ears (113102). Draw the "
    "surface of the head and look before you hand it on"
)
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_DOCUMENT = "1.2.840.10008.5.1.4.1.1.104."
_OVERLAY_ROWS, _OVERLAY_DATA = 0x0010, 0x3000
_DICOMDIR = "1.2.840.10008.1.3.10"
_Person = tuple[str, str, Patient]  # Patient ID, Study Instance UID, and who it is


@dataclass(frozen=True, slots=True)
class DeidentifiedFolder:
    """Number of files written, and notices for the user."""

    files: int
    notices: tuple[str, ...]


def deidentify_folder(
    source: Path,
    out: Path,
    pseudonyms: Pseudonyms,
    options: Options,
    *,
    finish: Callable[[], None] | None = None,
    context: RunContext = SILENT,
) -> DeidentifiedFolder:
    """Write a de-identified copy of every DICOM file below a folder.

    Parameters
    ----------
    source, out : Path
        Input folder, and output folder with one sub-folder per series.
    pseudonyms, options
        How; see `Cleaner`.
    finish : callable or None
        Called before the copy appears, such as to write the map; if it fails, there is no copy.

    Raises
    ------
    UnusableInputError
        There is no DICOM file that can be de-identified.
    ReadError
        A file is damaged.
    """
    paths = list(walk(source)) if source.is_dir() else [source]
    files = [path for path in paths if looks_like_dicom(path)]
    if not files:
        raise UnusableInputError(
            found=f"no DICOM file in {source.name!r}",
            expected="DICOM files",
            next_step="Name the folder of the study, or of a result that holds `dicom`",
        )
    identifying: set[str] = set()
    people: list[_Person] = []
    for number, path in enumerate(files):
        context.check("reading the headers")
        context.progress("reading the headers", 0.5 * number / len(files))
        header = _read(path, stop_before_pixels=True)
        with _whole(path):
            identifying |= identifying_words(header)
            own, study = (str(header.get(tag) or "") for tag in ("PatientID", "StudyInstanceUID"))
            people.append((own, study, Patient.of(header.get)))
    of_study = _numbers_by_study(people)
    cleaner = Cleaner(options, pseudonyms, frozenset(identifying), of_study=of_study)
    faces = None if options.keep_faces else find_faces(files, context=context.quiet())
    counts: Counter[str] = Counter()
    kept: Counter[DefacingOutcome] = Counter()
    if left := len(paths) - len(files):
        counts["not DICOM and not copied"] = left
    with staged(out, ours=lambda place: _earlier_copies(place, aside), shared=True) as aside:
        written = 0
        for number, path in enumerate(files):
            context.check("de-identifying")
            context.progress("de-identifying", 0.5 + 0.5 * number / len(files))
            with _whole(path):
                written += _one(path, aside, cleaner, faces, kept, counts)
        if not written:
            raise UnusableInputError(
                found="only files that cannot be de-identified: " + "; ".join(counts),
                expected="images or structured reports",
                next_step="Look at them; --burned-in takes pictures with text along",
            )
        if finish is not None:
            finish()
    notices = (f"{count} × {what}" for what, count in counts.items())
    return DeidentifiedFolder(
        written, (*notices, *_of_patients(people, of_study), *_of_faces(kept))
    )


def _earlier_copies(out: Path, aside: Path) -> OwnedFiles:
    """Return the files that may be overwritten: earlier copies of the same objects."""
    found: dict[str, str | None] = {}
    for path in aside.rglob("*.dcm"):
        name = path.relative_to(aside)
        if not (out / name).is_file():
            continue
        with suppress(OSError, *DAMAGED):
            header = read_dicom(out / name, stop_before_pixels=True)
            if (header.SOPInstanceUID, header.PatientIdentityRemoved) == (name.stem, "YES"):
                found[name.as_posix()] = None
    return found


def _numbers_by_study(people: Iterable[_Person]) -> dict[str, str]:
    """Return the patient ID of each study that has one, and no other: for its files without."""
    found: dict[str, set[str]] = defaultdict(set)
    for number, study, _ in people:
        if number and study:
            found[study].add(number)
    return {study: min(numbers) for study, numbers in found.items() if len(numbers) == 1}


def _of_patients(people: Iterable[_Person], of_study: Mapping[str, str]) -> list[str]:
    """Return a notice for each patient ID, and so each pseudonym, that stands for two people."""
    patients: dict[str, dict[Patient, None]] = defaultdict(dict)
    for number, study, patient in people:
        patients[number or of_study.get(study, "")][patient] = None
    differing = (conflict_among(found, gaps=False) for key, found in patients.items() if key)
    return [
        f"One patient ID, which became one pseudonym, is used with different values of "
        f"{in_words(fields)}: if these are two people, de-identify each in a folder and with a "
        "key of its own"
        for fields in differing
        if fields
    ]


def _of_faces(kept: Counter[DefacingOutcome]) -> list[str]:
    notices = []
    if kept[DefacingOutcome.TAKEN_OFF]:
        notices.append(f"{kept[DefacingOutcome.TAKEN_OFF]} × {TAKEN_OFF}")
    if kept[DefacingOutcome.BARE]:
        notices.append(
            f"{kept[DefacingOutcome.BARE]} × a brain without its head: no face to take off"
        )
    if kept[DefacingOutcome.REMAINS]:
        some = kept[DefacingOutcome.TAKEN_OFF] or kept[DefacingOutcome.BARE]
        notices.append(f"{kept[DefacingOutcome.REMAINS]} × {SOME_REMAIN}" if some else FACES_REMAIN)
    return notices


def deidentify_files(files: Iterable[Path], cleaner: Cleaner) -> None:
    """De-identify DICOM objects written by LesionLens in place, such as a staged result."""
    for path in files:
        dataset = _read(path)
        cleaner.clean(dataset)
        _save(dataset, path)


def _one(
    path: Path,
    aside: Path,
    cleaner: Cleaner,
    faces: Faces | None,
    kept: Counter[DefacingOutcome],
    counts: Counter[str],
) -> bool:
    """Write one file, or count the reason why not."""
    dataset = _read(path)
    reason = exclusion_reason(dataset, burned_in=cleaner.options.burned_in)
    if reason is not None:
        counts[f"left out: {reason}"] += 1
        return False
    if _overlays(dataset):
        counts["with an overlay plane, which was removed"] += 1
    outcome = remove_face(dataset, path, faces or Faces({}, frozenset()))
    cleaner.clean(dataset)
    if outcome is DefacingOutcome.TAKEN_OFF:
        dataset.DeidentificationMethodCodeSequence.append(coded(*METHOD))
    folder = aside / dataset.SeriesInstanceUID
    place = folder / f"{dataset.SOPInstanceUID}.dcm"
    if place.exists():
        other = _read(place, stop_before_pixels=True).get("PatientID") != dataset.get("PatientID")
        whose = (
            "another patient's file: de-identify each patient apart" if other else "another file"
        )
        counts[f"left out: the same SOP Instance UID as {whose}"] += 1
        return False
    kept[outcome] += 1
    folder.mkdir(exist_ok=True)
    _save(dataset, place)
    return True


def exclusion_reason(dataset: Any, *, burned_in: bool) -> str | None:
    """Return why an object must not be copied; None if it may.

    Parameters
    ----------
    dataset : Dataset
        Data set before cleaning.
    burned_in : bool
        Whether to include images that may contain burned-in text.
    """
    kind = str(dataset.get("SOPClassUID") or "")
    kinds = {str(value).upper() for value in dataset.get("ImageType") or ()}
    annotated = str(dataset.get("BurnedInAnnotation") or "").upper() == "YES"
    named = all(key in dataset for key in ("SOPInstanceUID", "SeriesInstanceUID"))
    captured = kind.startswith(_SECONDARY_CAPTURE) or "SCREEN SAVE" in kinds
    rules = (
        (kind == _DICOMDIR, "a DICOMDIR, which names the files of the source"),
        (not kind or not named, "no object of DICOM: its UIDs are missing"),
        (kind.startswith(_DOCUMENT), "an encapsulated document, whose text cannot be cleaned"),
        (annotated and not burned_in, "text burned into its pixels (Burned In Annotation is YES)"),
        (captured and not burned_in, "a secondary capture, whose pixels may hold text"),
        (_embedded(dataset) and not burned_in, "an overlay within the bits of its pixels"),
    )
    return next((reason for holds, reason in rules if holds), None)


def _overlays(dataset: Any) -> set[int]:
    """Return the groups of overlay planes."""
    return {tag.group for tag in dataset.keys() if tag.group & 0xFF00 == 0x6000}  # noqa: SIM118


def _embedded(dataset: Any) -> bool:
    """Return whether an overlay is stored in unused pixel bits (retired in 2004)."""
    return any(
        (group, _OVERLAY_ROWS) in dataset and (group, _OVERLAY_DATA) not in dataset
        for group in _overlays(dataset)
    )


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    """Name the file whose damage raises an exception; values are decoded when they are needed."""
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except LesionLensError:
        raise
    except DAMAGED as error:
        raise ReadError(
            found=f"a DICOM file that cannot be read and written whole: {path.name}",
            expected="files without damage",
            next_step="Take it out of the folder, then start again",
        ) from error


def _read(path: Path, *, stop_before_pixels: bool = False) -> Any:
    with _whole(path):
        return read_dicom(path, force=True, stop_before_pixels=stop_before_pixels)


def _save(dataset: Any, path: Path) -> None:
    with _whole(path):
        dataset.save_as(path, enforce_file_format=True)
