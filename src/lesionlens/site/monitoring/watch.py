"""Run the monitoring and write its output."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from lesionlens.base.files.manifest import write_listed
from lesionlens.base.files.staging import check_target
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.base.text import abbreviated_list, counted
from lesionlens.site.monitoring import page, statistics, stop_rules
from lesionlens.site.monitoring.read_results import add_image_features, gather
from lesionlens.site.monitoring.stop_rules import StopBounds

PAGE, TABLE, PROMETHEUS = "monitor.html", "monitor.csv", "monitor.prom"
LIST = "monitor.files.json"


def watch(
    folder: Path,
    bounds: StopBounds,
    baseline_weeks: int = 4,
    *,
    images: Path | None = None,
    context: RunContext = SILENT,
) -> page.MonitoringReport:
    """Read the results below a folder and evaluate them.

    Parameters
    ----------
    folder : Path
        Folder with result folders at any depth.
    baseline_weeks : int
        Number of first weeks, with which all later ones are compared.
    images : Path or None
        Folder of the studies, named like their results: contrast, noise and voxel size are
        compared too.

    Raises
    ------
    UnusableInputError
        There is no result, or no study with the name of a result.
    """
    studies, notices = gather(folder)
    if images is not None:
        studies, image_notices = add_image_features(studies, images, context=context)
        notices += image_notices
    today = datetime.now(UTC).date()
    past = [study for study in studies if study.day <= today]
    future = [study.name for study in studies if study.day > today]
    if future:
        notices.append(
            f"Dated later than today, and never the latest week: {abbreviated_list(future, 3)}"
        )
    end = studies[0].day + timedelta(weeks=baseline_weeks)
    first = [study for study in studies if study.day < end]
    later = [study for study in studies if study.day >= end]
    weeks, calibration = statistics.by_week(studies), statistics.calibration(studies)
    past_weeks = statistics.by_week(past)
    drifts = statistics.drift(first, later)
    return page.MonitoringReport(
        studies=tuple(studies),
        weeks=weeks,
        readers=statistics.by_reader(studies),
        engines=statistics.by_engine(studies),
        agreement=statistics.agreement(studies),
        calibration=calibration,
        drifts=drifts,
        baseline=f"the first {counted(baseline_weeks, 'week')}, from {studies[0].day} "
        f"({counted(len(first), 'study', 'studies')})",
        violated_rules=stop_rules.violated_rules(past_weeks, calibration, drifts, bounds),
        not_evaluated=stop_rules.not_evaluated(past_weeks, calibration, drifts),
        notices=tuple(notices),
    )


def write(report: page.MonitoringReport, out: Path) -> tuple[Path, ...]:
    """Write page, table and Prometheus text into a folder, each atomically."""
    check_target(out)
    contents = {
        PAGE: page.html(report),
        TABLE: page.csv_table(report),
        PROMETHEUS: page.prometheus(report),
    }
    return write_listed(out, contents, LIST)
