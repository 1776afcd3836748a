"""Mutable state of a study during preparation; each stage adds to it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.geometry import Affine, Floats, Mask
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.study import PreparationStep, Series, StepName, Study
from lesionlens.base.run_context import RunContext
from lesionlens.imaging.preparation.registration import Registration
from lesionlens.imaging.preparation.resampling import permuted_voxels


@dataclass(frozen=True, slots=True)
class PrepareOptions:
    """Options of preparation; each step can be skipped."""

    edge_mm: float = 1.0
    """Voxel edge of the working grid."""
    register: bool = True
    """Co-register the sequences, unless they are registered already."""
    strip: bool = True
    """Extract the brain with a network if the skull is present. Otherwise the whole head counts as
    brain: sides and lobes are unknown, and the checks of the images are unreliable."""
    brain_mask: str | Path | None = None
    """A NIfTI file of the brain as any tool outlined it, in the millimetres of the reference; used
    in place of the built-in method."""
    checks: bool = True
    """Check the quality of the images."""
    sides: bool = True
    """Check whether a sequence is mirrored relative to the others."""
    threads: int = 2
    """Files read, and sequences registered, concurrently."""

    def __post_init__(self) -> None:
        """Refuse voxels of no size."""
        if not 0.1 <= self.edge_mm <= 100.0:
            raise UnusableInputError(
                found=f"voxels of {self.edge_mm:g} mm for the working grid",
                expected="0.1 to 100 mm",
                next_step="Omit `edge_mm` for 1 mm, on which the networks were trained",
            )


@dataclass(slots=True)
class Loaded:
    """Voxels of one loaded sequence, in its own frame."""

    series: Series
    values: Floats
    stripped: bool = False
    reference_to_sequence: Affine | None = None
    scan_digest: str = ""
    """Digest that identifies the scan; see `scan_digest`."""
    intensity_digest: str = ""
    """Digest that its reoriented copies share; see `intensity_digest`."""

    def values_as_in(self, other: Loaded) -> Floats | None:
        """Return the voxels in the storage order of another sequence, a view.

        None unless both have the same voxels, in any order, to a hundredth of a millimetre.
        """
        order = self.series.grid.storage_order(other.series.grid, 1e-2)
        if order is None:
            return None
        axes, mirrored = order
        return np.flip(self.values.transpose(axes), mirrored)

    def values_placed_in(self, other: Loaded) -> Floats | None:
        """Return the voxels on the grid of another sequence, and zero where this one has none.

        None unless the voxels of both lie on one lattice, to a hundredth of a millimetre, and those
        beyond the other grid are zero.
        """
        index_map = self.series.grid.index_map(other.series.grid, 1e-2)
        if index_map is None:
            return None
        placed = permuted_voxels(self.values, index_map, other.series.grid.shape)
        is_whole = np.count_nonzero(placed) == np.count_nonzero(self.values)
        return placed if is_whole else None

    def moved_grid(self) -> Grid:
        """Return the grid after registration, in the reference's frame."""
        grid = self.series.grid
        if self.reference_to_sequence is None:
            return grid
        return Grid(
            grid.shape,
            np.asarray(np.linalg.inv(self.reference_to_sequence) @ grid.affine),
            grid.frame_uid,
        )


@dataclass(slots=True, eq=False)
class Draft:
    """A study in preparation; arrays are empty until their stage has run."""

    study: Study
    reference: MrSequence
    options: PrepareOptions
    executor: ThreadPoolExecutor
    """Runs what a stage needs later, concurrently."""
    steps: list[PreparationStep] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    loaded: dict[MrSequence, Loaded] = field(default_factory=dict)
    registered: dict[MrSequence, Registration] = field(default_factory=dict)
    mask: Volume = field(init=False)
    """Bool: brain mask, as it was found."""
    working: Grid = field(init=False)
    channels: Floats = field(default_factory=lambda: np.zeros((4, 0, 0, 0), "f4"))
    """(4, I, J, K) float32: the sequences on `working`, in the order of MrSequence."""
    brain: Mask = field(default_factory=lambda: np.zeros((0, 0, 0), bool))
    """(I, J, K) bool: brain mask on `working`."""

    def __post_init__(self) -> None:
        self.working = self.native

    def add_step(
        self,
        step: StepName,
        sequence: MrSequence | None,
        message: str,
        *,
        done: bool = True,
        figure: float | None = None,
    ) -> None:
        """Record a step; see `PreparationStep`."""
        self.steps.append(PreparationStep(step, sequence, done, message, figure))

    @property
    def native(self) -> Grid:
        """Grid of the results."""
        return self.study.series[self.reference].grid

    @property
    def images(self) -> dict[MrSequence, Floats]:
        """The (I, J, K) channel of each available sequence."""
        return {s: c for s, c in zip(MrSequence, self.channels, strict=True) if s in self.loaded}


Stage = Callable[[Draft, RunContext], None]
"""One step of the preparation; modifies the draft."""
