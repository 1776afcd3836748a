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
    VOLUME_ERROR_PERCENT,
    VOLUME_LIMITS,
    Change,
    ChangeKind,
    Comparison,
    LesionMeasurement,
    Resection,
    percent,
)
from lesionlens.base.text import capitalized, shown_day
from lesionlens.results.export import wording
from lesionlens.results.export.cells import cell, csv_text

FILE, TABLE = "followup.json", "followup.csv"
SCHEMA = "lesionlens/followup/1"
WIDTH, HEIGHT = 640.0, 220.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 110.0, 12.0, 34.0
CURVES_BEGIN, CURVES_END = _LEFT, WIDTH - _RIGHT
"""x at which the lines begin and end; their names are to the right."""
_TICK_ROWS = 2
"""Rows of labels of the examinations below the image."""
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


KIND_NAMES = {
    ChangeKind.MATCHED: "matched",
    ChangeKind.NEW: "new",
    ChangeKind.GONE: "no longer flagged",
    ChangeKind.SPLIT: "split off",
    ChangeKind.MERGED: "merged",
}
_LINKED = {
    ChangeKind.SPLIT: "overlaps {ids} of the earlier examination",
    ChangeKind.MERGED: "overlaps {ids} of this one",
    ChangeKind.MATCHED: "also overlaps {ids} of the earlier examination",
}
_MIRRORED_THEN = (
    "The examination before {which} seems mirrored, left and right swapped: check the sides before "
    "you trust curves and sums."
)
_DOUBTFUL_THEN = (
    "The registration of {which} to the examination before it is doubtful: check it before you "
    "trust curves and sums."
)


@dataclass(frozen=True, slots=True)
class FollowupSection:
    """What report, window and command line say of a comparison."""

    comparison: Comparison
    dates_hidden: bool = False

    @property
    def dates(self) -> tuple[str, ...]:
        """The dates of the examinations, or their ordinals."""
        return tuple(
            f"examination {number}"
            if self.dates_hidden or not point.date
            else shown_day(point.date)
            for number, point in enumerate(self.comparison.points, start=1)
        )

    @property
    def _prior(self) -> str:
        is_dated = self.comparison.points[-2].date and not self.dates_hidden
        return f"the examination of {self.dates[-2]}" if is_dated else self.dates[-2]

    @property
    def aligned(self) -> str:
        """Registration of the prior."""
        alignment, number = self.comparison.alignment, wording.number
        shift, angle = number(alignment.shift_mm, 1), number(alignment.angle_deg, 1)
        return (
            f"{capitalized(self._prior)} was registered to this one using {alignment.sequence}; "
            f"the heads were {shift} mm and {angle}° apart."
        )

    @property
    def doubtful(self) -> str:
        """Why changes must be checked first; empty if there is no reason."""
        comparison, parts = self.comparison, []
        if comparison.alignment.doubtful:
            parts.append(
                "The earlier examination seems mirrored, left and right swapped: check the sides "
                "of both before you trust any change."
                if comparison.alignment.mirrored
                else "This registration is doubtful: check it by eye."
            )
        mirrored, last = comparison.mirrored_since(0), len(comparison.points) - 1
        doubtful = [n for n in comparison.doubtful_since(0) if n not in mirrored]
        for text, numbers in ((_MIRRORED_THEN, mirrored), (_DOUBTFUL_THEN, doubtful)):
            which = ", ".join(f"examination {n + 1}" for n in numbers if n < last)
            if which:
                parts.append(text.format(which=which))
        if len(comparison.makers) > 1:
            parts.append(
                "These examinations were outlined by different networks, weights or releases, "
                f"which may explain part of a change in volume: {' / '.join(comparison.makers)}."
            )
        return " ".join(parts)

    @property
    def rows(self) -> tuple[FollowupRow, ...]:
        """The table, one row for each change."""
        return tuple(map(self.row, self.comparison.changes))

    def row(self, change: Change) -> FollowupRow:
        """Return the row of a change."""
        before, now = change.before, change.now
        if change.kind is ChangeKind.MATCHED:
            changes = (
                wording.signed_percent(change.volume_percent, VOLUME_LIMITS),
                wording.signed_percent(change.product_percent, PRODUCT_LIMITS),
            )
        else:
            changes = KIND_NAMES[change.kind], ""
        return FollowupRow(
            name="–" if now is None else str(now.id),
            location=change.shown.place,
            volumes=(_volume_text(before), _volume_text(now)),
            products=(_product_text(before), _product_text(now)),
            changes=changes,
            note="; ".join(filter(None, (self.returned(change), self.note(change)))),
        )

    def note(self, change: Change) -> str:
        """Return what must be known of a change besides its figures."""
        lesion, before = change.shown, change.before
        parts = [self.linked(change)]
        if lesion.state is ReviewState.REJECTED:
            parts.append(lesion.state.value)
        elif before is not None and before.state is ReviewState.REJECTED:
            parts.append("rejected at the earlier examination")
        parts.append(self.together(change))
        return "; ".join(filter(None, parts))

    def together(self, change: Change) -> str:
        """Return the volumes of a lesion including merged and split regions; empty without."""
        is_matched = change.kind is ChangeKind.MATCHED
        linked_ml = self.comparison.linked_total_ml(change) if is_matched else None
        if linked_ml is None:
            return ""
        before, now = (wording.volume(ml) for ml in linked_ml)
        changed = wording.signed_percent(percent(*linked_ml), VOLUME_LIMITS)
        return f"including merged and split regions: {before} → {now}, {changed}"

    def linked(self, change: Change) -> str:
        """Return which further lesions, of which examination, a lesion overlaps; empty if none."""
        ids = ", ".join(str(number) for number in change.beside)
        return _LINKED[change.kind].format(ids=ids) if ids else ""

    def returned(self, change: Change) -> str:
        """Return the examinations before the prior at which a lesion, new since, was flagged."""
        uid = change.shown.tracking_uid
        earlier = () if change.before else self.comparison.flagged_before(uid)
        dates = ", ".join(self.dates[n] for n in earlier)
        return f"flagged before ({dates}), not at the earlier examination" if earlier else ""

    @property
    def sums(self) -> tuple[FollowupRow, ...]:
        """The targets' sums compared with the prior, the first examination and the nadir."""
        n_targets = len(self.comparison.targets())
        if not n_targets:
            return ()
        *earlier, now = self.comparison.sums()
        known = ([v for v in values if v is not None] for values in zip(*earlier, strict=True))
        nadir = tuple(min(values, default=None) for values in known)
        rows = [
            FollowupRow(
                name="",
                location=name,
                volumes=(wording.volume(volume), wording.volume(now[1])),
                products=(wording.number(product, 0), wording.number(now[0], 0)),
                changes=(
                    wording.percent_beside_limits(percent(volume, now[1]), VOLUME_LIMITS),
                    wording.percent_beside_limits(percent(product, now[0]), PRODUCT_LIMITS),
                ),
                note="",
            )
            for name, (product, volume) in (
                (
                    f"sum of targets ({n_targets}, measurable, at most 3), ml of their enhancing "
                    "part",
                    earlier[-1],
                ),
                ("relative to the first examination", earlier[0]),
                ("relative to the smallest known earlier sum", nadir),
            )
        ]
        return tuple(rows[:1] if len(earlier) == 1 else rows)

    @property
    def limits(self) -> str:
        """RANO 2.0's limits."""
        (low, high), (less, more) = (
            [f"{limit:.0f}" for limit in limits] for limits in (PRODUCT_LIMITS, VOLUME_LIMITS)
        )
        return (
            f"Median error of a change in volume, by outlines: {VOLUME_ERROR_PERCENT:.0f}%. mm²: "
            f"product of both diameters. RANO 2.0 thresholds: product {low}% and +{high}%, volume "
            f"{less}% and +{more}%. Steroids and clinical status count, too: the reader decides on "
            "the category."
        )

    @property
    def curves(self) -> Curves:
        """The volume curve of every lesion: days across, ml upwards, each named at its end."""
        comparison = self.comparison
        latest_first = reversed(comparison.points)
        uids = dict.fromkeys(m.tracking_uid for point in latest_first for m in point.lesions)
        curves = {uid: tuple(comparison.curve(uid)) for uid in uids}
        max_ml = max((ml for curve in curves.values() for _, ml in curve), default=0.0) or 1.0
        scale = _PlotScale(comparison.days(), max_ml)
        ticks = tuple((scale.x(number), date) for number, date in enumerate(self.dates))
        half = _LETTER_WIDTH / 2
        spans = [(x - len(date) * half, x + len(date) * half) for x, date in ticks]
        levels = (0.0, 0.5 * max_ml, max_ml)
        return Curves(
            lines=_lines(comparison, curves, scale),
            ticks=ticks,
            rows=assign_label_rows(spans, _TICK_ROWS),
            levels=tuple((scale.y(ml), wording.volume(ml)) for ml in levels),
        )

    @property
    def summary(self) -> str:
        """How many lesions are matched, new or gone; the extent of resection."""
        changes = (change for change in self.comparison.changes if change.shown.counts)
        kinds = [change.kind for change in changes]
        counts = ", ".join(f"{kinds.count(kind)} {name}" for kind, name in KIND_NAMES.items())
        text = (
            f"Comparison ({self._prior}): {counts}; the figures are in the table; the reader "
            "decides on the category."
        )
        return text + resection_text(self.comparison.resection)


def section_of(analysis: Analysis) -> FollowupSection | None:
    """Return the section of an analysis; None without a comparison."""
    comparison, hidden = analysis.compared, Identity.DATE in analysis.options.hidden
    return None if comparison is None else FollowupSection(comparison, hidden)


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
            name=str(current_ids.get(uid, "no longer flagged")),
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


def _volume_text(lesion: LesionMeasurement | None) -> str:
    return "" if lesion is None else wording.volume(lesion.whole_ml)


def _product_text(lesion: LesionMeasurement | None) -> str:
    return "" if lesion is None else wording.number(lesion.product_mm2, 0)


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
        known = change.volume_percent is not None
        row["volume_error_percent"] = VOLUME_ERROR_PERCENT if known else None
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


def resection_text(resection: Resection | None) -> str:
    """Return the extent of resection in words; empty if it is unknown."""
    if resection is None:
        return ""
    extent = wording.percent_beside_limits(resection.percent, (0.0, 100.0)).removeprefix("+")
    return (
        f" Enhancing tumour: {wording.volume(resection.residual_ml)} left of "
        f"{wording.volume(resection.before_ml)} at the prior examination; if that was before "
        f"surgery, extent of resection {extent}."
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
