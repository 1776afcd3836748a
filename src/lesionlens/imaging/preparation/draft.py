"""A study while it is prepared: each stage reads what the stages before it put here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.geometry import Affine
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import PreparationStep, Series, Study
from lesionlens.base.run_context import RunContext
from lesionlens.imaging.preparation import cache, skull_stripping
from lesionlens.imaging.preparation.registration import Registration


@dataclass(frozen=True, slots=True)
class PrepareOptions:
    """How to prepare; each step can be left out."""

    edge_mm: float = 1.0
    """Edge of the working grid's cubes."""
    register: bool = True
    """Co-register the sequences, but for those that were brought together before."""
    strip: bool = True
    """Find the brain where the skull is still there, with a network. Otherwise the brain that was
    found in these voxels before is taken, or the whole head counts: for a review of what is there
    already."""
    stripper: str = skull_stripping.AUTO
    """"own", a program that the user has (a name in `skull_stripping.PROGRAMS`), or "auto": the own
    method, and an installed program where its mask is doubtful."""
    bias: bool = False
    """Take the coils' shading out of each sequence (N4). Off: our network was trained to read
    through it, and it costs more time than the rest of the preparation."""
    sides: bool = True
    """Check whether one sequence is mirrored against the others."""
    threads: int = 2
    """Files read, and sequences registered, at a time."""
    cache: bool = True
    """Use and keep movements and brain masks in the user's cache folder."""


@dataclass(slots=True)
class Loaded:
    """Voxels of one sequence, in its own frame."""

    series: Series
    values: NDArray[np.float32]
    stripped: bool = False
    moved: Affine | None = None
    scan: str = ""
    """By which the sequence is known again; see `scan_digest`."""
    _digest: str = ""

    def digest(self) -> str:
        """Return the hash of the voxels, computed once."""
        if not self._digest:
            self._digest = cache.digest_of(self.values)
        return self._digest

    def on_grid_of(self, other: Loaded) -> bool:
        """Whether both were scanned on one grid, to a hundredth of a millimetre."""
        return self.series.grid.matches(other.series.grid, 1e-2)

    def moved_grid(self) -> Grid:
        """Return the grid as it lies in the reference's frame."""
        grid = self.series.grid
        if self.moved is None:
            return grid
        return Grid(grid.shape, np.asarray(np.linalg.inv(self.moved) @ grid.affine), grid.frame_uid)


@dataclass(slots=True, eq=False)
class Draft:
    """What is known of a study so far; arrays are empty until the stage that makes them."""

    study: Study
    reference: MrSequence
    options: PrepareOptions
    steps: list[PreparationStep] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    loaded: dict[MrSequence, Loaded] = field(default_factory=dict)
    registered: dict[MrSequence, Registration] = field(default_factory=dict)
    mask: NDArray[np.bool_] = field(default_factory=lambda: np.zeros((0, 0, 0), bool))
    """(I, J, K) bool: the brain, on `mask_grid`."""
    mask_grid: Grid = field(init=False)
    working: Grid = field(init=False)
    channels: NDArray[np.float32] = field(default_factory=lambda: np.zeros((4, 0, 0, 0), "f4"))
    """(4, I, J, K) float32: the sequences on `working`, in the order of MrSequence."""
    brain: NDArray[np.bool_] = field(default_factory=lambda: np.zeros((0, 0, 0), bool))
    """(I, J, K) bool: the brain, on `working`."""

    def __post_init__(self) -> None:
        self.mask_grid = self.working = self.native

    @property
    def native(self) -> Grid:
        """The grid on which results lie."""
        return self.study.series[self.reference].grid

    @property
    def present(self) -> dict[MrSequence, NDArray[np.float32]]:
        """The (I, J, K) channel of each sequence that is there."""
        return {s: c for s, c in zip(MrSequence, self.channels, strict=True) if s in self.loaded}


Stage = Callable[[Draft, RunContext], None]
"""One step of the preparation: adds to the draft."""
