"""`lesionlens sample`: write the sample patients and the training recipes."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from lesionlens.base.files.staging import check_target, staged
from lesionlens.base.labels import RESEARCH_USE_NOTICE
from lesionlens.cli.console import CommandOutput, plain


def sample(
    out: Annotated[Path, typer.Argument(help="Output folder.", metavar="DIR")],
) -> CommandOutput:
    """Write the sample patients and the training recipes into a folder.

    A real patient as NIfTI (BraTS 2021, CC BY 4.0; see README.md there) with the expert
    segmentation, a synthetic one as DICOM, and the recipes of `train`. Existing files are not
    replaced.
    """
    from lesionlens.imaging.samples import FOLDER
    from lesionlens.training.config import RECIPES

    if out.resolve() != FOLDER.resolve():  # `sample_data` of a clone is that folder
        check_target(out)
        with staged(out) as folder:
            shutil.copytree(FOLDER, folder, dirs_exist_ok=True)
            shutil.copytree(RECIPES, folder / "recipes")
    study = plain(_quoted(str(out / "study")))
    return CommandOutput(
        (f"Try it: lesionlens analyze {study} --out out/demo", RESEARCH_USE_NOTICE)
    )


def _quoted(argument: str) -> str:
    """Return an argument as it is typed in this system's shell."""
    return subprocess.list2cmdline([argument]) if os.name == "nt" else shlex.quote(argument)
