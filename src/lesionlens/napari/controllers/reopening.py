"""Reopen a saved result or any segmentation, opening its study first."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lesionlens.analysis.followup import study_locations
from lesionlens.base.errors import LesionLensError
from lesionlens.base.provenance import sha256_of
from lesionlens.base.records.study import Study
from lesionlens.base.run_context import RunContext
from lesionlens.napari.controllers.opener import Opener, again
from lesionlens.napari.model.overlays.maps import Overlays, overlays_of
from lesionlens.napari.model.state.state import Problem, Request
from lesionlens.napari.preferences import Preferences, read_preferences
from lesionlens.napari.qt.jobs import problem_of
from lesionlens.napari.qt.waiting import when_idle
from lesionlens.results.review.reopen import is_result, prepare_and_reopen, read_run

if TYPE_CHECKING:
    from lesionlens.results.result import Result

ShowResult = Callable[["Result", Overlays, Preferences], None]


def reopen(opener: Opener, path: Path, show: ShowResult) -> bool:
    """Show a saved result, or a segmentation of the open study, for review.

    Parameters
    ----------
    path : Path
        Result folder or segmentation. If no study is open, a result's study is opened from its
        path at the time of the analysis on this machine. An open study with other series than the
        result was made of is opened again with these.
    show : callable
        Shows a result with its overlays by the preferences.

    Returns
    -------
    bool
        Whether a job was started.
    """
    session, retry = opener.session, partial(reopen, opener, path, show)
    study = session.state.study
    if study is None:
        return _open_first(opener, path, retry)
    preferences = read_preferences()

    def task(context: RunContext) -> Any:
        from lesionlens.results.result import Result

        analysis = prepare_and_reopen(path, study, context)
        if analysis.study is not study:
            return None  # its images are not those that are shown
        return Result(analysis), overlays_of(analysis)

    def on_result(value: Any) -> None:
        if session.state.study is not study:
            return
        if value is None:
            with_result = replace(again(study, session.state.request), result=path)
            when_idle(lambda: opener.open(with_result, retry))
            return
        result, overlays = value
        show(result, overlays, preferences)

    return opener.jobs.start("Reopening", task, on_result)


def study_of_other(study: Study | None, path: Path) -> str | None:
    """Return the name of a result's study if another one is open, else None.

    With its parent's name if the open study's folder has the same name.
    None too if the path of the result's study is unknown, or if the open study is a copy of it.
    """
    if study is None or not is_result(path):
        return None
    try:
        inputs = read_run(path).inputs
    except LesionLensError:  # reported when it is reopened
        return None
    location = study_locations.recall(inputs)
    if location is None or (location[0].resolve(), location[1]) == (
        study.root.resolve(),
        study.selection,
    ):
        return None
    if _contains_any(study, {sha256 for _, sha256 in inputs}):
        return None
    name, parent = location[0].name, location[0].parent.name
    return f"{parent}/{name}" if name == study.root.name else name


def _contains_any(study: Study, digests: Collection[str]) -> bool:
    """Whether a study contains analysed files, by digest: a copy counts as the same study."""
    try:
        return any(sha256_of(series.files[0].path) in digests for series in study.series.values())
    except OSError:
        return False


def _open_first(opener: Opener, path: Path, then: Callable[[], object]) -> bool:
    """Open the study of a result, then continue; show a problem if its path is unknown."""
    try:
        inputs = read_run(path).inputs if is_result(path) else ()
    except LesionLensError as error:
        opener.session.refused(problem_of(error))
        return False
    location = study_locations.recall(inputs)
    if location is not None:
        return opener.open(Request((location[0],), study_uid=location[1], result=path), then)
    opener.session.refused(
        Problem(
            "Open the study first",
            found="no open study; a result contains no images, and the location of its study is "
            "not known on this machine",
            expected="the study that was analysed",
            next_step="Open its folder, then reopen the result",
        )
    )
    return False
