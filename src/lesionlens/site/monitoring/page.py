"""Monitoring output: HTML page, CSV table and Prometheus text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lesionlens.results.export.cells import cell, csv_text
from lesionlens.results.export.html import environment, number
from lesionlens.site.monitoring.records import MonitoredStudy
from lesionlens.site.monitoring.statistics import (
    Drift,
    Group,
    Rate,
    ReaderAgreement,
    ScoreReliability,
)

LIMITS = (
    "A shift of inputs or scores does not prove that the network became worse, and the absence "
    "of a shift does not prove that it did not (arXiv 2410.13174): look at cases. Readers saw "
    "the candidates before they decided, so that missed lesions count only if a reader added "
    "them. Other findings, probably not tumour, are listed separately and counted nowhere else. "
    "Contrast, noise and voxels of the images are compared only if the studies were named "
    "(--studies), because results contain no images."
)
_FIGURES = {
    "studies": "studies", "candidates": "candidates", "accepted": "accepted", "edited": "edited",
    "rejected": "rejected", "added": "added", "acceptance": "acceptance", "edit rate": "editing",
    "pointed at": "pointed", "prompts": "prompts", "seconds": "prompt_seconds",
    "other findings": "other", "of them accepted": "other_accepted",
}  # fmt: skip
"""Heading of each figure of a group on the page, and its attribute."""
_NO_GAUGES = ("studies", "acceptance", "editing")
"""Figures without a gauge; rates follow from the counts."""


@dataclass(frozen=True, slots=True)
class MonitoringReport:
    """Content of the page."""

    studies: tuple[MonitoredStudy, ...]
    weeks: tuple[Group, ...]
    readers: tuple[Group, ...]
    engines: tuple[Group, ...]
    agreement: tuple[ReaderAgreement, ...]
    calibration: ScoreReliability
    drifts: tuple[Drift, ...]
    baseline: str
    violated_rules: tuple[str, ...]
    """Violated stop rules, in words."""
    not_evaluated: tuple[str, ...]
    """Rules that cannot be evaluated yet, in words."""
    notices: tuple[str, ...]


def _text(figure: Any) -> str:
    """Return a Rate, a count, or a number that may be unknown as text."""
    if isinstance(figure, Rate):
        if figure.fraction is None:
            return "–"
        low, high = figure.interval
        return f"{figure.fraction:.0%} ({low:.0%}–{high:.0%})"
    return str(figure) if isinstance(figure, int) else number(figure, ".3g")


def _cells(group: Group) -> tuple[str, ...]:
    figures = (_text(getattr(group, attribute)) for attribute in _FIGURES.values())
    return (group.name or "no name", *figures)


def html(report: MonitoringReport) -> str:
    """Return a self-contained HTML page."""
    agreement = [
        (a.first or "no name", a.second or "no name", str(a.candidates), number(a.kappa))
        for a in report.agreement
    ]
    drifts = [
        (d.name, str(d.before), str(d.after), number(d.stability), number(d.p, ".2g"))
        for d in report.drifts
    ]
    groups = [
        ("By week", "week", [_cells(group) for group in report.weeks]),
        ("By reader", "reader", [_cells(group) for group in report.readers]),
        ("By weights", "engine", [_cells(group) for group in report.engines]),
    ]
    template = environment("lesionlens.site.monitoring").get_template("monitor.html.j2")
    return template.render(
        report=report,
        groups=groups,
        columns=list(_FIGURES),
        agreement=agreement,
        drifts=drifts,
        limits=LIMITS,
    )


def csv_table(report: MonitoringReport) -> str:
    """Return a CSV with one row per candidate and reader, or per unreviewed candidate."""
    columns = ("study", "day", "week", "engine", "tracking_uid", "score", "volume_ml", "added",
               "apart", "reader", "verdict", "prompts", "prompt_seconds")  # fmt: skip
    rows: list[list[str | int | float]] = []
    for study in report.studies:
        study_columns = (study.name, study.day.isoformat(), study.week, study.engine)
        for candidate in study.candidates:
            score = None if candidate.added else candidate.score  # the network returned none
            candidate_columns = (
                candidate.tracking_uid,
                score,
                candidate.volume_ml,
                candidate.added,
                candidate.is_other_finding,
            )
            for reader, verdict in candidate.verdicts.items() or [("", "unreviewed")]:
                effort = candidate.prompt_efforts.get(reader)
                pointed = ("", "") if effort is None else (effort.prompts, round(effort.seconds, 1))
                row = (*study_columns, *candidate_columns, reader, str(verdict), *pointed)
                rows.append([cell(value) for value in row])
    return csv_text(columns, rows)


def prometheus(report: MonitoringReport) -> str:
    """Return text for Prometheus' node exporter; weeks and readers are labels."""
    lines = [
        "# TYPE lesionlens_studies gauge",
        f"lesionlens_studies {len(report.studies)}",
        "# TYPE lesionlens_stop_rules_broken gauge",
        f"lesionlens_stop_rules_broken {len(report.violated_rules)}",
    ]
    for label, groups in (
        ("week", report.weeks),
        ("reader", report.readers),
        ("engine", report.engines),
    ):
        for name in (name for name in _FIGURES.values() if name not in _NO_GAUGES):
            with_value = [group for group in groups if getattr(group, name) is not None]
            lines += [f"# TYPE lesionlens_{label}_{name} gauge"] if with_value else []
            lines += [
                f'lesionlens_{label}_{name}{{{label}="{_label(g.name)}"}} {getattr(g, name):g}'
                for g in with_value
            ]
    if report.calibration.error is not None:
        lines += ["# TYPE lesionlens_calibration_error gauge",
                  f"lesionlens_calibration_error {report.calibration.error:.4f}"]  # fmt: skip
    evaluated = [drift for drift in report.drifts if drift.stability is not None]
    if evaluated:
        lines.append("# TYPE lesionlens_stability_index gauge")
        lines += [
            f'lesionlens_stability_index{{of="{_label(drift.name)}"}} {drift.stability:.4f}'
            for drift in evaluated
        ]
    return "\n".join(lines) + "\n"


def _label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
