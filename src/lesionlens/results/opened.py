"""Open a saved result for `Result`, with or without its study."""

from __future__ import annotations

from pathlib import Path

from lesionlens.base.errors import ReadError
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.study import Study
from lesionlens.base.run_context import RunContext
from lesionlens.imaging.reading.readers import open_study
from lesionlens.results.review.reopen import (
    is_result,
    prepare_and_reopen,
    read_reviewed,
    result_folder,
)
from lesionlens.results.review.saved_result import SavedResult


def open_result(folder: Path, study: str | Path | Study | None) -> Analysis | SavedResult:
    """Read a result folder, with the study's images if given.

    Raises
    ------
    ReadError
        Not a result, damaged, or of another study.
    """
    if study is None:
        return read_reviewed(existing_result(folder))
    opened = study if isinstance(study, Study) else open_study(study, recall=True)
    return prepare_and_reopen(result_folder(folder), opened, RunContext())


def existing_result(path: Path) -> Path:
    """Return the folder of a saved result; see `result_folder`.

    Raises
    ------
    ReadError
        There is none.
    """
    folder = result_folder(path)
    if not is_result(folder):
        raise ReadError(
            found=f"no result in {folder.name!r}",
            expected="a folder with findings.json and run.json, as `analyze` writes it",
            next_step="Check the path; objects of DICOM alone need the study beside them",
        )
    return folder
