"""Plot an evaluation: overlap, FROC, reliability, attention."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lesionlens.analysis.evaluation.metrics import BINS
from lesionlens.analysis.evaluation.summary import CaseScore, Summary, column
from lesionlens.base.labels import RESEARCH_USE_NOTICE, Region
from lesionlens.base.storage import atomic_file
from lesionlens.base.text import counted

_GREY = "#777777"


def plot(scores: Sequence[CaseScore], summary: Summary, path: Path) -> None:
    """Write the figure as PNG."""
    figure = Figure(figsize=(10, 8), layout="constrained")
    FigureCanvasAgg(figure)
    (overlap, froc), (calibration, attention) = figure.subplots(2, 2)
    _plot_per_case(overlap, scores, "", "Dice", "Overlap with the reference")
    _plot_froc(froc, summary)
    _plot_reliability(calibration, summary)
    _plot_per_case(
        attention, scores, "mass_", "share of attention inside", _attention_title(scores)
    )
    figure.suptitle(
        f"{counted(len(scores), 'case')}. {RESEARCH_USE_NOTICE}", fontsize=10, color=_GREY
    )
    with atomic_file(path) as temporary_path:
        figure.savefig(temporary_path, dpi=120, format="png", metadata={"Software": "LesionLens"})


def _plot_per_case(
    axes: Any, scores: Sequence[CaseScore], prefix: str, y_label: str, title: str
) -> None:
    """Plot one dot per case, and the mean as a bar, for each region."""
    rng = np.random.default_rng(0)
    for position, region in enumerate(Region):
        values = column(scores, f"{prefix}{region.value}")
        if not values:
            continue
        jittered = position + rng.uniform(-0.12, 0.12, len(values))
        axes.scatter(jittered, values, s=22, alpha=0.7, color=region.colour, linewidths=0)
        axes.hlines(np.mean(values), position - 0.28, position + 0.28, color="black", linewidth=2)
    axes.set(ylim=(-0.02, 1.02), xlim=(-0.5, 2.5), ylabel=y_label, title=title)
    axes.set_xticks(range(len(Region)), [region.display_name for region in Region])
    axes.grid(axis="y", alpha=0.3)


def _attention_title(scores: Sequence[CaseScore]) -> str:
    parts = [
        f"{region.value.upper()} {sum(values):.0f}/{len(values)}"
        for region in Region
        if (values := column(scores, f"point_{region.value}"))
    ]
    return "Attention; its peak inside: " + (", ".join(parts) or "not measured")


def _plot_froc(axes: Any, summary: Summary) -> None:
    axes.set(xlabel="false candidates per scan", ylabel="lesions found", title="FROC")
    axes.set(ylim=(-0.02, 1.02))
    axes.grid(alpha=0.3)
    if not summary.curve:
        axes.text(0.5, 0.5, "nothing flagged, or nothing to find", ha="center", color=_GREY)
        return
    false_per_scan = [0.0, *(p.false_per_scan for p in summary.curve)]
    sensitivity = [0.0, *(p.sensitivity for p in summary.curve)]
    x_max = max(1.0, max(false_per_scan) * 1.05)
    axes.step(
        [*false_per_scan, x_max], [*sensitivity, sensitivity[-1]], where="post", color="black"
    )
    axes.plot(false_per_scan[1:], sensitivity[1:], "o", markersize=4, color="black")
    axes.set(xlim=(-0.02, x_max))


def _plot_reliability(axes: Any, summary: Summary) -> None:
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=1, linestyle="--")
    pairs = (("voxels, whole tumour", summary.voxels), ("candidates", summary.candidates))
    for (name, bins), marker in zip(pairs, ("o-", "s"), strict=True):
        if bins.count.any():
            filled = bins.count > 0
            predicted, observed = (
                sums[filled] / bins.count[filled] for sums in (bins.confidence, bins.positive)
            )
            axes.plot(
                predicted, observed, marker, label=f"{name} (ECE {bins.error:.3f})", markersize=4
            )
            axes.legend(fontsize=8)
    axes.set(xlabel="predicted", ylabel="true", title=f"Reliability, {BINS} bins")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.grid(alpha=0.3)
