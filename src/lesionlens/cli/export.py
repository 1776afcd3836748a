"""`lesionlens export`: a reviewed result, written again with what the readers said."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lesionlens.base.labels import RESEARCH_USE_NOTICE
from lesionlens.cli import options
from lesionlens.cli.console import STOP, Answer, plain, progress_bar


def export(
    result: Annotated[
        Path, typer.Argument(help="Folder of an earlier result, with its review.", metavar="RESULT")
    ],
    study: options.StudyPath,
    out: options.Out,
    t1: options.T1 = None,
    t1c: options.T1c = None,
    t2: options.T2 = None,
    flair: options.Flair = None,
    study_uid: options.StudyUid = None,
    layout: options.Layouts = options.Layout.OWN,
    debug: options.Debug = False,
) -> Answer:
    """Write a reviewed result anew: every file says what the readers decided.

    Nothing is computed again; the study is needed for its images and, for DICOM, as the source
    that the objects point at.
    """
    del debug
    options.check_layout(out, layout)
    options.check_outside(study, out)
    with progress_bar() as progress:
        progress("reading the result", 0.0)
        from lesionlens.base.stages import StageClock
        from lesionlens.preparation.prepare import prepare
        from lesionlens.review.reopen import read_result, reopen

        saved = read_result(result)
        opened = options.open_named(study, options.named(t1, t1c, t2, flair), study_uid, progress)
        prepared = prepare(opened, StageClock(progress, STOP))
        analysis = reopen(saved, opened, prepared)
        progress("writing the result", 0.0)
        folder = options.save(analysis, out, layout, progress)
    states = [analysis.review.state_of(c.tracking_uid).value for c in analysis.findings.candidates]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    lines = (
        f"{analysis.findings.conclusion}: {counts}" if counts else analysis.findings.conclusion,
        f"Result: {plain(str(folder))}",
        RESEARCH_USE_NOTICE,
    )
    return Answer(lines)
