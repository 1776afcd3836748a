"""What a client of MONAI Label calls an image: a file, a folder, or an archive, as a study."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import Study
from lesionlens.base.stages import Cancel, Progress
from lesionlens.imaging.reading.readers import open_study

SUFFIXES = (".nii.gz", ".nii", ".zip")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_UNPACKED_BYTES = 2**33
_FILES = 20_000


def safe_name(name: str) -> str:
    """Return a name that is one; a path, or anything odd, is refused.

    Raises
    ------
    UnusableInputError
        It is no plain name.

    Examples
    --------
    >>> safe_name("case-01")
    'case-01'
    """
    if not _NAME.fullmatch(name) or ".." in name:
        raise UnusableInputError(
            found=f"{name!r:.80} as a name",
            expected="letters, digits, dots, dashes and underscores",
            next_step="Choose a plain name",
        )
    return name


def suffix_of(name: str) -> str:
    """Return the suffix of an image's file name.

    Raises
    ------
    UnusableInputError
        It is not one that is read here.

    Examples
    --------
    >>> suffix_of("case.nii.gz")
    '.nii.gz'
    """
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix):
            return suffix
    raise UnusableInputError(
        found=f"a file of another kind ({Path(name).suffix or 'no suffix'!r:.20})",
        expected=f"one of {', '.join(SUFFIXES)}",
        next_step="Send NIfTI, or a study's folder as a zip archive",
    )


def image_name(file: str) -> str:
    """Return by what an image is known: its file's name without the suffix.

    Examples
    --------
    >>> image_name("case.nii.gz")
    'case'
    """
    plain = Path(file).name
    suffix = next((s for s in SUFFIXES if plain.lower().endswith(s)), "")
    return plain[: len(plain) - len(suffix)]


def study_of(
    place: Path, wishes: Mapping[str, Any], aside: Path, progress: Progress, cancel: Cancel
) -> Study:
    """Open an image as a study.

    Parameters
    ----------
    place : Path
        A NIfTI file, a folder, or a zip archive of one.
    wishes : mapping
        The request's parameters: `sequence` names that of a 3-D file, `channels` those of a 4-D
        file in their order.
    aside : Path
        An empty folder for what has to be unpacked.
    progress, cancel
        As everywhere.

    Raises
    ------
    UnusableInputError
        It cannot be read, or a 4-D file comes without `channels`.
    """
    if place.is_file() and zipfile.is_zipfile(place):
        unpack(place, aside)
        return open_study(_only_folder(aside), progress=progress, cancel=cancel)
    sequence = wishes.get("sequence")
    if place.is_dir() or sequence is not None:
        named = {} if sequence is None else {_sequence(sequence): place}
        return open_study(place, named=named or None, progress=progress, cancel=cancel)
    if _volumes(place) > 1:
        place = _split(place, wishes.get("channels"), aside)
    return open_study(place, progress=progress, cancel=cancel)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip archive; names cannot leave the folder.

    Raises
    ------
    UnusableInputError
        It is damaged, or too much.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            listed = opened.infolist()
            if len(listed) > _FILES or sum(one.file_size for one in listed) > _UNPACKED_BYTES:
                raise UnusableInputError(
                    found="an archive of more than a study",
                    expected=f"at most {_FILES} files of {_UNPACKED_BYTES / 2**30:.0f} GB",
                    next_step="Send one study",
                )
            opened.extractall(folder)
    except (zipfile.BadZipFile, RuntimeError, OSError) as error:
        raise UnusableInputError(
            found=f"an archive that cannot be unpacked ({type(error).__name__})",
            expected="a zip archive of a study's folder",
            next_step="Pack it again",
        ) from error


def _only_folder(folder: Path) -> Path:
    inside = [*folder.iterdir()]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


def _sequence(name: Any) -> MrSequence:
    try:
        return MrSequence(str(name).lower())
    except ValueError:
        raise UnusableInputError(
            found=f"the sequence {name!r:.40}",
            expected=", ".join(MrSequence),
            next_step="Name one of these",
        ) from None


def _volumes(place: Path) -> int:
    try:
        shape = nib.load(place).shape
    except Exception as error:  # noqa: BLE001  nibabel raises of many kinds
        raise UnusableInputError(
            found=f"an image that cannot be read ({type(error).__name__})",
            expected="NIfTI",
            next_step="Send it again",
        ) from None
    return int(np.prod(shape[3:], dtype=int))


def _split(place: Path, channels: Any, aside: Path) -> Path:
    """Write each volume of a 4-D file under the name of its sequence."""
    if channels is None:
        raise _unnamed(f"a 4-D file of {_volumes(place)} volumes and no names for them")
    if not isinstance(channels, Sequence) or isinstance(channels, str):
        channels = str(channels).split(",")
    names = [_sequence(str(name).strip()) for name in channels]
    if len(names) != _volumes(place) or len(set(names)) != len(names):
        raise _unnamed(f"{len(names)} names for {_volumes(place)} volumes")
    image = nib.load(place)
    for number, name in enumerate(names):
        nib.save(image.slicer[..., number], aside / f"{name.value}.nii.gz")
    return aside


def _unnamed(found: str) -> UnusableInputError:
    return UnusableInputError(
        found=found,
        expected="a sequence for each volume, no two alike",
        next_step='Name them in order, such as "channels": ["flair", "t1", "t1c", "t2"]',
    )
