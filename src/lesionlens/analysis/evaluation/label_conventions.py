"""Label conventions of reference segmentations, and translation to the contract's labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lesionlens.analysis.evaluation.cases import Case, by_case, check_rows, read_table
from lesionlens.analysis.evaluation.dataset_labels import CONVENTIONS
from lesionlens.base.errors import ConfigError, UnusableInputError
from lesionlens.base.labels import AMBIGUOUS_CAVITY, Label, Region, has_ambiguous_cavity
from lesionlens.base.text import capitalized

TABLE_NAME = "conventions.tsv"
_ROUNDING_TOLERANCE = 1e-3  # deviation of a scaled integer from a whole number
WITHOUT_ET, WITH_CAVITY = ("brats2012",), ("brats24",)
DEFAULT = "brats"
_TABLE_HINT = "Correct the table, or name one convention for all cases"


def check_name(name: str) -> str:
    """Return a convention's name without a remark in brackets, as in "msd(1=ED)".

    Raises
    ------
    ConfigError
        No convention has this name.
    """
    convention = name.partition("(")[0].strip()
    if convention not in CONVENTIONS:
        raise ConfigError(
            found=f"the label convention {convention!r}",
            expected=f"one of {', '.join(CONVENTIONS)}; or, for --convention, an existing table",
            next_step=f"Correct --convention or {TABLE_NAME}",
        )
    return convention


@dataclass(frozen=True, slots=True)
class CaseConventions:
    """The label convention of each case's reference: one name for all, or a table."""

    name: str | None = None
    """For all cases."""
    table: Mapping[str, str] = field(default_factory=dict)
    """Case to convention; a case that it lacks follows what its dataset states."""
    file: str = TABLE_NAME
    """Name of the table's file, for messages."""

    def of(self, case: Case) -> str | None:
        """Return a case's convention; None to detect it."""
        if self.name is not None:
            return self.name
        return by_case(self.table, [case.name]).get(case.name, case.convention)

    def check(self, cases: Iterable[str]) -> None:
        """Refuse a table that misspells one of the cases of these names.

        Raises
        ------
        ConfigError
            A row has no case, and a case no row.
        """
        if self.table:
            check_rows(self.file, self.table, cases)


def read_conventions(name_or_path: str | None, root: Path) -> CaseConventions:
    """Read the label conventions of a folder of cases.

    Parameters
    ----------
    name_or_path : str or None
        A name for all cases, or the path of a table; None for a `conventions.tsv` in or beside
        `root`, else for what the dataset states.

    Raises
    ------
    ConfigError
        Unknown convention, or invalid table.
    """
    if name_or_path is not None and not Path(name_or_path).is_file():
        return CaseConventions(check_name(name_or_path))
    default_paths = (root / TABLE_NAME, root.resolve().parent / TABLE_NAME)
    default = next((path for path in default_paths if path.is_file()), None)
    file = Path(name_or_path) if name_or_path else default
    if file is None:
        return CaseConventions()
    rows = read_table(file, "convention", _TABLE_HINT)
    table = {name: check_name(convention) for name, convention in rows.items()}
    return CaseConventions(table=table, file=file.name)


def regions_of(convention: str | None) -> tuple[Region, ...]:
    """Return the regions that a convention distinguishes."""
    return tuple(r for r in Region if not (r is Region.ET and convention in WITHOUT_ET))


def translate(voxels: NDArray[np.generic], convention: str | None, where: str) -> NDArray[np.uint8]:
    """Translate a segmentation to the contract's labels.

    Parameters
    ----------
    voxels : (I, J, K) array
        Whole numbers, of any type.
    convention : str or None
        None takes 1/2/3.
    where : str
        Name for messages, such as "the truth of case 7".

    Raises
    ------
    UnusableInputError
        Labels outside the convention, fractions, voxels that are not numbers, 3 and 4 where both
        would be enhancing, or 4 without a convention.
    """
    values = np.asarray(voxels, np.float32)
    rounded = np.rint(values)
    if not np.isfinite(rounded).all():
        raise UnusableInputError(
            found=f"voxels that are not numbers in {where}",
            expected="whole numbers",
            next_step="Check that it is a segmentation",
        )
    if np.abs(values - rounded).max(initial=0.0) > _ROUNDING_TOLERANCE:
        raise UnusableInputError(
            f"{capitalized(where)} holds fractions, as an image or a probability map does.",
            hint="Check that it is a segmentation, and that it was not smoothed or scaled.",
        )
    labels = sorted(int(v) for v in np.unique(rounded))
    table = CONVENTIONS[convention or DEFAULT]
    allowed = {0, 1, 2, 3, *table}
    if not set(labels) <= allowed:
        raise UnusableInputError(
            f"{capitalized(where)} has the labels {labels}, not only {sorted(allowed)}.",
            hint="Check that it is a segmentation, or name its convention with --convention.",
        )
    if {3, 4} <= set(labels) and table[4] == Label.ENHANCING:
        raise UnusableInputError(
            f"{capitalized(where)} has labels 3 and 4, which changed meaning over the years.",
            hint="Name the convention: --convention brats24 (4 is a cavity) or brats24ped.",
        )
    if convention is None and has_ambiguous_cavity(labels):
        raise UnusableInputError(
            f"{capitalized(where)} has {AMBIGUOUS_CAVITY}.",
            hint="Name it: --convention brats (4 is enhancing) or brats24 (4 is a cavity).",
        )
    lookup = np.arange(max(allowed) + 1, dtype=np.uint8)
    for label, translated in table.items():
        lookup[label] = translated
    return np.asarray(lookup[rounded.astype(np.uint8)])


def is_undivided(labels: NDArray[np.uint8], convention: str | None) -> bool:
    """Return whether a segmentation outlines lesions as a whole: 1 alone, in no named convention.

    Examples
    --------
    >>> mask = np.array([0, 1, 1], np.uint8)
    >>> is_undivided(mask, None), is_undivided(mask, "brats23"), is_undivided(mask * 2, None)
    (True, False, False)
    """
    return convention is None and np.unique(labels[labels > 0]).tolist() == [Label.CORE]


def region_mask(labels: NDArray[np.uint8], region: Region) -> NDArray[np.bool_]:
    """Return the mask of a region in the contract's labels."""
    return np.isin(labels, region.labels)
