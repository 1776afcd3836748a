"""Hanging of a study: by rules of a site or reader, else the layout chosen last for its kind.

`[[hanging]]` tables are read from the site's `settings.toml`, and from `hanging.toml` of the
reader's settings folder, which has priority; the first matching rule applies. The last layout of
each kind of study is stored in the user's data folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lesionlens.base.errors import ConfigError
from lesionlens.base.files import user_files, user_folders
from lesionlens.base.files.bounded_read import read_object, read_toml
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import Study, StudyKind
from lesionlens.napari.model.choices.views import Layout
from lesionlens.napari.model.geometry.planes import Plane
from lesionlens.napari.model.screen.board import kind_of

LAYOUTS = {
    "single": Layout.SINGLE,
    "as-acquired": Layout.ONE,
    "1x2": Layout.PAIR,
    "1x3": Layout.TRIPLE,
    "2x2": Layout.FOUR,
    "planes": Layout.PLANES,
}
"""Layouts by their names in rules."""
_LIST_KEYS = ("show", "with", "without")
_KEYS = {*_LIST_KEYS, "kind", "views", "plane"}


@dataclass(frozen=True, slots=True)
class HangingRule:
    """Layout for matching studies."""

    show: tuple[MrSequence, ...]
    """Sequences in the order of the views; missing ones are skipped."""
    layout: Layout | None = None
    """Layout; None keeps the reader's last choice."""
    plane: Plane | None = None
    """Plane; None keeps the plane of acquisition."""
    present: frozenset[MrSequence] = frozenset()
    """Sequences that must be present."""
    absent: frozenset[MrSequence] = frozenset()
    """Sequences that must be absent."""
    kind: StudyKind | None = None

    def fits(self, study: Study) -> bool:
        """Whether the rule matches a study."""
        series = set(study.series)
        return (
            self.present <= series
            and not self.absent & series
            and self.kind in (None, study.kind)
            and any(sequence in series for sequence in self.show)
        )


def own_file() -> Path:
    """Return the path of the reader's rules."""
    return user_folders.settings() / "hanging.toml"


def rule_for(study: Study) -> HangingRule | None:
    """Return the first rule that matches a study, or None.

    Raises
    ------
    ConfigError
        A file exists and its rules cannot be read.
    """
    site_file = user_folders.site_settings() / "settings.toml"
    for file, other_tables in ((own_file(), ()), (site_file, ("reading",))):
        rules = read_rules(file, other_tables)
        matching_rule = next((rule for rule in rules if rule.fits(study)), None)
        if matching_rule is not None:
            return matching_rule
    return None


def read_rules(file: Path, other_tables: Sequence[str] = ()) -> tuple[HangingRule, ...]:
    """Return the rules of a file, which may have `other_tables` beside them; none if missing.

    Raises
    ------
    ConfigError
        The file cannot be read, or a rule is invalid.
    """
    try:
        table = read_toml(file)
    except FileNotFoundError:
        return ()
    except (OSError, ValueError) as error:
        raise _invalid_rule(file, str(error)) from error
    rows = table.get("hanging", [])
    unknown = sorted(set(table) - {"hanging", *other_tables})
    if unknown:
        raise _invalid_rule(file, f"the name {unknown[0]!r} outside of [[hanging]]")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise _invalid_rule(file, "`hanging`, which is not a list of tables")
    return tuple(_rule(file, row) for row in rows)


def _rule(file: Path, row: dict[str, Any]) -> HangingRule:
    unknown = sorted(set(row) - _KEYS)
    if unknown:
        raise _invalid_rule(file, f"the key {unknown[0]!r}")
    try:
        if invalid_key := next(
            (key for key in _LIST_KEYS if not isinstance(row.get(key, []), list)), None
        ):
            raise _invalid_rule(file, f"`{invalid_key}`, which is not a list")
        show = tuple(MrSequence(name) for name in row.get("show", ()))
        if not show:
            raise _invalid_rule(file, "a rule that shows nothing")
        return HangingRule(
            tuple(dict.fromkeys(show)),
            LAYOUTS[row["views"]] if "views" in row else None,
            Plane(row["plane"]) if "plane" in row else None,
            frozenset(MrSequence(name) for name in row.get("with", ())),
            frozenset(MrSequence(name) for name in row.get("without", ())),
            StudyKind(row["kind"]) if "kind" in row else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _invalid_rule(file, f"a rule with {error}") from error


def _invalid_rule(file: Path, found: str) -> ConfigError:
    return ConfigError(
        found=f"{file.name} with {found}",
        expected="[[hanging]] with show = [t1, t1c, t2, flair], and optionally views = "
        f"{', '.join(LAYOUTS)}, plane = {', '.join(Plane)}, with, without, kind",
        next_step="Correct the rule; until then the last chosen views are shown",
    )


def layouts_file() -> Path:
    """Return the file in which the layouts are stored."""
    return user_folders.data() / "views.json"


def remember(study: Study, layout: Layout) -> None:
    """Store the layout for studies of this kind; a failure is only logged."""
    layouts = _stored_layouts()
    if layouts.get(kind_of(study)) == layout.value:
        return
    layouts[kind_of(study)] = layout.value
    user_files.store(layouts_file(), layouts, "the layouts of the views")


def recall(study: Study) -> Layout | None:
    """Return the layout chosen last for a study of this kind, or None."""
    try:
        return Layout(_stored_layouts()[kind_of(study)])
    except (KeyError, ValueError):
        return None


def _stored_layouts() -> dict[str, str]:
    return {str(kind): str(layout) for kind, layout in read_object(layouts_file()).items()}
