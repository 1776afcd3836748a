"""Report section of a comparison with earlier examinations: table, sums, curves."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from lesionlens.base.labels import Identity, Region, ReviewState
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.followup import (
    PRODUCT_LIMITS,
    VOLUME_LIMITS,
    Change,
    ChangeKind,
    Comparison,
    LesionMeasurement,
    percent,
)
from lesionlens.base.records.joint_change import JointChange
from lesionlens.base.records.resection import Resection
from lesionlens.base.text import capitalized
from lesionlens.results.export.cells import cell, csv_text
from lesionlens.results.export.report_texts import ReportTexts

FILE, TABLE = "followup.json", "followup.csv"
SCHEMA = "lesionlens/followup/1"
WIDTH, HEIGHT = 640.0, 220.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 110.0, 12.0, 34.0
CURVES_BEGIN, CURVES_END = _LEFT, WIDTH - _RIGHT
"""x at which the lines begin and end; their names are to the right."""
TICK_ROWS, TICK_ROW_HEIGHT = 2, 11.0
"""Rows of labels of the examinations below the image, and their distance."""
_LETTER_WIDTH, _NAME_HEIGHT = 5.8, 10.0
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette; every line is also numbered at its end."""


@dataclass(frozen=True, slots=True)
class FollowupRow:
    """One table row, in words; `changes` are of volume and product."""

    name: str
    location: str
    volumes: tuple[str, str]
    products: tuple[str, str]
    changes: tuple[str, str]
    note: str


@dataclass(frozen=True, slots=True)
class Curve:
    """One lesion's volume over time: SVG points, colour, label."""

    points: tuple[tuple[float, float], ...]
    colour: str
    name: str
    candidate: int | None
    """Its id at the last examination; None if it is no longer flagged."""
    name_y: float = 0.0
    """y of its name, beside its last point, shifted so that names do not overlap."""


@dataclass(frozen=True, slots=True)
class Curves:
    """Volumes over all examinations, in an image of `WIDTH` by `HEIGHT`."""

    lines: tuple[Curve, ...]
    ticks: tuple[tuple[float, str], ...]
    """(x, label) of the examinations."""
    rows: tuple[int | None, ...]
    """Row of each label below the image, so that none overlap; None if there is no room."""
    levels: tuple[tuple[float, str], ...]
    """(y, label) of the volume."""


@dataclass(frozen=True, slots=True)
class FollowupSection:
    """Content of the section."""

    aligned: str
    doubtful: str
    rows: tuple[FollowupRow, ...]
    sums: tuple[FollowupRow, ...]
    limits: str
    curves: Curves
    summary: str


def section_of(analysis: Analysis, texts: ReportTexts) -> FollowupSection | None:
    """Return the section of an analysis; None without a comparison."""
    comparison = analysis.compared
    if comparison is None:
        return None
    dates = dates_of(comparison, texts, hidden=Identity.DATE in analysis.options.hidden)
    shift = texts.number(comparison.alignment.shift_mm, 1)
    angle = texts.number(comparison.alignment.angle_deg, 1)
    prior = comparison.points[-2].date
    has_prior_date = prior and prior == dates[-2]
    prior_name = texts("fu_which", date=prior) if has_prior_date else dates[-2]
    kinds = [change.kind for change in comparison.changes if change.shown.counts]
    return FollowupSection(
        aligned=texts(
            "fu_aligned",
            which=capitalized(prior_name),
            sequence=comparison.alignment.sequence,
            shift=shift,
            angle=angle,
        ),
        doubtful=alignment_caveat(comparison, texts),
        rows=tuple(_table_row(change, comparison, dates, texts) for change in comparison.changes),
        sums=_sums(comparison, texts),
        limits=texts(
            "fu_limits",
            low=f"{PRODUCT_LIMITS[0]:.0f}",
            high=f"{PRODUCT_LIMITS[1]:.0f}",
            less=f"{VOLUME_LIMITS[0]:.0f}",
            more=f"{VOLUME_LIMITS[1]:.0f}",
        ),
        curves=curves_of(comparison, texts, dates),
        summary=texts(
            "comparison",
            which=prior_name,
            matched=kinds.count(ChangeKind.MATCHED),
            new=kinds.count(ChangeKind.NEW),
            gone=kinds.count(ChangeKind.GONE),
            split=kinds.count(ChangeKind.SPLIT),
            merged=kinds.count(ChangeKind.MERGED),
        )
        + resection_text(comparison.resection, texts),
    )


def is_doubtful(comparison: Comparison) -> bool:
    """Return whether changes since the prior must be checked first; see `alignment_caveat`."""
    return (
        comparison.alignment.doubtful
        or len(comparison.makers_since(len(comparison.points) - 2)) > 1
    )


def alignment_caveat(comparison: Comparison, texts: ReportTexts) -> str:
    """Return why changes must be checked first; empty if there is no reason."""
    parts = []
    if comparison.alignment.doubtful:
        parts.append(texts("fu_mirrored" if comparison.alignment.mirrored else "fu_doubtful"))
    mirrored, last = comparison.mirrored_since(0), len(comparison.points) - 1
    doubtful = [n for n in comparison.doubtful_since(0) if n not in mirrored]
    for key, numbers in (("fu_mirrored_then", mirrored), ("fu_doubtful_then", doubtful)):
        which = ", ".join(texts("fu_examination", n=n + 1) for n in numbers if n < last)
        if which:
            parts.append(texts(key, which=which))
    if len(comparison.makers) > 1:
        parts.append(texts("fu_makers", makers=" / ".join(comparison.makers)))
    return " ".join(parts)


def dates_of(
    comparison: Comparison, texts: ReportTexts, *, hidden: bool = False
) -> tuple[str, ...]:
    """Return the dates of the examinations, or their ordinals."""
    return tuple(
        texts("fu_examination", n=number) if hidden or not point.date else point.date
        for number, point in enumerate(comparison.points, start=1)
    )


def _table_row(
    change: Change, comparison: Comparison, dates: Sequence[str], texts: ReportTexts
) -> FollowupRow:
    location = texts.translated_location(change.shown.place)
    number = texts("unknown") if change.now is None else str(change.now.id)
    percentages = change.volume_percent, change.product_percent
    is_matched = change.kind is ChangeKind.MATCHED
    return_note = reappearance_text(change, comparison, dates, texts)
    return FollowupRow(
        name=number,
        location=location,
        volumes=(_volume_text(change.before, texts), _volume_text(change.now, texts)),
        products=(_product_text(change.before, texts), _product_text(change.now, texts)),
        changes=(
            texts.signed_percent(percentages[0], VOLUME_LIMITS)
            if is_matched
            else texts(f"fu_{change.kind.value}"),
            texts.signed_percent(percentages[1], PRODUCT_LIMITS) if is_matched else "",
        ),
        note="; ".join(filter(None, (return_note, _note(change, comparison, texts)))),
    )


_LINKED_KEYS = {
    ChangeKind.SPLIT: "fu_split_of",
    ChangeKind.MERGED: "fu_merged_into",
    ChangeKind.MATCHED: "fu_covers",
}


def _note(change: Change, comparison: Comparison, texts: ReportTexts) -> str:
    lesion, linked = change.shown, linked_text(change, texts)
    parts = [linked] if linked else []
    if not lesion.tumour:
        parts.append(texts("apart"))
    if lesion.state is ReviewState.REJECTED:
        parts.append(texts.entry("states", lesion.state))
    elif change.before is not None and change.before.state is ReviewState.REJECTED:
        parts.append(texts("fu_rejected_then"))
    if together := together_text(change, comparison, texts):
        parts.append(together)
    if change.joint is not None:
        parts.append(texts("fu_joint", changed=_joint_change_text(change.joint, texts)))
    return "; ".join(parts)


def together_text(change: Change, comparison: Comparison, texts: ReportTexts) -> str:
    """Return the volumes of a matched lesion with all that merged or split; empty without them."""
    linked_ml = comparison.linked_total_ml(change) if change.kind is ChangeKind.MATCHED else None
    if linked_ml is None:
        return ""
    before, now = (texts.volume(ml) for ml in linked_ml)
    change_text = texts.signed_percent(percent(*linked_ml), VOLUME_LIMITS)
    return texts("fu_together", before=before, now=now, changed=change_text)


def linked_text(change: Change, texts: ReportTexts) -> str:
    """Return which further lesions, of which examination, a lesion overlaps; empty if none."""
    ids = ", ".join(str(number) for number in change.beside)
    return texts(_LINKED_KEYS[change.kind], ids=ids) if ids else ""


def reappearance_text(
    change: Change, comparison: Comparison, dates: Sequence[str], texts: ReportTexts
) -> str:
    """Return the examinations before the prior at which a lesion, new since it, was flagged."""
    earlier = () if change.before else comparison.flagged_before(change.shown.tracking_uid)
    return texts("fu_returned", dates=", ".join(dates[n] for n in earlier)) if earlier else ""


def _joint_change_text(joint: JointChange, texts: ReportTexts) -> str:
    if joint.percent is None or joint.plus_minus is None:
        return texts("fu_unmeasurable", why=texts(f"fu_why_{joint.reason}"))
    change_text, tolerance = f"{joint.percent:+z.0f}", f"{joint.plus_minus:.0f}"
    return texts("fu_joint_value", changed=change_text, off=tolerance)


def _sums(comparison: Comparison, texts: ReportTexts) -> tuple[FollowupRow, ...]:
    """Return the targets' sums compared with the prior and with the nadir."""
    targets, sums = comparison.targets(), comparison.sums()
    if not targets:
        return ()
    rows = []
    *earlier, now = sums
    earlier_values = [
        [value for value in values if value is not None] for values in zip(*earlier, strict=True)
    ]
    nadir = min(earlier_values[0], default=None), min(earlier_values[1], default=None)
    for key, (product, volume) in (("fu_sum", earlier[-1]), ("fu_least", nadir)):
        rows.append(
            FollowupRow(
                name="",
                location=texts(key, n=len(targets)),
                volumes=(texts.volume(volume), texts.volume(now[1])),
                products=(texts.number(product, 0), texts.number(now[0], 0)),
                changes=(
                    texts.percent_beside_limits(percent(volume, now[1]), VOLUME_LIMITS),
                    texts.percent_beside_limits(percent(product, now[0]), PRODUCT_LIMITS),
                ),
                note="",
            )
        )
    return tuple(rows[: 1 if len(earlier) == 1 else 2])


def curves_of(
    comparison: Comparison, texts: ReportTexts, dates: tuple[str, ...] | None = None
) -> Curves:
    """Return the volume curve of every lesion: days across, ml upwards, each named at its end.

    `dates` are those of `dates_of` if some are hidden.
    """
    dates = dates or dates_of(comparison, texts)
    latest_first = reversed(comparison.points)
    uids = dict.fromkeys(m.tracking_uid for point in latest_first for m in point.lesions)
    curves = {uid: tuple(comparison.curve(uid)) for uid in uids}
    max_ml = max((ml for curve in curves.values() for _, ml in curve), default=0.0) or 1.0
    scale = _PlotScale(comparison.days(), max_ml)
    ticks = tuple((scale.x(number), date) for number, date in enumerate(dates))
    spans = [
        (x - len(date) * _LETTER_WIDTH / 2, x + len(date) * _LETTER_WIDTH / 2) for x, date in ticks
    ]
    return Curves(
        lines=_lines(comparison, curves, scale, texts),
        ticks=ticks,
        rows=assign_label_rows(spans, TICK_ROWS),
        levels=tuple((scale.y(ml), texts.volume(ml)) for ml in (0.0, 0.5 * max_ml, max_ml)),
    )


@dataclass(frozen=True, slots=True)
class _PlotScale:
    """Converts examinations and ml to x and y of the image; y runs downwards."""

    days: tuple[float, ...]
    """Days from the first examination to each."""
    max_ml: float

    def x(self, number: int) -> float:
        span_days = (self.days[-1] - self.days[0]) or 1.0
        days = self.days[number] - self.days[0]
        return round(_LEFT + (WIDTH - _LEFT - _RIGHT) * days / span_days, 1)

    def y(self, ml: float) -> float:
        return round(HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * ml / self.max_ml, 1)


def _lines(
    comparison: Comparison,
    curves: Mapping[str, tuple[tuple[int, float], ...]],
    scale: _PlotScale,
    texts: ReportTexts,
) -> tuple[Curve, ...]:
    """Return the line of each lesion that has a volume; `curves` are (examination, ml) by UID."""
    plotted = [
        (uid, _COLOURS[n % len(_COLOURS)], [(scale.x(number), scale.y(ml)) for number, ml in curve])
        for n, (uid, curve) in enumerate(curves.items())
        if curve
    ]
    name_positions = spread_label_positions(
        [points[-1] for _, _, points in plotted], _NAME_HEIGHT, HEIGHT - _BOTTOM
    )
    current_ids = {lesion.tracking_uid: lesion.id for lesion in comparison.points[-1].lesions}
    return tuple(
        Curve(
            points=tuple(points),
            colour=colour,
            name=str(current_ids.get(uid, texts("fu_gone"))),
            candidate=current_ids.get(uid),
            name_y=round(y, 1),
        )
        for (uid, colour, points), y in zip(plotted, name_positions, strict=True)
    )


def assign_label_rows(spans: Sequence[tuple[float, float]], count: int) -> tuple[int | None, ...]:
    """Return the row of each label, so that none overlaps; None if there is no room.

    Parameters
    ----------
    spans : sequence of (float, float)
        Where each label begins and ends. The last one, of this examination, is placed first.

    Examples
    --------
    >>> assign_label_rows([(0, 60), (5, 65), (10, 70), (200, 260)], 2)
    (0, 1, None, 0)
    """
    occupied: list[list[tuple[float, float]]] = [[] for _ in range(count)]
    rows: dict[int, int | None] = {}
    for n in (len(spans) - 1, *range(len(spans) - 1)):
        begin, end = spans[n]
        free = (r for r in range(count) if all(end < a or begin > b for a, b in occupied[r]))
        rows[n] = next(free, None)
        if (row := rows[n]) is not None:
            occupied[row].append(spans[n])
    return tuple(rows[n] for n in range(len(spans)))


def spread_label_positions(
    ends: Sequence[tuple[float, float]], spacing: float, max_y: float
) -> tuple[float, ...]:
    """Return the y of the name at each line's end, at least `spacing` apart and at most `max_y`.

    Examples
    --------
    >>> spread_label_positions([(530, 100), (530, 101), (530, 20), (100, 100)], 11, 186)
    (100, 111, 20, 100)
    """
    positions = [y for _, y in ends]
    for end in {x for x, _ in ends}:
        group = sorted((n for n, (x, _) in enumerate(ends) if x == end), key=lambda n: ends[n][1])
        above, below = -math.inf, max_y
        for n in group:
            positions[n] = above = max(positions[n], above + spacing)
        for n in reversed(group):
            positions[n] = min(positions[n], below)
            below = positions[n] - spacing
    return tuple(positions)


def _volume_text(lesion: LesionMeasurement | None, texts: ReportTexts) -> str:
    return "" if lesion is None else texts.volume(lesion.whole_ml)


def _product_text(lesion: LesionMeasurement | None, texts: ReportTexts) -> str:
    return "" if lesion is None else texts.number(lesion.product_mm2, 0)


def followup_json(comparison: Comparison) -> str:
    """Return followup.json: all time points, changes, registration of the prior."""
    adapter = TypeAdapter(Comparison)
    content = adapter.dump_python(adapter.validate_python(comparison), mode="json")  # rounds
    for change, row in zip(comparison.changes, content["changes"], strict=True):
        row["kind"] = change.kind.value
        row["volume_percent"], row["product_percent"] = (
            None if value is None else round(value, 2)
            for value in (change.volume_percent, change.product_percent)
        )
        linked_ml = comparison.linked_total_ml(change)
        row["together_ml"] = None if linked_ml is None else [round(ml, 4) for ml in linked_ml]
    sums = [
        {"product_mm2": None if a is None else round(a, 2), "volume_ml": _rounded(b)}
        for a, b in comparison.sums()
    ]
    targets = {"tracking_uids": comparison.targets(), "sums": sums}
    content |= {"targets": targets, "resection": _resection_fields(comparison.resection)}
    return json.dumps({"schema": SCHEMA, **content}, indent=2) + "\n"


def _resection_fields(resection: Resection | None) -> dict[str, float | str] | None:
    if resection is None:
        return None
    return {
        "before": resection.before,
        "before_ml": round(resection.before_ml, 4),
        "residual_ml": round(resection.residual_ml, 4),
        "percent": round(resection.percent, 2),
    }


def resection_text(resection: Resection | None, texts: ReportTexts) -> str:
    """Return the extent of resection in words; empty if it is unknown."""
    if resection is None:
        return ""
    return texts(
        "fu_resection",
        percent=texts.percent_beside_limits(resection.percent, (0.0, 100.0)).removeprefix("+"),
        residual=texts.volume(resection.residual_ml),
        before=texts.volume(resection.before_ml),
    )


_COLUMNS = (
    "examination", "date", "tracking_uid", "candidate", "place", "state", "volume_ml_wt",
    "volume_ml_tc", "volume_ml_et", "longest_axial_diameter_mm", "perpendicular_diameter_mm",
)  # fmt: skip


def followup_csv(comparison: Comparison) -> str:
    """Return followup.csv: one row for each lesion and examination; one if there is no lesion."""
    rows: list[list[str | int | float]] = []
    for number, point in enumerate(comparison.points, 1):
        if not point.lesions:
            rows.append([number, cell(point.date), *[""] * (len(_COLUMNS) - 2)])
        for lesion in point.lesions:
            volumes = [_rounded(lesion.volume_ml.get(region)) for region in Region]
            measures = _rounded(lesion.longest_mm), _rounded(lesion.perpendicular_mm)
            lesion_id = lesion.tracking_uid, lesion.id, lesion.place, lesion.state.value
            row = (number, point.date, *lesion_id, *volumes, *measures)
            rows.append([cell(value) for value in row])
    return csv_text(_COLUMNS, rows)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def write_followup(comparison: Comparison, staged: Path) -> tuple[Path, Path]:
    """Write followup.json and followup.csv into a staged folder."""
    as_csv = staged / TABLE
    as_csv.write_text(followup_csv(comparison), encoding="utf-8", newline="")
    return write_followup_json(comparison, staged), as_csv


def write_followup_json(comparison: Comparison, folder: Path) -> Path:
    """Write followup.json into a folder."""
    path = folder / FILE
    path.write_text(followup_json(comparison), encoding="utf-8")
    return path
