"""De-identify a folder of DICOM files into a copy, completely or not at all."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lesionlens.base.errors import LesionLensError, ReadError, UnusableInputError
from lesionlens.base.files.manifest import OwnedFiles
from lesionlens.base.files.staging import staged
from lesionlens.base.process.ignored_warnings import warnings_ignored
from lesionlens.base.records.patient import Patient, conflict_among, in_words
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.base.text import abbreviated_list
from lesionlens.imaging.deidentification.clean import (
    Cleaner,
    code_item,
    identifying_words,
    patient_id,
)
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
    "Faces remain: the surface of the head can be rendered from the images and may identify the "
    "person. No face was removed (Clean Recognizable Visual Features, 113102, was not applied)"
)
SOME_FACES_REMAIN = (
    "Faces remain in some images: without a brain or a position in the patient they could not be "
    "removed (113102)"
)
FACE_REMOVED = (
    "with the face removed by a template: eyes, nose, mouth, brow and ears (113102). Render the "
    "surface of the head and check it before you share the data"
)
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_ENCAPSULATED_DOCUMENTS = "1.2.840.10008.5.1.4.1.1.104."
_OVERLAY_ROWS, _OVERLAY_DATA = 0x0010, 0x3000
_DICOMDIR = "1.2.840.10008.1.3.10"
_PatientRow = tuple[str, str, Patient]  # Patient ID, Study Instance UID and demographics
_MAX_NAMED_FILES = 4


@dataclass(frozen=True, slots=True)
class DeidentifiedFolder:
    """The outcome: number of files written, and notices for the user."""

    file_count: int
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
    finish : callable or None
        Called before the copy appears, such as to write the map; if it fails, there is no copy.

    Raises
    ------
    UnusableInputError
        There is no DICOM file that can be de-identified, or files of different patients have one
        SOP Instance UID.
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
    identifying, patients = _headers_of(files, source, context)
    id_by_study = _patient_ids_by_study(patients)
    cleaner = Cleaner(options, pseudonyms, identifying, patient_id_by_study=id_by_study)
    faces = None if options.keep_faces else find_faces(files, context=context.quiet())
    counts: Counter[str] = Counter()
    outcomes: Counter[DefacingOutcome] = Counter()
    if not_dicom := len(paths) - len(files):
        counts["not DICOM and not copied"] = not_dicom
    with staged(
        out, own_files=lambda existing: _earlier_copies(existing, staging), shared=True
    ) as staging:
        written = 0
        for index, path in enumerate(files):
            context.check("de-identifying")
            context.progress("de-identifying", 0.5 + 0.5 * index / len(files))
            with _reporting_damage(path):
                written += _write_copy(path, staging, cleaner, faces, outcomes, counts)
        if not written:
            raise UnusableInputError(
                found="only files that cannot be de-identified: " + "; ".join(counts),
                expected="images or structured reports",
                next_step="Check them; --burned-in includes images with text in their pixels",
            )
        if finish is not None:
            finish()
    notices = (f"{count} × {label}" for label, count in counts.items())
    return DeidentifiedFolder(
        written, (*notices, *_patient_notices(patients, id_by_study), *_face_notices(outcomes))
    )


def _headers_of(
    files: list[Path], source: Path, context: RunContext
) -> tuple[frozenset[str], list[_PatientRow]]:
    """Return the identifying words of all files, and the patient of each."""
    identifying: set[str] = set()
    patients: list[_PatientRow] = []
    paths_by_uid: dict[str, dict[Patient, Path]] = defaultdict(dict)
    for index, path in enumerate(files):
        context.check("reading the headers")
        context.progress("reading the headers", 0.5 * index / len(files))
        header = _read(path, stop_before_pixels=True)
        with _reporting_damage(path):
            identifying |= identifying_words(header)
            study, uid = (
                str(header.get(tag) or "") for tag in ("StudyInstanceUID", "SOPInstanceUID")
            )
            patients.append((patient_id(header), study, Patient.of(header.get)))
            paths_by_uid[uid].setdefault(patients[-1][2], path.relative_to(source))
    paths_by_uid.pop("", None)
    _refuse_shared_uids(paths_by_uid.values())
    return frozenset(identifying), patients


def _refuse_shared_uids(groups: Iterable[Mapping[Patient, Path]]) -> None:
    """Refuse files of one SOP Instance UID whose patients differ: only one could be copied."""
    for paths in groups:
        if fields := conflict_among(paths, gaps=False):
            names = abbreviated_list(
                [repr(path.as_posix()) for path in paths.values()], _MAX_NAMED_FILES
            )
            raise UnusableInputError(
                found=f"files of different patients under one SOP Instance UID: {names}, which "
                f"differ in {in_words(fields)}",
                expected="one patient for each image",
                next_step="De-identify each patient in a separate folder with a separate key; if "
                "an archive corrected the patient, remove the outdated file",
            )


def _earlier_copies(out: Path, staging: Path) -> OwnedFiles:
    """Return the files that may be overwritten: earlier copies of a patient's same objects."""
    copies: dict[str, str | None] = {}
    for path in staging.rglob("*.dcm"):
        name = path.relative_to(staging)
        if not (out / name).is_file():
            continue
        with suppress(OSError, *DAMAGED):
            earlier, new = (read_dicom(at / name, stop_before_pixels=True) for at in (out, staging))
            same = (earlier.SOPInstanceUID, earlier.PatientID) == (
                new.SOPInstanceUID,
                new.PatientID,
            )
            if same and earlier.PatientIdentityRemoved == "YES":
                copies[name.as_posix()] = None
    return copies


def _patient_ids_by_study(patients: Iterable[_PatientRow]) -> dict[str, str]:
    """Return the patient ID of each study with exactly one, for its files that have none."""
    ids_by_study: dict[str, set[str]] = defaultdict(set)
    for key, study, _ in patients:
        if key and study:
            ids_by_study[study].add(key)
    return {study: min(ids) for study, ids in ids_by_study.items() if len(ids) == 1}


def _patient_notices(patients: Iterable[_PatientRow], id_by_study: Mapping[str, str]) -> list[str]:
    """Return a notice for each patient ID whose files describe different people."""
    by_id: dict[str, dict[Patient, None]] = defaultdict(dict)
    for key, study, patient in patients:
        by_id[key or id_by_study.get(study, "")][patient] = None
    differing = (conflict_among(variants, gaps=False) for key, variants in by_id.items() if key)
    return [
        f"One patient ID, which became one pseudonym, is used with different values of "
        f"{in_words(fields)}: if these are two people, de-identify each in a folder and with a "
        "key of its own"
        for fields in differing
        if fields
    ]


def _face_notices(outcomes: Counter[DefacingOutcome]) -> list[str]:
    notices = []
    if outcomes[DefacingOutcome.REMOVED]:
        notices.append(f"{outcomes[DefacingOutcome.REMOVED]} × {FACE_REMOVED}")
    if stripped := outcomes[DefacingOutcome.SKULL_STRIPPED]:
        notices.append(f"{stripped} × a skull-stripped brain: no face to remove")
    if outcomes[DefacingOutcome.REMAINS]:
        any_removed = outcomes[DefacingOutcome.REMOVED] or outcomes[DefacingOutcome.SKULL_STRIPPED]
        notices.append(
            f"{outcomes[DefacingOutcome.REMAINS]} × {SOME_FACES_REMAIN}"
            if any_removed
            else FACES_REMAIN
        )
    return notices


def deidentify_files(files: Iterable[Path], cleaner: Cleaner) -> None:
    """De-identify DICOM objects written by LesionLens in place, such as a staged result."""
    for path in files:
        dataset = _read(path)
        with _reporting_damage(path):
            cleaner.clean(dataset)
            dataset.save_as(path, enforce_file_format=True)


def _write_copy(
    path: Path,
    staging: Path,
    cleaner: Cleaner,
    faces: Faces | None,
    outcomes: Counter[DefacingOutcome],
    counts: Counter[str],
) -> bool:
    """Write one file; return False, and count the reason, if it must not be copied."""
    dataset = _read(path)
    reason = exclusion_reason(dataset, burned_in=cleaner.options.burned_in)
    if reason is not None:
        counts[f"left out: {reason}"] += 1
        return False
    if _overlay_groups(dataset):
        counts["with an overlay plane, which was removed"] += 1
    outcome = remove_face(dataset, path, faces or Faces({}, frozenset()))
    cleaner.clean(dataset)
    if outcome is DefacingOutcome.REMOVED:
        dataset.DeidentificationMethodCodeSequence.append(code_item(*METHOD))
    folder = staging / dataset.SeriesInstanceUID
    target = folder / f"{dataset.SOPInstanceUID}.dcm"
    if target.exists():
        counts["left out: the same SOP Instance UID as another file"] += 1
        return False
    outcomes[outcome] += 1
    folder.mkdir(exist_ok=True)
    dataset.save_as(target, enforce_file_format=True)
    return True


def exclusion_reason(dataset: Any, *, burned_in: bool) -> str | None:
    """Return why an object must not be copied; None if it may.

    Parameters
    ----------
    burned_in : bool
        Whether to include images that may contain burned-in text.
    """
    sop_class = str(dataset.get("SOPClassUID") or "")
    image_types = {str(value).upper() for value in dataset.get("ImageType") or ()}
    annotated = str(dataset.get("BurnedInAnnotation") or "").upper() == "YES"
    has_uids = all(dataset.get(key) for key in ("SOPInstanceUID", "SeriesInstanceUID"))
    captured = sop_class.startswith(_SECONDARY_CAPTURE) or "SCREEN SAVE" in image_types
    rules = (
        (sop_class == _DICOMDIR, "a DICOMDIR, which names the files of the source"),
        (not sop_class or not has_uids, "not a DICOM object: its UIDs are missing"),
        (
            sop_class.startswith(_ENCAPSULATED_DOCUMENTS),
            "an encapsulated document, whose text cannot be cleaned",
        ),
        (annotated and not burned_in, "text burned into its pixels (Burned In Annotation is YES)"),
        (captured and not burned_in, "a secondary capture, whose pixels may hold text"),
        (
            _has_embedded_overlay(dataset) and not burned_in,
            "an overlay within the bits of its pixels",
        ),
    )
    return next((reason for applies, reason in rules if applies), None)


def _overlay_groups(dataset: Any) -> set[int]:
    """Return the groups of overlay planes."""
    return {tag.group for tag in dataset.keys() if tag.group & 0xFF00 == 0x6000}  # noqa: SIM118


def _has_embedded_overlay(dataset: Any) -> bool:
    """Return whether an overlay is stored in unused pixel bits (retired in 2004)."""
    return any(
        (group, _OVERLAY_ROWS) in dataset and (group, _OVERLAY_DATA) not in dataset
        for group in _overlay_groups(dataset)
    )


@contextmanager
def _reporting_damage(path: Path) -> Iterator[None]:
    """Turn errors of decoding, which happen when a value is first read, into a `ReadError`."""
    try:
        with warnings_ignored():
            yield
    except LesionLensError:
        raise
    except DAMAGED as error:
        raise ReadError(
            found=f"a DICOM file that cannot be read and written completely: {path.name}",
            expected="files without damage",
            next_step="Take it out of the folder, then start again",
        ) from error


def _read(path: Path, *, stop_before_pixels: bool = False) -> Any:
    with _reporting_damage(path):
        return read_dicom(path, force=True, stop_before_pixels=stop_before_pixels)
