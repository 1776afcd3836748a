"""Reopen a saved result or any segmentation, opening its study first."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from lesionlens.analysis.followup import study_locations
from lesionlens.base.errors import LesionLensError
from lesionlens.base.provenance import sha256_of
from lesionlens.base.records.study import Study
from lesionlens.base.run_context import RunContext
from lesionlens.napari.controllers.opener import Opener
from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.model.overlays.maps import overlays_of
from lesionlens.napari.model.state.state import Problem, Request
from lesionlens.napari.preferences import Preferences, read_preferences
from lesionlens.napari.qt.jobs import Jobs, problem_of
from lesionlens.napari.qt.waiting import when_idle
from lesionlens.results.review.reopen import is_result, prepare_and_reopen, read_run

Take = Callable[[Any, Any, Preferences], None]


def reopen(session: ReviewSession, jobs: Jobs, opener: Opener, path: Path, take: Take) -> bool:
    """Show a saved result, or a segmentation of the open study, for review.

    Parameters
    ----------
    path : Path
        Result folder or segmentation. If no study is open, a result's study is opened from its
        path at the time of the analysis on this machine. An open study with other series than the
        result was made of is opened again with these.
    take : callable
        Shows a result with its overlays by the preferences.

    Returns
    -------
    bool
        Whether a job was started.
    """
    study = session.state.study

    def again() -> bool:
        return reopen(session, jobs, opener, path, take)

    if study is None:
        return _open_first(session, opener, path, again)
    preferences = read_preferences()

    def task(context: RunContext) -> Any:
        from lesionlens.results.result import Result  # noqa: PLC0415

        options = replace(preferences.preparation, strip=False)
        analysis = prepare_and_reopen(path, study, context, options)
        if analysis.study is not study:
            return None  # its images are not those that are shown
        return Result(analysis), overlays_of(analysis)

    def done(value: Any) -> None:
        if session.state.study is not study:
            return
        if value is None:
            request = session.state.request or Request((study.root,), study_uid=study.uid)
            wanted = replace(request, named={}, result=path)
            when_idle(lambda: opener.open(wanted, again))
            return
        result, overlays = value
        take(result, overlays, preferences)

    return jobs.start("Reopening", task, done)


def study_of_other(study: Study | None, path: Path) -> str | None:
    """Return the name of a result's study if another one is open, else None.

    None too if the path of the result's study is unknown, or if the open study is a copy of it.
    """
    if study is None or not is_result(path):
        return None
    try:
        inputs = read_run(path).inputs
    except LesionLensError:  # reported when it is reopened
        return None
    known = study_locations.recall(inputs)
    if known is None or (known[0].resolve(), known[1]) == (study.root.resolve(), study.uid):
        return None
    return None if _holds_one(study, {sha256 for _, sha256 in inputs}) else known[0].name


def _holds_one(study: Study, digests: Collection[str]) -> bool:
    """Whether a study contains analysed files, by digest: a copy counts as the same study."""
    try:
        return any(sha256_of(item.files[0].path) in digests for item in study.series.values())
    except OSError:
        return False


def _open_first(
    session: ReviewSession, opener: Opener, path: Path, then: Callable[[], object]
) -> bool:
    """Open the study of a result, then continue; show a problem if its path is unknown."""
    try:
        inputs = read_run(path).inputs if is_result(path) else ()
    except LesionLensError as error:
        session.failed(problem_of(error))
        return False
    known = study_locations.recall(inputs)
    if known is not None:
        return opener.open(Request((known[0],), study_uid=known[1], result=path), then)
    session.failed(
        Problem(
            "Open the study first",
            found="no open study; a result holds no images, and where its study lies is not known "
            "on this machine",
            expected="the study that was analysed",
            next_step="Open its folder, then reopen the result",
        )
    )
    return False
