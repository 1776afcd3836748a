"""`lesionlens sample`: write the sample patients."""

from __future__ import annotations

import filecmp
import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from lesionlens.base.files import resolved
from lesionlens.base.labels import RESEARCH_USE_NOTICE
from lesionlens.base.storage import replaced_folder
from lesionlens.cli.console import CommandOutput, plain


def sample(
    out: Annotated[Path, typer.Argument(help="Output folder.", metavar="DIR")],
) -> CommandOutput:
    """Write the sample patients into a folder.

    A real patient as NIfTI (BraTS 2021, CC BY 4.0; see README.md there) with the expert
    segmentation, and a synthetic one as DICOM. Existing files are not replaced; if all are there
    already, nothing is written.
    """
    from lesionlens.imaging.samples import FOLDER

    in_clone = resolved(out) == resolved(FOLDER)  # `sample_data` of a clone is that folder
    if not in_clone and not _is_copied(FOLDER, out):
        with replaced_folder(out) as folder:
            for path in (p for p in FOLDER.rglob("*") if p.is_file()):
                copy = folder / path.relative_to(FOLDER)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)  # without permissions: installations are read-only
    study = plain(_quoted(str(out / "study")))
    return CommandOutput(
        (f"Try it: lesionlens analyze {study} --out out/demo", RESEARCH_USE_NOTICE)
    )


def _is_copied(source: Path, copy: Path) -> bool:
    """Return whether every file of a folder is in another with the same content."""
    paths = ((path, copy / path.relative_to(source)) for path in source.rglob("*"))
    return all(
        path.is_dir() or (copied.is_file() and filecmp.cmp(path, copied, shallow=False))
        for path, copied in paths
    )


def _quoted(argument: str) -> str:
    """Return an argument as it is typed in this system's shell."""
    return subprocess.list2cmdline([argument]) if os.name == "nt" else shlex.quote(argument)
