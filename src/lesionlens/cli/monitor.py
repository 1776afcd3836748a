"""`lesionlens monitor`: monitor results and reviews week by week."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lesionlens.base.files.safe_paths import check_outside
from lesionlens.base.text import counted
from lesionlens.cli import options
from lesionlens.cli.console import CommandOutput, plain, progress_bar


def monitor(
    results: Annotated[
        Path, typer.Argument(help="Folder with results at any depth.", metavar="RESULTS")
    ],
    out: options.Out,
    baseline_weeks: Annotated[
        int, typer.Option(help="Number of initial weeks used as the baseline.", min=1, max=5200)
    ] = 4,
    least_acceptance: Annotated[
        float,
        typer.Option(help="Stop rule: minimum fraction of accepting verdicts.", min=0.0, max=1.0),
    ] = 0.5,
    most_candidates: Annotated[
        float,
        typer.Option(help="Stop rule: highest weekly mean of candidates per study.", min=0.0),
    ] = 3.0,
    studies: Annotated[
        Path | None,
        typer.Option(
            help="The analysed studies, as for `batch`; contrast, noise and voxel size are "
            "monitored too.",
            metavar="DIR",
        ),
    ] = None,
) -> CommandOutput:
    """Count candidates and verdicts by week and reader, compare scores with verdicts, warn.

    Reads findings.json, run.json and review.json of every result, with --studies also the
    images; writes a page, a table and a Prometheus text file. The exit status is 0 even if a stop
    rule is broken: the output says so, and the napari panel warns until a later run finds none
    broken.
    """
    from lesionlens.site.monitoring import monitor_warning
    from lesionlens.site.monitoring.stop_rules import StopBounds
    from lesionlens.site.monitoring.watch import PAGE, watch, write

    if studies is not None:
        check_outside(studies, out)
    bounds = StopBounds(least_acceptance=least_acceptance, most_candidates=most_candidates)
    with progress_bar() as context:
        monitoring = watch(results, bounds, baseline_weeks, images=studies, context=context)
    write(monitoring, out)
    monitor_warning.keep(monitoring.violated_rules, out / PAGE)
    studies_text = counted(len(monitoring.studies), "study", "studies")
    verdicts_text = counted(sum(group.verdicts for group in monitoring.weeks), "verdict")
    lines = [f"{studies_text}, {verdicts_text} in {counted(len(monitoring.weeks), 'week')}"]
    lines += [f"STOP AND LOOK  {plain(stop)}" for stop in monitoring.violated_rules]
    if monitoring.not_evaluated:
        lines.append(f"Not evaluated yet: {'; '.join(monitoring.not_evaluated)}")
    lines.append(f"Page: {plain(str(out / PAGE))}")
    return CommandOutput(tuple(lines), monitoring.notices)
