"""A study as it was found, and as it was prepared for an engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from lesionlens.base import notebook
from lesionlens.base.file_fields import STRICT
from lesionlens.base.geometry import Affine, Box, bounding_box
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Label, MrSequence, Region, SequenceKey
from lesionlens.base.records.arrays import frozen
from lesionlens.base.records.patient import Patient


class StudyKind(StrEnum):
    """What the files of a study are."""

    NIFTI = "nifti"
    DICOM = "dicom"


class Witness(StrEnum):
    """Which kind of evidence identified the sequence of a series."""

    USER = "user"
    TEXT = "text"
    """Names, headers, sidecars, the layout of a data set."""
    IMAGE = "image"
    NOTHING = "nothing"


class StepName(StrEnum):
    """The steps of preparation that are recorded; the value is the name in files."""

    REGISTER = "register"
    BRAIN = "find the brain"
    BIAS = "correct bias"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One input file: its path relative to the study (for display) and how to find it again."""

    path: Path
    """Where it lies on this machine; never shown or stored."""
    name: str
    """Path below the study, with forward slashes; what reports show."""
    sop_instance_uid: str | None = None
    sop_class_uid: str | None = None
    """DICOM only."""


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One acquired volume."""

    sequence: MrSequence | None
    """None if it is not one of the four (set aside, listed for the user)."""
    detected_by: str
    """On what evidence, in words: "file name", "--t1c", "SeriesDescription 'T1 POST'"."""
    confidence: float
    """0 to 1; 1 if the user named it."""
    grid: Grid
    """Native voxel grid."""
    files: tuple[SourceFile, ...]
    """In slice order along k where there is one file a slice (DICOM); else the one file."""
    load: Callable[[], NDArray[np.float32]] = field(repr=False)
    """Reads the voxels: (I, J, K) float32 in scanner units, C order of the grid's axes. May take
    seconds; raises ReadError."""
    description: str = ""
    """SeriesDescription or file name, as found (hostile text: escape it)."""
    uid: str | None = None
    """Series Instance UID."""
    frames: tuple[int, ...] = ()
    """For a multi-frame DICOM file, the frame (from 1) of each slice along k; else empty."""
    even: bool = True
    """False if slices were missing or uneven and the volume is interpolated along k."""
    witness: Witness = Witness.TEXT
    """Of what kind the evidence is."""
    nifti_codes: tuple[int, int] = (1, 1)
    """Of sform and qform, which say what the millimetres are of: the source's, or 1 (scanner)."""


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """One examination of one patient."""

    name: str
    """The folder's or file's own name, for display."""
    kind: StudyKind
    """NIfTI or DICOM."""
    series: Mapping[MrSequence, Series]
    """At most one a sequence, in the order of MrSequence."""
    root: Path
    """The folder or file opened."""
    set_aside: tuple[Series, ...] = ()
    """What was found and not used (other contrasts, localisers, a second T1, …)."""
    uid: str | None = None
    """Study Instance UID."""
    patient: Patient = field(default_factory=Patient)
    """What the files say of the patient; compared, never written by itself."""
    notices: tuple[str, ...] = ()
    """What a reader must know about how it was read."""

    def __getitem__(self, sequence: MrSequence | SequenceKey) -> Series:
        """Return the series of a sequence; KeyError if the study has none."""
        return self.series[MrSequence(sequence)]

    @override
    def __repr__(self) -> str:
        sequences = ", ".join(sequence.words for sequence in self.series)
        return f"<Study {self.name!r}: {sequences} ({self.kind.value})>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the middle slice of each sequence (reads the voxels)."""
        shown = []
        for sequence, series in self.series.items():
            size = " × ".join(str(edge) for edge in series.grid.shape)
            spacing = " × ".join(f"{edge:.3g}" for edge in series.grid.spacing_mm)
            pixels, ratio = notebook.axial_picture(series.load(), series.grid)
            shown.append((f"{sequence.words}: {size} voxels of {spacing} mm", pixels, ratio))
        facts = {"study": self.name, "kind": self.kind.value, "notices": "; ".join(self.notices)}
        known = {name: value for name, value in facts.items() if value}
        return notebook.table(known) + notebook.pictures(shown)


@dataclass(frozen=True, slots=True)
class QualityCheck:
    """One check of the input that a reader sees."""

    __pydantic_config__: ClassVar = STRICT

    check: str
    """Short name: "coverage", "motion", "contrast", "registration", "spacing", "missing", …"""
    passed: bool
    """False makes it a warning."""
    message: str
    """One sentence in words, with the figure."""


@dataclass(frozen=True, slots=True)
class PreparationStep:
    """One step of preparation: what was done to what, and its quality figure."""

    __pydantic_config__: ClassVar = STRICT

    step: StepName
    sequence: MrSequence | None
    done: bool
    message: str
    figure: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class PreparedStudy:
    """The sequences together on one grid, ready for an engine."""

    channels: NDArray[np.float32]
    """(4, I, J, K) float32: in the order of MrSequence (t1, t1c, t2, flair), scanner units, zero
    where absent and outside the field of view; bias fields are divided out where that was
    requested. Not normalised: that is the engine's."""
    present: NDArray[np.bool_]
    """(4,) bool: which sequences are there."""
    brain: NDArray[np.bool_]
    """(I, J, K) bool: brain mask."""
    working: Grid
    """Axis-aligned RAS+, 1 mm cubes."""
    native: Grid
    """The reference sequence's own grid, on which results lie."""
    to_native: Affine
    """(4, 4) float64: working index to native index."""
    reference: MrSequence
    """Whose grid `native` is."""
    steps: tuple[PreparationStep, ...] = ()
    quality: tuple[QualityCheck, ...] = ()
    """What was done, what was checked."""
    notices: tuple[str, ...] = ()
    scans: Mapping[MrSequence, str] = field(default_factory=dict)
    """By which each sequence is known again, whatever its file is called (`scan_digest`); empty
    where the study did not come from files."""
    brain_box: Box | None = field(init=False, repr=False)
    """(3,) slices or None: the smallest box of `working` that holds the brain, found once; None
    without a brain."""

    @property
    def has_t1c(self) -> bool:
        """Whether the one sequence that shows enhancement is there."""
        return bool(self.present[list(MrSequence).index(MrSequence.T1C)])

    @property
    def regions(self) -> tuple[Region, ...]:
        """The regions that its sequences can show."""
        return tuple(r for r in Region if r is not Region.ET or self.has_t1c)

    @property
    def labels(self) -> tuple[Label, ...]:
        """The labels that its sequences can show, without that of the background."""
        every = sorted(Region.WT.labels)
        return tuple(n for n in every if n is not Label.ENHANCING or self.has_t1c)

    @property
    def knows_brain(self) -> bool:
        """Whether `brain` is a brain's mask; False if the whole head stands for it."""
        return not any(s.step is StepName.BRAIN and s.sequence is None for s in self.steps)

    def __post_init__(self) -> None:
        for name in ("channels", "present", "brain", "to_native"):
            object.__setattr__(self, name, frozen(getattr(self, name)))
        object.__setattr__(self, "brain_box", bounding_box(self.brain))
