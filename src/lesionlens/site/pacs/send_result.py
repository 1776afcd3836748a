"""Send a result's DICOM objects to an archive."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pydicom.dataset import Dataset

from lesionlens.base.errors import ReadError, ResourceError, UnusableInputError
from lesionlens.base.provenance import sha256_of, utc_now
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.base.storage import finish, listed
from lesionlens.base.text import counted
from lesionlens.imaging.reading.dicom.files import looks_like_dicom, walk
from lesionlens.imaging.reading.open import check_path
from lesionlens.results.documents import record_sent
from lesionlens.site.pacs.delivery import Delivery
from lesionlens.site.pacs.files import ObjectKind, only
from lesionlens.site.pacs.intake import Pacs


@dataclass(frozen=True, slots=True)
class SendOptions:
    """Which objects of a result to send."""

    kinds: tuple[ObjectKind, ...] = ()
    """Types to send; all if empty."""
    same_patient: bool = False
    """Whether the user confirmed the patient of the study in the archive."""
    supersede: bool = False
    """Whether to reject earlier unreviewed objects of the study by a rejection note."""


def files_to_send(result: Path) -> list[Path]:
    """Return a result's DICOM objects (its folder `dicom`), or those of any folder.

    Raises
    ------
    UnusableInputError
        The path does not exist, or there is no DICOM file.
    ReadError
        Objects were changed or added since the result was written.
    """
    check_path(result)
    if result.is_file():
        raise UnusableInputError(
            found=f"the file {result.name!r}",
            expected="a result folder, or a folder of DICOM files",
            next_step="Name its folder; --only selects kinds of objects",
            in_window="Choose its folder",
        )
    check_objects(result)
    folder = folder_to_send(result)
    files = [path for path in walk(folder) if looks_like_dicom(path)] if folder.is_dir() else []
    if not files:
        raise UnusableInputError(
            found=f"no DICOM file in {folder.name!r}",
            expected="a result of a DICOM study (with a folder `dicom`), or DICOM files",
            next_step="Analyse a DICOM study first: NIfTI input gives no DICOM objects",
        )
    return files


def check_objects(result: Path) -> None:
    """Refuse to send the DICOM objects of a result that are not as they were written.

    Parameters
    ----------
    result : Path
        A result folder, its folder `dicom`, or any other folder, which is not checked.

    Raises
    ------
    ReadError
        Objects were edited or added, or the review was changed, since the result was written.
    """
    resolved = result.resolve()
    folder = resolved.parent if resolved.name == "dicom" else resolved
    finish(folder)
    own = listed(folder)
    if not own:
        return
    objects = (p for p in (folder / "dicom").rglob("*") if p.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in objects}
    altered = sorted(n for n, path in names.items() if own.get(n, "") != sha256_of(path))
    if altered:
        raise ReadError(
            f"These objects are not those of the result: {', '.join(altered)}.",
            hint="Export the result again, and send that.",
        )
    review = folder / "review.json"
    if own.get(review.name) and review.is_file() and sha256_of(review) != own[review.name]:
        raise ReadError(
            "The review was changed after the DICOM objects were written.",
            hint="Export the result again, and send that.",
        )


def send_result(
    archive: Pacs,
    result: Path,
    address: str,
    *,
    options: SendOptions | None = None,
    context: RunContext = SILENT,
) -> tuple[Delivery, tuple[str, ...]]:
    """Send a result's objects, and record in its folder that they were sent.

    Parameters
    ----------
    result : Path
        Result folder, its folder `dicom`, or any folder of DICOM files.

    Raises
    ------
    UnusableInputError
        Earlier objects are to be superseded, but none is known or the result is not reviewed.
    """
    from lesionlens.site.pacs import supersede

    options = options or SendOptions()
    files = only(files_to_send(result), options.kinds)
    folder = result.resolve().parent if result.resolve().name == "dicom" else result
    earlier: tuple[Dataset, ...] = ()
    notices: tuple[str, ...] = ()
    if options.supersede:
        earlier, notices = supersede.earlier_objects(
            archive, folder, files, address, options.kinds, context
        )
    delivery = archive.send(
        files,
        same_patient=options.same_patient,
        on_partial=lambda part: _record_delivery(folder, part, address),
        context=context,
    )
    recorded = _record_delivery(folder, delivery, address)
    if earlier and (delivery.refused or delivery.unlisted):
        verb = "refused" if delivery.refused else "does not list"
        notice = f"Earlier objects were not rejected: the archive {verb} some of the new ones."
        recorded = replace(recorded, notices=(*recorded.notices, notice))
    elif earlier:
        note_delivery = supersede.reject(
            archive, earlier, same_patient=options.same_patient, context=context
        )
        recorded = _with_note(recorded, note_delivery, len(earlier))
        if not note_delivery.refused:
            uids = tuple(str(header.SOPInstanceUID) for header in earlier)
            recorded = _record_delivery(folder, recorded, address, uids)
    others = supersede.other_reports_notices(archive, delivery.stored, context)
    return recorded, (*recorded.notices, *notices, *others)


def _with_note(delivery: Delivery, note_delivery: Delivery, count: int) -> Delivery:
    """Combine a result's delivery with that of its rejection note."""
    notices = [*delivery.notices, *note_delivery.notices]
    if not note_delivery.refused:
        notices.append(f"A rejection note names {counted(count, 'object')} as superseded.")
    return replace(
        delivery,
        stored=(*delivery.stored, *note_delivery.stored),
        refused=(*delivery.refused, *note_delivery.refused),
        unlisted=(*delivery.unlisted, *note_delivery.unlisted),
        notices=tuple(dict.fromkeys(notices)),
    )


def _record_delivery(
    folder: Path, delivery: Delivery, address: str, rejected_uids: tuple[str, ...] = ()
) -> Delivery:
    """Record in a result's folder what was sent, or only the rejected objects if any are named.

    A failure becomes a notice.
    """
    if not (folder / "run.json").is_file():
        return delivery
    files, known_notices = ((), ()) if rejected_uids else (delivery.stored, delivery.notices)
    try:
        notices = record_sent(folder, files, address, utc_now(), rejected_uids, known_notices)
    except ResourceError as error:
        notices = (f"The delivery could not be recorded: {error}",)
    return replace(delivery, notices=(*delivery.notices, *notices))


def folder_to_send(result: Path) -> Path:
    """Return the folder of a result's DICOM objects, or the folder itself."""
    return result / "dicom" if (result / "dicom").is_dir() else result
