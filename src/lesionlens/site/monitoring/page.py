"""Monitoring output: HTML page, CSV table and Prometheus text."""

from __future__ import annotations

from dataclasses import dataclass

from lesionlens.results.export.cells import cell, csv_text
from lesionlens.results.export.html import environment, number
from lesionlens.site.monitoring.figures import Drift, Group, Rate, ScoreReliability
from lesionlens.site.monitoring.records import MonitoredStudy

LIMITS = (
    "A shift of inputs or scores does not prove that the network became worse, and no shift does "
    "not prove that it did not (arXiv 2410.13174): look at cases. Verdicts are of readers who saw "
    "the candidates, so that what the network missed counts only where a reader added it. "
    "Other findings, probably not tumour, are listed apart and counted nowhere else. "
    "Contrast, noise and voxels of the images are compared only where the studies were named "
    "(--studies): results do not hold them."
)
_GROUP = ("studies", "candidates", "accepted", "edited", "rejected", "added", "acceptance",
          "edit rate", "pointed at", "prompts", "seconds", "other findings",
          "of them accepted")  # fmt: skip

_GAUGES = ("candidates", "accepted", "edited", "rejected", "added", "pointed", "prompts",
           "prompt_seconds", "other", "other_accepted")  # fmt: skip


@dataclass(frozen=True, slots=True)
class MonitoringReport:
    """Content of the page."""

    studies: tuple[MonitoredStudy, ...]
    weeks: tuple[Group, ...]
    readers: tuple[Group, ...]
    engines: tuple[Group, ...]
    agreement: tuple[tuple[str, str, int, float | None], ...]
    calibration: ScoreReliability
    drifts: tuple[Drift, ...]
    baseline: str
    stops: tuple[str, ...]
    """Violated stop rules, in words."""
    not_evaluated: tuple[str, ...]
    """Rules that cannot be evaluated yet, in words."""
    notices: tuple[str, ...]


def _rate(rate: Rate) -> str:
    if rate.share is None:
        return "–"
    low, high = rate.interval
    return f"{rate.share:.0%} ({low:.0%}–{high:.0%})"


def _cells(group: Group) -> tuple[str, ...]:
    counts = (group.studies, group.candidates, group.accepted, group.edited, group.rejected,
              group.added)  # fmt: skip
    return (
        group.name or "no name",
        *(str(count) for count in counts),
        _rate(group.acceptance),
        _rate(group.editing),
        str(group.pointed),
        number(group.prompts, ".3g"),
        number(group.prompt_seconds, ".3g"),
        str(group.other),
        str(group.other_accepted),
    )


def html(watched: MonitoringReport) -> str:
    """Return a self-contained HTML page."""
    agreement = [
        (a or "no name", b or "no name", str(n), number(k)) for a, b, n, k in watched.agreement
    ]
    drifts = [
        (d.name, str(d.before), str(d.after), number(d.stability), number(d.p, ".2g"))
        for d in watched.drifts
    ]
    groups = [
        ("By week", "week", [_cells(one) for one in watched.weeks]),
        ("By reader", "reader", [_cells(one) for one in watched.readers]),
        ("By weights", "engine", [_cells(one) for one in watched.engines]),
    ]
    template = environment("lesionlens.site.monitoring").get_template("monitor.html.j2")
    return template.render(
        watched=watched,
        groups=groups,
        columns=list(_GROUP),
        agreement=agreement,
        drifts=drifts,
        limits=LIMITS,
    )


def csv_table(watched: MonitoringReport) -> str:
    """Return a CSV with one row per candidate and reader, or per unreviewed candidate."""
    columns = ("study", "day", "week", "engine", "tracking_uid", "score", "volume_ml", "added",
               "apart", "reader", "verdict", "prompts", "prompt_seconds")  # fmt: skip
    rows: list[list[str | int | float]] = []
    for study in watched.studies:
        about = (study.name, study.day.isoformat(), study.week, study.engine)
        for one in study.candidates:
            score = None if one.added else one.score  # the network returned none
            of_one = (one.tracking_uid, score, one.volume_ml, one.added, one.apart)
            for reader, verdict in one.verdicts.items() or [("", "unreviewed")]:
                effort = one.pointed.get(reader)
                pointed = ("", "") if effort is None else (effort.prompts, round(effort.seconds, 1))
                row = (*about, *of_one, reader, str(verdict), *pointed)
                rows.append([cell(value) for value in row])
    return csv_text(columns, rows)


def prometheus(watched: MonitoringReport) -> str:
    """Return text for Prometheus' node exporter; weeks and readers are labels."""
    lines = [
        "# TYPE lesionlens_studies gauge",
        f"lesionlens_studies {len(watched.studies)}",
        "# TYPE lesionlens_stop_rules_broken gauge",
        f"lesionlens_stop_rules_broken {len(watched.stops)}",
    ]
    for label, groups in (
        ("week", watched.weeks),
        ("reader", watched.readers),
        ("engine", watched.engines),
    ):
        for name in _GAUGES:
            known_of = [g for g in groups if getattr(g, name) is not None]
            lines += [f"# TYPE lesionlens_{label}_{name} gauge"] if known_of else []
            lines += [
                f'lesionlens_{label}_{name}{{{label}="{_label(g.name)}"}} {getattr(g, name):g}'
                for g in known_of
            ]
    if watched.calibration.error is not None:
        lines += ["# TYPE lesionlens_calibration_error gauge",
                  f"lesionlens_calibration_error {watched.calibration.error:.4f}"]  # fmt: skip
    known = [d for d in watched.drifts if d.stability is not None]
    if known:
        lines.append("# TYPE lesionlens_stability_index gauge")
        lines += [
            f'lesionlens_stability_index{{of="{_label(d.name)}"}} {d.stability:.4f}' for d in known
        ]
    return "\n".join(lines) + "\n"


def _label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
