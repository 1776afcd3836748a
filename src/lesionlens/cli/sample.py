"""`lesionlens sample`: write the sample patients and the training recipes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from lesionlens.base.labels import RESEARCH_USE_NOTICE
from lesionlens.base.staging import check_target, staged
from lesionlens.cli.console import Answer, plain


def sample(
    out: Annotated[Path, typer.Argument(help="Output folder.", metavar="DIR")],
) -> Answer:
    """Write the sample patients and the training recipes into a folder.

    A real patient as NIfTI (BraTS 2021, CC BY 4.0; see README.md there) with the expert
    segmentation, a synthetic one as DICOM, and the recipes of `train`. Existing files are not
    replaced.
    """
    check_target(out)
    from lesionlens.imaging.samples import FOLDER
    from lesionlens.training.config import RECIPES

    with staged(out) as new:
        shutil.copytree(FOLDER, new, dirs_exist_ok=True)
        shutil.copytree(RECIPES, new / "recipes")
    study = plain(str(out / "study"))
    return Answer((f"Try it: lesionlens analyze {study} --out out/demo", RESEARCH_USE_NOTICE))
