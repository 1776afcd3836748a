"""Open a MONAI Label image (a file, a folder or an archive) as a study."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lesionlens.base.errors import UnusableInputError, is_full_disk
from lesionlens.base.files.nifti_names import is_nifti_name
from lesionlens.base.labels import MrSequence, naming_advice
from lesionlens.base.provenance import sha256_of
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.study import EvidenceKind, Study
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.base.text import percent_digits
from lesionlens.imaging.preparation.prepare import reference_of
from lesionlens.imaging.reading.readers import open_study
from lesionlens.imaging.reading.series_selection import NothingRecognisedError
from lesionlens.results.export.nifti import write_volume

SUFFIXES = (".nii.gz", ".nii", ".zip")
AUTO = "auto"
"""Value of `sequence` for automatic detection."""
LIKELY = 0.6
"""Minimum probability for assigning a sequence to an unidentified volume, with a notice."""
_MAX_UNPACKED_BYTES = 2**33
_MAX_FILES = 20_000
_DAMAGED_ZIP = (
    zipfile.BadZipFile, RuntimeError, OSError, ValueError, EOFError, zlib.error, lzma.LZMAError,
)  # fmt: skip
"""Exceptions of a damaged archive: `zipfile` passes on those of its decoders and of names."""


def suffix_of(name: str) -> str:
    """Return the suffix of an image's file name.

    Raises
    ------
    UnusableInputError
        The suffix is not supported.

    Examples
    --------
    >>> suffix_of("case.nii.gz")
    '.nii.gz'
    """
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix):
            return suffix
    raise UnusableInputError(
        found=f"an unsupported file type ({Path(name).suffix or 'no suffix'!r:.20})",
        expected=f"one of {', '.join(SUFFIXES)}",
        next_step="Send NIfTI, or a study's folder as a zip archive",
    )


def image_name(file: str) -> str:
    """Return an image's ID: its file name without the suffix.

    Examples
    --------
    >>> image_name("case.nii.gz")
    'case'
    """
    file_name = Path(file).name
    suffix = next((s for s in SUFFIXES if file_name.lower().endswith(s)), "")
    return file_name[: len(file_name) - len(suffix)]


def study_of(
    path: Path, request_params: Mapping[str, Any], scratch_folder: Path, context: RunContext
) -> Study:
    """Open an image as a study.

    Parameters
    ----------
    path : Path
        A NIfTI file, a folder, or a zip archive of one.
    request_params : mapping
        Parameters of the request: `sequence` is the sequence of a 3-D file ("auto" or missing: by
        its name, else by the image itself).
    scratch_folder : Path
        Empty folder for unpacked files.

    Raises
    ------
    UnusableInputError
        The image cannot be read, the sequence is unknown, or it is named for a folder or an
        archive.
    """
    sequence = request_params.get("sequence")
    sequence = None if sequence in ("", AUTO) else sequence
    if path.is_dir() or zipfile.is_zipfile(path):
        if sequence is not None:
            raise UnusableInputError(
                found="params that would have no effect: a sequence for a folder or an archive",
                expected='"sequence" for a single file only',
                next_step="Omit it, and name each file by its sequence",
            )
        if path.is_file():
            unpack(path, scratch_folder)
            path = _only_folder(scratch_folder)
        return _open_folder(path, context)
    if sequence is not None:
        return open_study(path, named={_parse_sequence(sequence): path}, context=context)
    try:
        return open_study(path, context=context)
    except NothingRecognisedError as error:
        return _as_likeliest(path, error, context)


def _open_folder(path: Path, context: RunContext) -> Study:
    """Open a folder as a study; advice that names options becomes one that a client can follow."""
    try:
        return open_study(path, context=context)
    except UnusableInputError as error:
        if error.in_window == error.next_step:
            raise
        raise UnusableInputError(
            found=error.found,
            expected=error.expected,
            next_step="Send the images of one examination of one patient, with each NIfTI file "
            f"named by its sequence: {', '.join(MrSequence)}",
        ) from error


def for_client(notices: Iterable[str]) -> list[str]:
    """Return notices with advice that a client can follow in place of options.

    Examples
    --------
    >>> for_client([f"If that is wrong, {naming_advice(MrSequence.T2)}."])
    ['If that is wrong, send the file with T2 in its name.']
    """
    texts = []
    for notice in notices:
        text = notice
        for sequence in MrSequence:
            advice = f"send the file with {sequence.display_name} in its name"
            text = text.replace(naming_advice(sequence), advice)
        texts.append(text)
    return texts


def _as_likeliest(path: Path, error: NothingRecognisedError, context: RunContext) -> Study:
    """Open a volume as its most likely sequence, with a notice about the uncertainty."""
    from lesionlens.imaging.reading import sequence_from_image

    unidentified = error.study.set_aside
    if not unidentified:
        raise UnusableInputError(
            found=error.found,
            expected="NIfTI of one volume",
            next_step="Send such a file, or an archive with one for each sequence",
        ) from error
    likeliest = sequence_from_image.judge(unidentified[0]).ranked if len(unidentified) == 1 else ()
    if not likeliest or likeliest[0][1] < LIKELY:
        raise UnusableInputError(
            found=error.found,
            expected="a sequence identified by the file name, or by the image with at least "
            f"{LIKELY:.0%}",
            next_step=f'Name it in the params: "sequence": one of {", ".join(MrSequence)}',
        ) from error
    (sequence, probability), (other, other_probability) = likeliest
    likelihoods = (
        f"{sequence.display_name} ({percent_digits(probability)}%), "
        f"else {other.display_name} ({percent_digits(other_probability)}%)"
    )
    notice = (
        "In doubt: nothing identifies the sequence; by the image it is most likely "
        f"{likelihoods}. It was read as {sequence.display_name}; if that is wrong, send "
        f'"sequence": "{other}" in the params.'
    )
    if {sequence, other} == {MrSequence.T1, MrSequence.T1C}:
        notice += " Whether contrast was given is in doubt, and so is every enhancing region."
    study = open_study(path, named={sequence: path}, context=context)
    series = replace(
        study.series[sequence],
        detected_by=f"the image itself, in doubt: {likelihoods}",
        confidence=round(sequence_from_image.CONFIDENCE * probability, 2),
        evidence_kind=EvidenceKind.IMAGE,
    )
    return replace(study, series={sequence: series}, notices=(*study.notices, notice))


def as_volume(path: Path, scratch_folder: Path) -> Path:
    """Return an image as one file for a viewer.

    Of a folder or archive, the reference sequence, which has the grid of the label maps, is written
    as NIfTI into the folder `scratch_folder`.

    Raises
    ------
    UnusableInputError
        The image cannot be read.
    """
    if path.is_file() and not zipfile.is_zipfile(path):
        return path
    study = study_of(path, {}, scratch_folder, SILENT)
    series = study.series[reference_of(study.series)]
    volume = Volume(series.load(), series.grid)
    return write_volume(scratch_folder / volume_name(path), volume, codes=series.nifti_codes)


def checksum_of(volume: Path) -> str:
    """Return the checksum of a file for a viewer, as 3D Slicer's plug-in compares it.

    Without a checksum the plug-in shows any file of that name in its cache instead of this one.
    """
    return f"SHA256:{sha256_of(volume)}"


def volume_name(path: Path) -> str:
    """Return the file name for a viewer, which depends on the suffix.

    Examples
    --------
    >>> volume_name(Path("case.zip")), volume_name(Path("case.nii"))
    ('case.nii.gz', 'case.nii')
    """
    is_nifti = is_nifti_name(path.name) and not path.is_dir()
    return path.name if is_nifti else f"{image_name(path.name)}.nii.gz"


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip archive; names cannot leave the folder.

    Raises
    ------
    UnusableInputError
        The archive is damaged or too large.
    """
    try:
        with zipfile.ZipFile(archive) as zip_file:
            members = zip_file.infolist()
            if (
                len(members) > _MAX_FILES
                or sum(member.file_size for member in members) > _MAX_UNPACKED_BYTES
            ):
                raise UnusableInputError(
                    found="an archive larger than a study",
                    expected=f"at most {_MAX_FILES} files of {_MAX_UNPACKED_BYTES / 2**30:.0f} GB",
                    next_step="Send one study",
                )
            zip_file.extractall(folder)
    except _DAMAGED_ZIP as error:
        if is_full_disk(error):
            raise
        raise UnusableInputError(
            found=f"an archive that cannot be unpacked ({type(error).__name__})",
            expected="a zip archive of a study's folder",
            next_step="Pack it again",
        ) from error


def _only_folder(folder: Path) -> Path:
    entries = [*folder.iterdir()]
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else folder


def _parse_sequence(name: Any) -> MrSequence:
    try:
        return MrSequence(str(name).lower())
    except ValueError:
        raise UnusableInputError(
            found=f"the sequence {name!r:.40}",
            expected=", ".join(MrSequence),
            next_step="Name one of these",
        ) from None
