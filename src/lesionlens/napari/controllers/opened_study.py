"""Read a study of a list in a thread: images first, then the result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lesionlens.base.errors import ReadError
from lesionlens.base.records.review import Review
from lesionlens.base.records.study import Study
from lesionlens.base.run_context import RunContext
from lesionlens.napari.model.state.state import Problem
from lesionlens.napari.model.studies.archive import in_dialog
from lesionlens.napari.qt.jobs import problem_of
from lesionlens.results.review.reopen import is_result, prepare_and_reopen, result_folder
from lesionlens.site.database.records import StudyEntry
from lesionlens.site.database.worklist_database import existing_worklist_database
from lesionlens.site.worklist.background_analysis import local_study
from lesionlens.site.worklist.sources import is_to_fetch

if TYPE_CHECKING:
    from lesionlens.napari.model.overlays.maps import Overlays
    from lesionlens.results.result import Result

_ARCHIVE_SETTINGS = (
    "That setting is in the archive's dialog (List ▾, New list from an archive): change it "
    "there, and make the list again in the same folder"
)


@dataclass(frozen=True, slots=True, eq=False)
class OpenedStudy:
    """A study with its layers, and its result if there is one."""

    study: Study
    path: Path
    layers: list[Any]
    result: tuple[Result, Overlays] | None = None
    """Result and overlays."""
    same_patient: bool = False
    """Whether a person confirmed that contradicting files are of one patient."""


def has_result(folder: Path) -> bool:
    """Whether a folder of a list holds a result; false too while the folder cannot be reached."""
    try:
        return is_result(folder)
    except OSError:
        return False


def read_entry(
    entry: StudyEntry,
    result: Path,
    context: RunContext,
    on_images: Callable[[OpenedStudy], object] = lambda _: None,
    *,
    same_patient: bool = False,
) -> OpenedStudy:
    """Read a study of a list, and its result if there is one; in a thread.

    `on_images` takes the study as soon as its images are read. Decisions of other readers are
    omitted. `same_patient`: whether a person confirmed that all its files are of one patient.
    """
    from lesionlens.napari.loading import KEY, read_study

    if is_to_fetch(entry, result.parent):
        context.progress("fetch it from the archive", 0.0)
        with existing_worklist_database(result.parent) as database:
            entry = local_study(database, entry, context, same_patient=same_patient)
    uid = entry.study_uid or None
    saved_result = result if is_result(result_folder(result)) else None
    layers = read_study(
        Path(entry.place),
        study_uid=uid,
        same_patient=same_patient,
        result=saved_result,
        context=context,
    )
    study = layers[0][1]["metadata"][KEY]["study"]
    opened = OpenedStudy(study, Path(entry.place), layers, same_patient=same_patient)
    if saved_result is None:
        return opened
    on_images(opened)
    return replace(opened, result=reopen_result(study, result, context))


def reopen_result(study: Study, result: Path, context: RunContext) -> tuple[Result, Overlays]:
    """Return a saved result of a study and its overlays, without decisions.

    Raises
    ------
    ReadError
        The result is damaged, or belongs to another study or to series that are not open.
    """
    from lesionlens.napari.model.overlays.maps import overlays_of
    from lesionlens.results.result import Result

    analysed = prepare_and_reopen(result, study, context)
    if analysed.study is not study:
        raise ReadError(
            "The result is of other series of this study than those that are open.",
            hint="Close the study and open it again: it opens with the result's series.",
        )
    analysis = replace(analysed, review=Review())
    return Result(analysis), overlays_of(analysis)


def problem_of_archived(error: BaseException) -> Problem:
    """Return why a study was not fetched for a list; a list keeps its archive's settings."""
    problem = problem_of(error)
    translated = in_dialog(problem)
    if translated == problem:
        return problem
    return replace(translated, next_step=f"{translated.next_step}. {_ARCHIVE_SETTINGS}")
