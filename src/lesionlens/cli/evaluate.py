"""`lesionlens evaluate`: results against reference segmentations."""

from __future__ import annotations

import json as json_text
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated

import typer

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.files import resolved
from lesionlens.base.storage import write_atomically
from lesionlens.base.text import abbreviated_list
from lesionlens.cli import checks
from lesionlens.cli.console import CommandOutput, new_table, plain, progress_bar

if TYPE_CHECKING:
    from rich.table import Table

    from lesionlens.analysis.evaluation.bounds import BoundResult
    from lesionlens.analysis.evaluation.summary import CaseScore, Summary

_COLUMNS = (
    ("WT", "wt", 3), ("TC", "tc", 3), ("ET", "et", 3), ("HD95", "hd95_wt", 1),
    ("found", "found", 0), ("of", "lesions", 0), ("false", "fp", 0),
    ("peak", "point_wt", 0), ("ECE", "ece", 3),
)  # fmt: skip
_GROUP_COLUMNS = (
    ("WT", "wt", 3), ("TC", "tc", 3), ("ET", "et", 3), ("HD95", "hd95_wt", 1),
    ("found", "sensitivity", 2), ("false", "fp", 2), ("ECE", "ece", 3),
)  # fmt: skip
_ROWS = (
    ("Dice WT", "wt", 3), ("Dice TC", "tc", 3), ("Dice ET", "et", 3),
    ("HD95 WT (mm)", "hd95_wt", 1), ("HD95 TC (mm)", "hd95_tc", 1), ("HD95 ET (mm)", "hd95_et", 1),
    ("lesion-wise Dice WT", "lesion_dice_wt", 3), ("lesion-wise Dice TC", "lesion_dice_tc", 3),
    ("lesion-wise Dice ET", "lesion_dice_et", 3), ("lesion-wise F1 WT", "lesion_f1_wt", 3),
    ("sensitivity", "sensitivity", 3), ("false candidates", "fp", 2),
    ("attention peak in WT", "point_wt", 3), ("attention peak in TC", "point_tc", 3),
    ("attention peak in ET", "point_et", 3), ("attention mass in WT", "mass_wt", 3),
    ("attention mass in TC", "mass_tc", 3), ("attention mass in ET", "mass_et", 3),
    ("calibration error WT", "ece", 3), ("candidates, healthy", "healthy_candidates", 2),
    ("flagged ml, healthy", "healthy_flagged_ml", 2),
)  # fmt: skip


def evaluate(
    predictions: Annotated[
        Path,
        typer.Argument(
            help="Folder with one result folder, or one segmentation (NIfTI), per case.",
            metavar="PREDICTIONS",
        ),
    ],
    truth: Annotated[
        Path,
        typer.Argument(
            help="Folder of cases with their segmentation (BraTS or Decathlon layout), or of "
            "segmentations named after their cases.",
            metavar="TRUTH",
        ),
    ],
    convention: Annotated[
        str | None,
        typer.Option(
            help="Label convention of the reference and of plain segmentations: brats, brats24, "
            "brats24ped, msd or brats2012, or a tab-separated table of case and convention.",
            metavar="NAME|FILE",
        ),
    ] = None,
    bounds: Annotated[
        Path | None,
        typer.Option(help="Judge the figures by these bounds (TOML).", metavar="FILE"),
    ] = None,
    group_by: Annotated[
        str | None,
        typer.Option(
            help="Group the cases by a column of cases.csv in TRUTH or of cohort.csv in "
            "PREDICTIONS.",
            metavar="COLUMN",
        ),
    ] = None,
    json: Annotated[
        Path | None, typer.Option(help="Write all results to a JSON file.", metavar="FILE")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a plot (PNG).", metavar="FILE")] = None,
) -> CommandOutput:
    """Score results against reference segmentations.

    Dice, HD95, BraTS 2023's lesion-wise scores, FROC, calibration and whether attention lies in the
    tumour, each with a 95% bootstrap interval over cases. A case without a result counts as Dice
    0. The exit status is 0 also where a bound is not met.
    """
    checks.check_file(json, b"lesionlens/evaluation/")
    checks.check_file(plot, b"Software\0LesionLens")
    if json is not None and plot is not None and resolved(json) == resolved(plot):
        raise UnusableInputError(
            f"--json and --plot both name {json.name!r}.",
            hint="Choose another name for one of them.",
        )
    with progress_bar() as context:
        context.progress("looking for cases", 0.0)
        from lesionlens.analysis.evaluation.evaluation import check_picture_name
        from lesionlens.analysis.evaluation.evaluation import evaluate as measure

        if plot is not None:
            check_picture_name(plot)
        evaluation = measure(
            predictions,
            truth,
            convention=convention,
            bounds=bounds,
            group_by=group_by,
            context=context,
        )
        if json is not None:
            write_atomically(json, json_text.dumps(evaluation.to_json(), indent=1) + "\n")
        if plot is not None:
            evaluation.plot(plot)
    notes = [f"{s.case}: {problem}" for s in evaluation.scores for problem in s.problems]
    if evaluation.unreferenced:
        names = abbreviated_list([*map(plain, evaluation.unreferenced)], 5)
        notes.append(f"No reference case is named {names}: skipped")
    if len(evaluation.engines) > 1:
        notes.append(f"Results of {len(evaluation.engines)} engines or weights are scored together")
    if reviewed := sum(s.reviewed for s in evaluation.scores):
        notes.append(
            f"{reviewed} of {len(evaluation.scores)} results were reviewed: what the network made "
            "is scored, without readers' edits, additions and rejections"
        )
    files = tuple(f"Written: {plain(str(file))}" for file in (json, plot) if file is not None)
    tables = [_case_table(evaluation.scores), _summary_table(evaluation.summary)]
    if evaluation.groups:
        tables.append(_group_table(evaluation.groups))
    lines = list(_closing_lines(evaluation.summary, evaluation.engines))
    if evaluation.bound_results:
        tables.append(_bound_table(evaluation.bound_results))
        lines.append(f"Bounds {'met' if evaluation.bounds_met else 'NOT MET'}")
    return CommandOutput((*tables, *lines, *files), (*notes,))


def _cell(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _case_table(scores: Sequence[CaseScore]) -> Table:
    from rich.text import Text

    table = new_table(("case", *(title for title, _, _ in _COLUMNS)))
    for score in scores:
        suffix = " (failed)" if score.failed else " (healthy)" if score.healthy else ""
        cells = (_cell(score.metrics.get(key), digits) for _, key, digits in _COLUMNS)
        table.add_row(Text(plain(score.case) + suffix), *cells)
    return table


def _summary_table(summary: Summary) -> Table:
    table = new_table(("", "mean", "95% interval", "median"))
    for title, key, digits in _ROWS:
        mean = summary.means.get(key)
        if mean is None:
            continue
        interval = summary.intervals.get(key)
        range_text = f"{interval.low:.{digits}f} – {interval.high:.{digits}f}" if interval else "–"
        table.add_row(title, _cell(mean, digits), range_text, _cell(summary.medians[key], digits))
    return table


def _group_table(groups: Mapping[str, Sequence[CaseScore]]) -> Table:
    from lesionlens.analysis.evaluation.summary import column

    table = new_table(("group", "cases", *(title for title, _, _ in _GROUP_COLUMNS), "failed"))
    for name, scores in groups.items():
        columns = [(column(scores, key), digits) for _, key, digits in _GROUP_COLUMNS]
        means = [_cell(fmean(values) if values else None, digits) for values, digits in columns]
        table.add_row(plain(name), str(len(scores)), *means, str(sum(s.failed for s in scores)))
    return table


def _bound_table(results: Sequence[BoundResult]) -> Table:
    from lesionlens.analysis.evaluation.bounds import METRICS

    headings = ("group", "figure", "cases", "mean", "95% interval", "bound", "verdict")
    table = new_table(headings, text_columns=2)
    for result in results:
        metric, ci = METRICS[result.metric], result.interval
        table.add_row(
            plain(result.group),
            metric.title,
            str(result.cases),
            _cell(result.mean, 4),
            f"{ci.low:.4f} – {ci.high:.4f}" if ci else "–",
            f"{'≥' if metric.better > 0 else '≤'} {result.bound:g}",
            result.verdict.value,
        )
    return table


def _closing_lines(summary: Summary, engines: Counter[str]) -> tuple[str, ...]:
    froc_points = ", ".join(
        f"{row['fp_per_scan']:g}: {_cell(row['sensitivity'], 2)} at {_cell(row['threshold'], 2)}"
        for row in summary.froc
    )
    lines = []
    if any(row["sensitivity"] is not None for row in summary.froc):
        lines.append(f"FROC (false candidates per scan: lesions found, at score): {froc_points}")
    if summary.voxels.count.any():
        lines.append(f"Calibration error of all voxels together: {summary.voxels.error:.4f}")
    if summary.candidates.count.any():
        lines.append(f"Calibration error of candidates' scores: {summary.candidates.error:.3f}")
    lines.append(f"Failed: {int(summary.means['failures'] or 0)}")
    lines += [f"{count} made by {plain(name)}" for name, count in engines.items()]
    return tuple(lines)
