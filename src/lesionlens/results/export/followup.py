"""Report section of a comparison with earlier examinations: table, sums, curves."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
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
    Measured,
    percent,
)
from lesionlens.base.records.joint_change import JointChange
from lesionlens.base.records.resection import Resection
from lesionlens.results.export.cells import cell, csv_text
from lesionlens.results.export.words import Words

FILE, TABLE = "followup.json", "followup.csv"
SCHEMA = "lesionlens/followup/1"
WIDTH, HEIGHT = 640.0, 220.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 110.0, 12.0, 34.0
CURVES_BEGIN, CURVES_END = _LEFT, WIDTH - _RIGHT
"""x at which the lines begin and end; their names follow."""
TICK_ROWS, TICK_HIGH = 2, 11.0
"""Rows of labels of the examinations below the image, and their distance."""
_LETTER, _NAME_HIGH = 5.8, 10.0
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette; every line is also numbered at its end."""


@dataclass(frozen=True, slots=True)
class FollowupRow:
    """One table row, in words; `changes` are of volume and product."""

    name: str
    place: str
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
    """Its id at the last examination; None if it is no longer found."""
    name_y: float = 0.0
    """y of its name, beside its last point; names lie apart."""


@dataclass(frozen=True, slots=True)
class Curves:
    """Volumes over all examinations, in an image of `WIDTH` by `HEIGHT`."""

    lines: tuple[Curve, ...]
    ticks: tuple[tuple[float, str], ...]
    """(x, label) of the examinations."""
    rows: tuple[int | None, ...]
    """Row of each label below the image, so that none lies on another; None if there is no room."""
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
    line: str


def section_of(analysis: Analysis, words: Words) -> FollowupSection | None:
    """Return the section of an analysis; None without a comparison."""
    found = analysis.compared
    if found is None:
        return None
    dates = dates_of(found, words, hidden=Identity.DATE in analysis.options.hidden)
    shift = words.number(found.alignment.shift_mm, 1)
    angle = words.number(found.alignment.angle_deg, 1)
    prior = found.points[-2].date
    known = prior and prior == dates[-2]
    which = words("fu_which", date=prior) if known else dates[-2]
    kinds = [change.kind for change in found.changes if change.shown.counts]
    return FollowupSection(
        aligned=words(
            "fu_aligned",
            which=which[:1].upper() + which[1:],
            sequence=found.alignment.sequence,
            shift=shift,
            angle=angle,
        ),
        doubtful=doubt_words(found, words),
        rows=tuple(_row(change, found, dates, words) for change in found.changes),
        sums=_sums(found, words),
        limits=_limits(words),
        curves=_drawn(found, dates, words),
        line=words(
            "comparison",
            which=which,
            matched=kinds.count(ChangeKind.MATCHED),
            new=kinds.count(ChangeKind.NEW),
            gone=kinds.count(ChangeKind.GONE),
            split=kinds.count(ChangeKind.SPLIT),
            merged=kinds.count(ChangeKind.MERGED),
        )
        + resection_words(found.resection, words),
    )


def is_doubtful(found: Comparison) -> bool:
    """Return whether changes since the prior have to be checked first; `doubt_words` says why."""
    return found.alignment.doubtful or len(found.makers_since(len(found.points) - 2)) > 1


def doubt_words(found: Comparison, words: Words) -> str:
    """Return why changes have to be checked first; empty if nothing speaks against them."""
    parts = []
    if found.alignment.doubtful:
        parts.append(words("fu_mirrored" if found.alignment.mirrored else "fu_doubtful"))
    mirrored, last = found.mirrored_since(0), len(found.points) - 1
    doubtful = [n for n in found.doubtful_since(0) if n not in mirrored]
    for key, numbers in (("fu_mirrored_then", mirrored), ("fu_doubtful_then", doubtful)):
        which = ", ".join(words("fu_examination", n=n + 1) for n in numbers if n < last)
        if which:
            parts.append(words(key, which=which))
    if len(found.makers) > 1:
        parts.append(words("fu_makers", makers=" / ".join(found.makers)))
    return " ".join(parts)


def dates_of(found: Comparison, words: Words, *, hidden: bool = False) -> tuple[str, ...]:
    """Return the dates of the examinations, or their ordinals."""
    return tuple(
        words("fu_examination", n=number) if hidden or not point.date else point.date
        for number, point in enumerate(found.points, start=1)
    )


def _row(change: Change, found: Comparison, dates: Sequence[str], words: Words) -> FollowupRow:
    place = words.place_named(change.shown.place)
    number = words("unknown") if change.now is None else str(change.now.id)
    changed = change.volume_percent, change.product_percent
    plain = change.kind is ChangeKind.MATCHED
    back = returned_words(change, found, dates, words)
    return FollowupRow(
        name=number,
        place=place,
        volumes=(_ml(change.before, words), _ml(change.now, words)),
        products=(_mm2(change.before, words), _mm2(change.now, words)),
        changes=(
            words.signed(changed[0]) if plain else words(f"fu_{change.kind.value}"),
            words.signed(changed[1]) if plain else "",
        ),
        note="; ".join(filter(None, (back, _note(change, found, words)))),
    )


_BESIDE = {
    ChangeKind.SPLIT: "fu_split_of",
    ChangeKind.MERGED: "fu_merged_into",
    ChangeKind.MATCHED: "fu_covers",
}


def _note(change: Change, found: Comparison, words: Words) -> str:
    shown, ids = change.shown, ", ".join(str(one) for one in change.beside)
    parts = [words(_BESIDE[change.kind], ids=ids)] if ids else []
    if not shown.tumour:
        parts.append(words("apart"))
    if shown.state is ReviewState.REJECTED:
        parts.append(words.state(shown.state))
    elif change.before is not None and change.before.state is ReviewState.REJECTED:
        parts.append(words("fu_rejected_then"))
    together = found.together(change) if change.kind is ChangeKind.MATCHED else None
    if together is not None:
        before, now = (words.volume(ml) for ml in together)
        changed = words.signed(percent(*together))
        parts.append(words("fu_together", before=before, now=now, changed=changed))
    if change.joint is not None:
        parts.append(words("fu_joint", changed=_joint(change.joint, words)))
    return "; ".join(parts)


def returned_words(change: Change, found: Comparison, dates: Sequence[str], words: Words) -> str:
    """Return at which earlier examinations a lesion was flagged that is new since the prior."""
    earlier = () if change.before else found.flagged_before(change.shown.tracking_uid)
    return words("fu_returned", dates=", ".join(dates[n] for n in earlier)) if earlier else ""


def _joint(joint: JointChange, words: Words) -> str:
    if joint.percent is None or joint.plus_minus is None:
        return words("fu_unmeasurable", why=words(f"fu_why_{joint.reason}"))
    changed, off = f"{joint.percent:+z.0f}", f"{joint.plus_minus:.0f}"
    return words("fu_joint_value", changed=changed, off=off)


def _sums(found: Comparison, words: Words) -> tuple[FollowupRow, ...]:
    """Return the targets' sums compared with the prior and with the nadir."""
    targets, sums = found.targets(), found.sums()
    if not targets:
        return ()
    rows = []
    *earlier, now = sums
    known = [[one for one in of if one is not None] for of in zip(*earlier, strict=True)]
    least = min(known[0], default=None), min(known[1], default=None)
    for key, (product, volume) in (("fu_sum", earlier[-1]), ("fu_least", least)):
        rows.append(
            FollowupRow(
                name="",
                place=words(key, n=len(targets)),
                volumes=(words.volume(volume), words.volume(now[1])),
                products=(words.number(product, 0), words.number(now[0], 0)),
                changes=(
                    words.compared(percent(volume, now[1]), VOLUME_LIMITS),
                    words.compared(percent(product, now[0]), PRODUCT_LIMITS),
                ),
                note="",
            )
        )
    return tuple(rows[: 1 if len(earlier) == 1 else 2])


def _limits(words: Words) -> str:
    low, high = PRODUCT_LIMITS
    less, more = VOLUME_LIMITS
    return words("fu_limits", low=f"{low:.0f}", high=f"{high:.0f}", less=f"{less:.0f}",
                 more=f"{more:.0f}")  # fmt: skip


def curves_of(found: Comparison, words: Words) -> Curves:
    """Return the volume curve of every lesion over all examinations."""
    return _drawn(found, dates_of(found, words), words)


def _drawn(found: Comparison, dates: tuple[str, ...], words: Words) -> Curves:
    days = found.days()
    uids = list(
        dict.fromkeys(one.tracking_uid for p in reversed(found.points) for one in p.lesions)
    )
    curves = {uid: tuple(found.curve(uid)) for uid in uids}
    most = max((ml for curve in curves.values() for _, ml in curve), default=0.0) or 1.0
    span = (days[-1] - days[0]) or 1.0

    def at(number: int, ml: float) -> tuple[float, float]:
        x = _LEFT + (WIDTH - _LEFT - _RIGHT) * (days[number] - days[0]) / span
        return round(x, 1), round(HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * ml / most, 1)

    now = {one.tracking_uid: one.id for one in found.points[-1].lesions}
    shown = [(n, uid, [at(*one) for one in curves[uid]]) for n, uid in enumerate(uids)]
    shown = [one for one in shown if one[2]]
    names = names_apart([points[-1] for _, _, points in shown], _NAME_HIGH, HEIGHT - _BOTTOM)
    drawn = tuple(
        Curve(
            tuple(points),
            _COLOURS[n % len(_COLOURS)],
            str(now.get(uid, words("fu_gone"))),
            now.get(uid),
            round(y, 1),
        )
        for (n, uid, points), y in zip(shown, names, strict=True)
    )
    ticks = tuple((at(number, 0.0)[0], date) for number, date in enumerate(dates))
    spans = [(x - (wide := len(date) * _LETTER) / 2, x + wide / 2) for x, date in ticks]
    levels = tuple(
        (at(0, share * most)[1], words.volume(share * most)) for share in (0.0, 0.5, 1.0)
    )
    return Curves(drawn, ticks, label_rows(spans, TICK_ROWS), levels)


def label_rows(spans: Sequence[tuple[float, float]], count: int) -> tuple[int | None, ...]:
    """Return the row of each label, so that none overlaps; None if there is no room.

    Parameters
    ----------
    spans : sequence of (float, float)
        Where each label begins and ends. The last one, of this examination, is placed first.

    Examples
    --------
    >>> label_rows([(0, 60), (5, 65), (10, 70), (200, 260)], 2)
    (0, 1, None, 0)
    """
    taken: list[list[tuple[float, float]]] = [[] for _ in range(count)]
    found: dict[int, int | None] = {}
    for n in (len(spans) - 1, *range(len(spans) - 1)):
        begin, end = spans[n]
        free = (r for r in range(count) if all(end < a or begin > b for a, b in taken[r]))
        found[n] = next(free, None)
        if (row := found[n]) is not None:
            taken[row].append(spans[n])
    return tuple(found[n] for n in range(len(spans)))


def names_apart(ends: Sequence[tuple[float, float]], high: float, most: float) -> tuple[float, ...]:
    """Return the y of the name at each line's end, at least `high` apart and at most `most`.

    Examples
    --------
    >>> names_apart([(530, 100), (530, 101), (530, 20), (100, 100)], 11, 186)
    (100, 111, 20, 100)
    """
    found = [y for _, y in ends]
    for end in {x for x, _ in ends}:
        here = sorted((n for n, (x, _) in enumerate(ends) if x == end), key=lambda n: ends[n][1])
        above, below = -math.inf, most
        for n in here:
            found[n] = above = max(found[n], above + high)
        for n in reversed(here):
            found[n] = min(found[n], below)
            below = found[n] - high
    return tuple(found)


def _ml(one: Measured | None, words: Words) -> str:
    return "" if one is None else words.volume(one.whole_ml)


def _mm2(one: Measured | None, words: Words) -> str:
    return "" if one is None else words.number(one.product_mm2, 0)


def followup_json(found: Comparison) -> str:
    """Return followup.json: all time points, changes, registration of the prior."""
    adapter = TypeAdapter(Comparison)
    content = adapter.dump_python(adapter.validate_python(found), mode="json")  # rounds
    for change, row in zip(found.changes, content["changes"], strict=True):
        row["kind"] = change.kind.value
        row["volume_percent"], row["product_percent"] = (
            None if value is None else round(value, 2)
            for value in (change.volume_percent, change.product_percent)
        )
        together = found.together(change)
        row["together_ml"] = None if together is None else [round(ml, 4) for ml in together]
    sums = [
        {"product_mm2": None if a is None else round(a, 2), "volume_ml": _rounded(b)}
        for a, b in found.sums()
    ]
    targets = {"tracking_uids": found.targets(), "sums": sums}
    content |= {"targets": targets, "resection": _resection(found.resection)}
    return json.dumps({"schema": SCHEMA, **content}, indent=2) + "\n"


def _resection(found: Resection | None) -> dict[str, float | str] | None:
    if found is None:
        return None
    return {
        "before": found.before,
        "before_ml": round(found.before_ml, 4),
        "residual_ml": round(found.residual_ml, 4),
        "percent": round(found.percent, 2),
    }


def resection_words(found: Resection | None, words: Words) -> str:
    """Return the extent of resection in words; empty if it is unknown."""
    if found is None:
        return ""
    return words(
        "fu_resection",
        percent=words.compared(found.percent, (0.0, 100.0)).removeprefix("+"),
        residual=words.volume(found.residual_ml),
        before=words.volume(found.before_ml),
    )


_COLUMNS = (
    "examination", "date", "tracking_uid", "candidate", "place", "state", "volume_ml_wt",
    "volume_ml_tc", "volume_ml_et", "longest_axial_diameter_mm", "perpendicular_diameter_mm",
)  # fmt: skip


def followup_csv(found: Comparison) -> str:
    """Return followup.csv: one row for each lesion and examination; one if there is no lesion."""
    rows: list[list[str | int | float]] = []
    for number, point in enumerate(found.points, 1):
        if not point.lesions:
            rows.append([number, cell(point.date), *[""] * (len(_COLUMNS) - 2)])
        for one in point.lesions:
            volumes = [_rounded(one.volume_ml.get(region)) for region in Region]
            measures = _rounded(one.longest_mm), _rounded(one.perpendicular_mm)
            row = (number, point.date, one.tracking_uid, one.id, one.place, one.state.value)
            rows.append([cell(value) for value in (*row, *volumes, *measures)])
    return csv_text(_COLUMNS, rows)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def write_followup(found: Comparison, staged: Path) -> tuple[Path, Path]:
    """Write followup.json and followup.csv into a staged folder."""
    as_json, as_csv = staged / FILE, staged / TABLE
    as_json.write_text(followup_json(found), encoding="utf-8")
    as_csv.write_text(followup_csv(found), encoding="utf-8", newline="")
    return as_json, as_csv
