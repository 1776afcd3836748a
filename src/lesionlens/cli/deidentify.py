"""`lesionlens deidentify`: de-identify DICOM files."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lesionlens.base.errors import ResourceError, UnusableInputError, os_reason
from lesionlens.base.files.safe_paths import check_outside, is_within, resolved
from lesionlens.base.files.staging import check_target
from lesionlens.base.text import counted
from lesionlens.cli import options
from lesionlens.cli.console import CommandOutput, plain, progress_bar

if TYPE_CHECKING:
    from lesionlens.imaging.deidentification.pseudonyms import Pseudonyms


class Dates(StrEnum):
    """How dates are treated; birth dates are always removed."""

    SHIFTED = "shifted"
    FULL = "full"


Key = Annotated[
    Path | None,
    typer.Option(
        help="Secret key for the replacement values; created if missing. Default: your own key.",
        metavar="FILE",
    ),
]
Map = Annotated[
    Path | None,
    typer.Option(
        "--map",
        help="Table of original and new UIDs and patients (CSV); keep it separate. Default: next "
        "to your key.",
        metavar="FILE",
    ),
]


def deidentify(
    source: Annotated[
        Path,
        typer.Argument(
            help="Folder of DICOM files, or a result that contains DICOM objects.", metavar="SRC"
        ),
    ],
    out: options.Out,
    dates: Annotated[
        Dates,
        typer.Option(
            help="Shift all dates of a patient by the same number of days (shifted), or "
            "keep them (full)."
        ),
    ] = Dates.SHIFTED,
    keep_uids: Annotated[
        bool,
        typer.Option("--keep-uids", help="Keep UIDs, which can be matched with the originals."),
    ] = False,
    device: Annotated[
        bool, typer.Option("--device/--no-device", help="Keep station and serial number.")
    ] = True,
    characteristics: Annotated[
        bool, typer.Option("--traits/--no-traits", help="Keep sex, age (to 90), size and weight.")
    ] = True,
    burned_in: Annotated[
        bool, typer.Option("--burned-in", help="Include images whose pixels may contain text.")
    ] = False,
    keep_faces: Annotated[
        bool, typer.Option("--keep-faces", help="Keep faces: leave all pixels unchanged.")
    ] = False,
    key: Key = None,
    map_file: Map = None,
    json: options.Json = False,
) -> CommandOutput:
    """Write a de-identified copy of DICOM files according to PS3.15 (Basic Profile with options).

    Files that are not DICOM are not copied. Faces are removed if a template fits the head; images
    with remaining faces are counted.
    """
    check_target(out)
    check_outside(source, out)
    with progress_bar() as context:
        from lesionlens.imaging.deidentification.folder import deidentify_folder
        from lesionlens.imaging.deidentification.profile import Options
        from lesionlens.imaging.reading.readers import check_path

        check_path(source)
        profile_options = Options(
            dates is Dates.FULL, keep_uids, device, characteristics, burned_in, keep_faces
        )
        pseudonyms, map_path = replacement(key, map_file, out)
        write_map = partial(pseudonyms.write_map, map_path)
        outcome = deidentify_folder(
            source, out, pseudonyms, profile_options, finish=write_map, context=context
        )
    if json:
        summary = {"files": outcome.file_count, "map": str(map_path), "notices": outcome.notices}
        return CommandOutput.of_json(summary)
    lines = (
        f"{counted(outcome.file_count, 'file')} in {plain(str(out))}",
        f"Map to the originals (keep it separate): {plain(str(map_path))}",
    )
    return CommandOutput(lines, outcome.notices)


def replacement(key: Path | None, map_path: Path | None, out: Path) -> tuple[Pseudonyms, Path]:
    """Return the replacement of identifiers, and the file for its map.

    Raises
    ------
    UnusableInputError
        Key or map lie in the output folder, are one file, or cannot be used.
    ResourceError
        They cannot be written, as by a user without a home.
    """
    from lesionlens.imaging.deidentification.pseudonyms import (
        Pseudonyms,
        check_map,
        create_or_check_map,
        home,
        read_or_create_key,
    )

    paths = key or home() / "key", map_path or home() / "map.csv"
    if resolved(paths[0]) == resolved(paths[1]):
        raise UnusableInputError(
            found=f"{paths[0].name!r} for the key and for the map",
            expected="a file for each",
            next_step="Choose another name for one of them",
        )
    for path in paths:
        if is_within(path, out):
            raise UnusableInputError(
                found=f"{path.name!r} within the output folder, which is to be shared",
                expected="key and map in another folder: they identify the patient",
                next_step="Choose other paths with --key and --map",
            )
    try:
        check_map(paths[1])  # before a new key is created
        pseudonyms = Pseudonyms(read_or_create_key(paths[0]))
        create_or_check_map(paths[1])
    except OSError as error:
        raise ResourceError(
            found=f"a secret key or map that cannot be read and written: {os_reason(error)}",
            expected="two files of your own, on a disk with free space",
            next_step="Name them with --key and --map",
        ) from error
    return pseudonyms, paths[1]
