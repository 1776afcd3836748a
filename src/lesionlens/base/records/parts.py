"""Verify that the files of a saved result were written together.

run.json holds the SHA-256 of every file that was written with it. Later decisions (`review.json`,
outlines named by their digest) and send records are not among them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from pydantic import ValidationError

from lesionlens.base.errors import ReadError, is_refusal, unreadable
from lesionlens.base.files.bounded_read import Model, read_model
from lesionlens.base.files.journal import recover
from lesionlens.base.files.manifest import is_inside
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.provenance import sha256_of
from lesionlens.base.records.files import CONSIDERED, RunFile

ORIGINAL = "review_edits/original"
"""The network's own outlines, and the comparison as computed, if readers edited outlines."""
MEASURED = (
    "findings.json",
    "segmentation.nii.gz",
    "candidates.nii.gz",
    f"{ORIGINAL}/findings.json",
    f"{ORIGINAL}/segmentation.nii.gz",
    f"{ORIGINAL}/candidates.nii.gz",
)
"""Files with candidates and measurements."""
MAPS = (
    *(f"{kind}_{r.value}.nii.gz" for kind in ("probability", "attention") for r in Region),
    *(f"evidence_{name}.nii.gz" for name in (*MrSequence, "none")),
    "uncertainty.nii.gz",
    CONSIDERED,
    "followup.json",
    f"{ORIGINAL}/followup.json",
)
"""Other files that are read when a result is opened."""
_REVIEW = "review.json"
_WRITTEN_LATER = re.compile(
    r"review\.json|sent\.json|review_edits/[0-9a-f]{64}\.nii\.gz|earlier_reviews/.*"
)


class AlteredResultError(ReadError):
    """A result with files that were changed, replaced or added since it was written."""

    def __init__(self, names: tuple[str, ...], found: str) -> None:
        self.names = names
        super().__init__(
            found=f"{found}: {', '.join(names)}",
            expected="the files of one result as they were written together",
            next_step="Restore them from a backup or analyse the study again. To use an outline "
            "that was edited in another program, open it by itself; it is measured again: "
            "lesionlens review MASK.nii.gz STUDY",
            in_window="Restore them from a backup or analyse the study again. To use an outline "
            "that was edited in another program, open its file by itself; it is measured again",
        )


def read_run_file(folder: Path) -> RunFile:
    """Read the run.json of a result.

    Raises
    ------
    ReadError
        Missing, or not written by LesionLens.
    """
    return read_part(folder / "run.json", RunFile)


def read_part(path: Path, model: type[Model]) -> Model:
    """Read a JSON file of a result; raises as `read_run_file`."""
    try:
        return read_model(path, model)
    except (OSError, ValueError) as error:
        raise unreadable_part(path, error) from error


def check_parts(folder: Path, run: RunFile, names: Iterable[str]) -> tuple[str, ...]:
    """Verify parts of a result against the digests in its run.json.

    Parameters
    ----------
    names : iterable of str
        The files about to be used, such as `MEASURED`.

    Returns
    -------
    tuple of str
        Notices about other files of the result that were changed or are missing.

    Raises
    ------
    AlteredResultError
        Files among `names` were changed, or exist without having been written; the message names
        them.
    """
    if not all(map(is_inside, (row.file for row in run.files))):
        raise unreadable_part(folder / "run.json")
    digests = {row.file: row.sha256 for row in run.files if not _WRITTEN_LATER.fullmatch(row.file)}
    used = set(names)
    present = {name for name in used if (folder / name).exists()}
    altered = sorted(_changed(folder, digests, present & set(digests)))
    if altered:
        raise AlteredResultError(tuple(altered), "files that were changed since")
    if foreign := sorted(present - set(digests)):
        raise AlteredResultError(tuple(foreign), "files that do not belong to the result")
    return tuple(_file_notices(folder, digests, used))


def check_objects(result: Path) -> None:
    """Verify the DICOM objects of a result before they are sent.

    Parameters
    ----------
    result : Path
        A result folder, its folder `dicom`, or any other folder, which is not checked.

    Raises
    ------
    AlteredResultError
        Objects were changed or added since the result was written.
    ReadError
        run.json is damaged, or a response was signed or withdrawn since the result was written.
    """
    resolved = result.resolve()
    folder = resolved.parent if resolved.name == "dicom" else resolved
    recover(folder)  # otherwise objects of two results could be sent
    if not (folder / "run.json").is_file():
        return
    run = read_run_file(folder)
    review_digest = next((row.sha256 for row in run.files if row.file == _REVIEW), None)
    if review_digest and (folder / _REVIEW).is_file():
        _check_review(folder / _REVIEW, review_digest)
    objects = (p for p in (folder / "dicom").rglob("*") if p.is_file())
    names = [p.relative_to(folder).as_posix() for p in objects]
    check_parts(folder, run, names)


def _check_review(path: Path, digest: str) -> None:
    """Check that the objects state the review as it is now."""
    if sha256_of(path) != digest:
        raise ReadError(
            found="a review that changed after the DICOM objects were written, such as by a "
            "response that was signed or withdrawn",
            expected="objects that state the current review",
            next_step="Write the result again with `lesionlens export`, and send that",
            in_window="Export the result again, and send that",
        )


def is_of_another_version(error: Exception) -> bool:
    """Return whether a file has another schema, or fields that this version does not know."""
    return isinstance(error, ValidationError) and any(
        each["type"] == "extra_forbidden"
        or (each["type"] == "literal_error" and each["loc"] == ("schema",))
        for each in error.errors(include_url=False, include_input=False, include_context=False)
    )


def unreadable_part(path: Path, error: Exception | None = None) -> ReadError:
    """Return the error for a file that is not part of a LesionLens result, or cannot be read."""
    if is_refusal(error):
        return unreadable(error, path.name)
    detail = ""
    if isinstance(error, ValidationError):
        first_error = error.errors(include_url=False, include_input=False, include_context=False)[0]
        detail = f" ({'.'.join(map(str, first_error['loc']))}: {first_error['type']})"
        if is_of_another_version(error):
            return ReadError(
                found=f"{path.name} of another version of LesionLens",
                expected="a result of this version or an earlier one",
                next_step="Update LesionLens, or analyse the study again",
            )
    return ReadError(
        found=f"no readable {path.name} in the result folder{detail}",
        expected="a folder that LesionLens wrote",
        next_step="Choose another folder, or analyse the study again",
    )


def _changed(folder: Path, digests: Mapping[str, str], names: Collection[str]) -> list[str]:
    return [
        name
        for name in names
        if not (folder / name).is_file() or sha256_of(folder / name) != digests[name]
    ]


def _file_notices(folder: Path, digests: Mapping[str, str], used: Collection[str]) -> list[str]:
    """Return notices about other files of the result that are missing or were changed."""
    missing = sorted(name for name in digests if not (folder / name).exists())
    unused = [name for name in digests if name not in used and name not in missing]
    altered = sorted(_changed(folder, digests, unused))
    notices = []
    if missing:
        notices.append(f"Files of the result are missing: {', '.join(missing)}")
    if altered:
        notices.append(
            f"Changed since the result was written, therefore not used: {', '.join(altered)}. "
            f"They may not match the measurements; export the result again"
        )
    return notices
