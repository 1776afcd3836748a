"""Rules of a site or a reader: which sequences hang in which views, for which study.

`[[hanging]]` tables in the site's `settings.toml`, and in `hanging.toml` of the reader's own
settings folder, whose rules go first. The first rule that fits a study holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lesionlens.base import user_folders
from lesionlens.base.bounded_read import read_toml
from lesionlens.base.errors import ConfigError
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import Study, StudyKind
from lesionlens.napari.model.choices.views import Layout
from lesionlens.napari.model.geometry.planes import Plane

LAYOUTS = {
    "single": Layout.SINGLE,
    "as-acquired": Layout.ONE,
    "1x2": Layout.PAIR,
    "1x3": Layout.TRIPLE,
    "2x2": Layout.FOUR,
    "planes": Layout.PLANES,
}
"""Views by the name that a rule gives them."""
_KEYS = {"with", "without", "kind", "show", "views", "plane"}


@dataclass(frozen=True, slots=True)
class HangingRule:
    """How studies of one description hang."""

    show: tuple[MrSequence, ...]
    """The sequences in the order of the views; those that are missing are passed over."""
    layout: Layout | None = None
    """None leaves the views that the reader chose last."""
    plane: Plane | None = None
    """None leaves the plane of acquisition."""
    there: frozenset[MrSequence] = frozenset()
    """All of these must be there."""
    absent: frozenset[MrSequence] = frozenset()
    """None of these may be there."""
    kind: StudyKind | None = None

    def fits(self, study: Study) -> bool:
        """Whether it speaks of a study."""
        series = set(study.series)
        return (
            self.there <= series
            and not self.absent & series
            and self.kind in (None, study.kind)
            and any(one in series for one in self.show)
        )


def own_file() -> Path:
    """Return where a reader's rules are looked for."""
    return user_folders.settings() / "hanging.toml"


def rule_for(study: Study) -> HangingRule | None:
    """Return the rule that holds for a study; None if none speaks of it.

    Raises
    ------
    ConfigError
        A file is there and its rules cannot be read.
    """
    for file in (own_file(), user_folders.site_settings() / "settings.toml"):
        found = next((rule for rule in read_rules(file) if rule.fits(study)), None)
        if found is not None:
            return found
    return None


def read_rules(file: Path) -> tuple[HangingRule, ...]:
    """Return the rules of a file; none if missing.

    Raises
    ------
    ConfigError
        It cannot be read, or a rule holds what no rule can.
    """
    try:
        table = read_toml(file)
    except FileNotFoundError:
        return ()
    except (OSError, ValueError) as error:
        raise _wrong(file, str(error)) from error
    rows = table.get("hanging", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise _wrong(file, "`hanging` that is no list of tables")
    return tuple(_rule(file, row) for row in rows)


def _rule(file: Path, row: dict[str, Any]) -> HangingRule:
    unknown = sorted(set(row) - _KEYS)
    if unknown:
        raise _wrong(file, f"the key {unknown[0]!r}")
    try:
        show = tuple(MrSequence(one) for one in row.get("show", ()))
        if not show:
            raise _wrong(file, "a rule that shows nothing")
        return HangingRule(
            tuple(dict.fromkeys(show)),
            LAYOUTS[row["views"]] if "views" in row else None,
            Plane(row["plane"]) if "plane" in row else None,
            frozenset(MrSequence(one) for one in row.get("with", ())),
            frozenset(MrSequence(one) for one in row.get("without", ())),
            StudyKind(row["kind"]) if "kind" in row else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _wrong(file, f"a rule with {error}") from error


def _wrong(file: Path, found: str) -> ConfigError:
    return ConfigError(
        found=f"{file.name} with {found}",
        expected="[[hanging]] with show = [t1, t1c, t2, flair], and where wanted views = "
        f"{', '.join(LAYOUTS)}, plane = {', '.join(Plane)}, with, without, kind",
        next_step="Correct the rule; until then the views chosen last are shown",
    )
