"""Records of a study as read and as prepared for an engine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import override

from lesionlens.base import notebook
from lesionlens.base.arguments import member_of
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.geometry import Affine, Box, Floats, bounding_box
from lesionlens.base.grid import Grid
from lesionlens.base.labels import TUMOUR_LABELS, Label, MrSequence, Region, SequenceKey
from lesionlens.base.model import STRICT
from lesionlens.base.records.arrays import frozen
from lesionlens.base.records.patient import Patient, PatientField

Images = Mapping[MrSequence, Floats]
"""By sequence: intensities in any unit, (I, J, K) float32, all on one grid."""


class StudyKind(StrEnum):
    """The file format of a study."""

    NIFTI = "nifti"
    DICOM = "dicom"


class StepName(StrEnum):
    """Recorded steps of preparation; the value is the name in files."""

    REGISTER = "register"
    BRAIN = "find the brain"
    BIAS = "correct bias"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One input file: its path, and its name relative to the study for display."""

    path: Path
    """Absolute path on this machine; never shown or stored."""
    name: str
    """Path below the study, with forward slashes; what reports show."""
    sop_instance_uid: str | None = None
    sop_class_uid: str | None = None
    """DICOM only."""
    patient: Patient | None = None
    study_uid: str | None = None
    """DICOM only: patient and Study Instance UID in the header when the study was opened."""

    def other_patient(self, value: Callable[[str], Any]) -> tuple[PatientField, ...]:
        """Return in which attributes the header, as read now, contradicts the patient."""
        return () if self.patient is None else self.patient.compared(Patient.of(value)).conflicts


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One acquired volume."""

    sequence: MrSequence | None
    """None if it is not one of the four sequences (such a series is listed, not analysed)."""
    detected_by: str
    """The evidence in words: "file name", "--t1c", "SeriesDescription 'T1 POST'"."""
    confidence: float
    """0 to 1; 1 if the user named it."""
    grid: Grid
    """Native voxel grid."""
    files: tuple[SourceFile, ...]
    """DICOM: the file of each slice along k, so that a multi-frame file occurs once for each frame.
    NIfTI: the one file."""
    load: Callable[[], NDArray[np.float32]] = field(repr=False)
    """Reads the voxels: (I, J, K) float32 in scanner units, C order of the grid's axes. May take
    seconds; raises ReadError."""
    description: str = ""
    """SeriesDescription or file name, as found (hostile text: escape it)."""
    uid: str | None = None
    """Series Instance UID."""
    frames: tuple[int, ...] = ()
    """For a multi-frame DICOM file, the frame (from 1) of each slice along k; else empty."""
    nifti_codes: tuple[int, int] = (1, 1)
    """sform and qform code: the source's, or 1 (scanner)."""


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """One examination of one patient."""

    name: str
    """The folder's or file's own name, for display."""
    kind: StudyKind
    """NIfTI or DICOM."""
    series: Mapping[MrSequence, Series]
    """At most one per sequence, in the order of MrSequence."""
    root: Path
    """The opened folder or file, as an absolute path."""
    set_aside: tuple[Series, ...] = ()
    """Series that are not analysed (other contrasts, localisers, a second T1, …)."""
    uid: str | None = None
    """Study Instance UID."""
    patient: Patient = field(default_factory=Patient)
    """Patient attributes from the files; compared, never written to results."""
    notices: tuple[str, ...] = ()
    """Notices about how it was read, for the reader."""
    selected: str | None = None
    """Name of a NIfTI study that was selected of several in `root`, such as sub-01/ses-2."""
    has_report: bool = False
    """Whether a LesionLens report on it is among its files."""

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[MrSequence | SequenceKey, tuple[ArrayLike, ArrayLike]],
        name: str = "study",
    ) -> Study:
        """Make a study of arrays in memory; they are copied.

        Parameters
        ----------
        arrays : mapping of MrSequence to (voxels, affine)
            (I, J, K) real numbers, in scanner units and with or without skull, and the (4, 4) map
            of their voxel index to the patient's RAS+, mm.
        name : str
            For display.

        Raises
        ------
        UnusableInputError, GeometryError
            Other keys or shapes, numbers that are not real, or an impossible affine.
        """
        given = {member_of(MrSequence, key, "a sequence"): pair for key, pair in arrays.items()}
        series: dict[MrSequence, Series] = {}
        for sequence in (s for s in MrSequence if s in given):
            voxels, affine = given[sequence]
            values = np.asarray(voxels)
            if values.ndim != 3 or values.dtype.kind not in "buif":
                raise UnusableInputError(
                    f"The voxels of {sequence.display_name} are {values.dtype} of {values.shape}.",
                    hint="Pass an array of real numbers with three axes.",
                )
            i, j, k = values.shape
            stored = values.astype(np.float32)
            evidence = f"{sequence.value}, named by the user"
            series[sequence] = Series(
                sequence, evidence, 1.0, Grid((i, j, k), np.asarray(affine, np.float64)), (),
                stored.copy, sequence.value,
            )  # fmt: skip
        return cls(name, StudyKind.NIFTI, series, Path(os.devnull))

    @property
    def all_series(self) -> tuple[Series, ...]:
        """The analysed series, then those set aside."""
        return (*self.series.values(), *self.set_aside)

    @property
    def selection(self) -> str | None:
        """What `open_study` takes as `study_uid` to open this study of several in `root`."""
        return self.uid or self.selected

    @property
    def header_file(self) -> SourceFile | None:
        """The file whose header states patient, date and scanner; None without files.

        In a DICOM study it is none that the user named from another study, or a NIfTI file.
        """
        files = [file for series in self.all_series for file in series.files]
        dicom = [file for file in files if file.sop_instance_uid]
        own = (file for file in dicom if file.study_uid == self.uid)
        return next(own, next(iter((*dicom, *files)), None))

    def __getitem__(self, sequence: MrSequence | SequenceKey) -> Series:
        """Return the series of a sequence; KeyError if the study has none."""
        if sequence not in tuple(MrSequence):
            raise KeyError(f"{sequence!r} is not a sequence; there are {', '.join(MrSequence)}")
        return self.series[MrSequence(sequence)]

    def __contains__(self, sequence: object) -> bool:
        """Return whether the study has a series of this sequence."""
        return sequence in self.series

    def __iter__(self) -> Iterator[MrSequence]:
        """Return the sequences of the study."""
        return iter(self.series)

    @override
    def __repr__(self) -> str:
        sequences = ", ".join(sequence.display_name for sequence in self.series)
        return f"<Study {self.name!r}: {sequences} ({self.kind.value})>"

    def _repr_html_(self) -> str:
        """Return the notebook representation: central slices, read from disk."""
        pictures = []
        for sequence, series in self.series.items():
            size = " × ".join(str(edge) for edge in series.grid.shape)
            spacing = " × ".join(f"{edge:.3g}" for edge in series.grid.spacing_mm)
            pixels, ratio = notebook.axial_picture(series.load(), series.grid)
            pictures.append(
                (f"{sequence.display_name}: {size} voxels of {spacing} mm", pixels, ratio)
            )
        facts = {"study": self.name, "kind": self.kind.value, "notices": "; ".join(self.notices)}
        rows = {name: value for name, value in facts.items() if value}
        return notebook.table(rows) + notebook.pictures(pictures)


@dataclass(frozen=True, slots=True)
class QualityCheck:
    """One check of the input images, shown to the reader."""

    __pydantic_config__: ClassVar = STRICT

    check: str
    """Short name: "coverage", "motion", "contrast", "registration", "spacing", "missing", …"""
    passed: bool
    """False shows it as a warning."""
    message: str
    """One sentence with the measured value."""
    undecided: bool = False
    """Whether the images are inconclusive: no warning (`passed`), and nothing is confirmed."""

    @property
    def outcome(self) -> bool | None:
        """`passed`, or None if undecided."""
        return None if self.undecided else self.passed


def passed_check(check: str, message: str) -> QualityCheck:
    """Return a check that found nothing wrong."""
    return QualityCheck(check, passed=True, message=message)


def undecided_check(check: str, message: str) -> QualityCheck:
    """Return a check that found no answer."""
    return QualityCheck(check, passed=True, message=message, undecided=True)


def failed_check(check: str, message: str) -> QualityCheck:
    """Return a check that is shown as a warning."""
    return QualityCheck(check, passed=False, message=message)


@dataclass(frozen=True, slots=True)
class PreparationStep:
    """One step of preparation with its quality value."""

    __pydantic_config__: ClassVar = STRICT

    step: StepName
    sequence: MrSequence | None
    done: bool
    message: str
    figure: float | None = None


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class PreparedStudy:
    """The sequences on one grid, ready for an engine."""

    channels: NDArray[np.float32]
    """(4, I, J, K) float32: in the order of MrSequence (t1, t1c, t2, flair), scanner units, zero
    where absent and outside the field of view; strong shading is divided out. Not
    normalised: each engine normalises its input itself."""
    present: NDArray[np.bool_]
    """(4,) bool: which sequences are available."""
    brain: NDArray[np.bool_]
    """(I, J, K) bool: brain mask."""
    working: Grid
    """Axis-aligned RAS+, 1 mm cubes."""
    native: Grid
    """The reference sequence's own grid, which the results use."""
    to_native: Affine
    """(4, 4) float64: working index to native index."""
    reference: MrSequence
    """The sequence whose grid is `native`."""
    steps: tuple[PreparationStep, ...] = ()
    quality: tuple[QualityCheck, ...] = ()
    """Steps done, and checks of the input."""
    notices: tuple[str, ...] = ()
    scans: Mapping[MrSequence, str] = field(default_factory=dict)
    """Digest by which each sequence is recognised whatever its file is called (`scan_digest`);
    empty if the study was not read from files.
    """
    intensities: Mapping[MrSequence, str] = field(default_factory=dict)
    """Digest that reoriented copies of each sequence share too (`intensity_digest`)."""
    brain_box: Box | None = field(init=False, repr=False)
    """(3,) slices or None: the bounding box of the brain in `working`, computed once; None without
    a brain.
    """

    @property
    def images(self) -> Images:
        """The (I, J, K) channel of each available sequence, in the order of MrSequence."""
        channels = zip(MrSequence, self.channels, self.present, strict=True)
        return {sequence: image for sequence, image, present in channels if present}

    @property
    def sequences(self) -> tuple[MrSequence, ...]:
        """The available sequences, in the order of MrSequence."""
        return tuple(s for s, present in zip(MrSequence, self.present, strict=True) if present)

    @property
    def has_t1c(self) -> bool:
        """Whether T1c, the sequence that shows enhancement, is available."""
        return MrSequence.T1C in self.sequences

    @property
    def regions(self) -> tuple[Region, ...]:
        """The regions that the available sequences can show."""
        return tuple(r for r in Region if r is not Region.ET or self.has_t1c)

    @property
    def labels(self) -> tuple[Label, ...]:
        """The labels that the available sequences can show, without the background."""
        return tuple(n for n in TUMOUR_LABELS if n is not Label.ENHANCING or self.has_t1c)

    @property
    def knows_brain(self) -> bool:
        """Whether `brain` is a brain mask; False if it covers the whole head."""
        return not any(s.step is StepName.BRAIN and s.sequence is None for s in self.steps)

    def __post_init__(self) -> None:
        for name in ("channels", "present", "brain", "to_native"):
            object.__setattr__(self, name, frozen(getattr(self, name)))
        object.__setattr__(self, "brain_box", bounding_box(self.brain))
