"""The closed sets of the product: sequences, regions, labels, states and acts of a review, files.

Each label has exactly one row that gives name, colour and code to JSON, SEG, SR and the viewer
alike; `base.codes` holds the coded concepts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import IntEnum, StrEnum
from typing import Literal, TypeVar

from typing_extensions import override


class MrSequence(StrEnum):
    """MR sequences in the network's channel order; the value is the key in files."""

    T1 = "t1"
    """Native T1-weighted."""
    T1C = "t1c"
    """T1-weighted after contrast agent."""
    T2 = "t2"
    """T2-weighted."""
    FLAIR = "flair"
    """T2-weighted with fluid attenuated."""

    @property
    def words(self) -> str:
        """The name as a radiologist writes it."""
        return {"t1": "T1", "t1c": "T1c", "t2": "T2", "flair": "FLAIR"}[self.value]


SequenceKey = Literal["t1", "t1c", "t2", "flair"]
"""A sequence as code may name it too."""


def how_to_name(sequence: MrSequence = MrSequence.FLAIR) -> str:
    """Return how a user names a sequence, on the command line and in the panel.

    Examples
    --------
    >>> how_to_name(MrSequence.T1C)
    'name it with --t1c FILE or in the sequence list of the panel'
    """
    return f"name it with --{sequence.value} FILE or in the sequence list of the panel"


NAME_IN_WINDOW = "name it under “change…”"
"""How a reader names a sequence in the panel."""
REFERENCE_ORDER = (MrSequence.T1C, MrSequence.FLAIR, MrSequence.T2, MrSequence.T1)
"""The first one present is the reference, on whose native grid results lie."""


class Region(StrEnum):
    """Nested tumour regions, largest first; the value is the key in files."""

    WT = "wt"
    """Whole tumour: core and oedema or infiltration."""
    TC = "tc"
    """Tumour core: necrotic, non-enhancing and enhancing parts."""
    ET = "et"
    """Enhancing tumour."""

    @property
    def words(self) -> str:
        """The name in words."""
        return {"wt": "whole tumour", "tc": "tumour core", "et": "enhancing tumour"}[self.value]

    @property
    def labels(self) -> tuple[Label, ...]:
        """The voxel labels that make up the region (BraTS 2023 order)."""
        return {
            "wt": (Label.CORE, Label.OEDEMA, Label.ENHANCING),
            "tc": (Label.CORE, Label.ENHANCING),
            "et": (Label.ENHANCING,),
        }[self.value]

    @property
    def colour(self) -> str:
        """The colour of the label that the region has before the next smaller one, as #rrggbb."""
        return {
            "wt": Label.OEDEMA.colour,
            "tc": Label.CORE.colour,
            "et": Label.ENHANCING.colour,
        }[self.value]


RegionKey = Literal["wt", "tc", "et"]
"""A region as code may name it too."""


class Label(IntEnum):
    """Voxel labels of `segmentation.nii.gz` (BraTS 2023 order)."""

    BACKGROUND = 0
    CORE = 1
    """Necrotic or non-enhancing core."""
    OEDEMA = 2
    """Oedema or infiltration."""
    ENHANCING = 3

    @property
    def words(self) -> str:
        """The name in words."""
        return ("background", "non-enhancing core", "oedema or infiltration", "enhancing")[self]

    @property
    def colour(self) -> str:
        """Colour-blind safe (Okabe and Ito), as #rrggbb."""
        return ("#000000", "#0072B2", "#009E73", "#E69F00")[self]


Value = TypeVar("Value")


class ByRegion(Mapping[Region, Value]):
    """What is known of each region; the keys "wt", "tc" and "et" work too, also for a type checker.

    Examples
    --------
    >>> ByRegion({Region.TC: 3.0})["tc"]
    3.0
    """

    def __init__(self, known: Mapping[Region, Value]) -> None:
        self._known = known

    @override
    def __getitem__(self, region: Region | RegionKey) -> Value:
        return self._known[Region(region)]

    @override
    def __iter__(self) -> Iterator[Region]:
        return iter(self._known)

    @override
    def __len__(self) -> int:
        return len(self._known)


def without_enhancing(by_region: Mapping[Region, Value]) -> dict[Region, Value]:
    """Return what is known of each region but the enhancing tumour.

    Examples
    --------
    >>> without_enhancing({Region.TC: 3.0, Region.ET: 1.0})
    {<Region.TC: 'tc'>: 3.0}
    """
    return {region: value for region, value in by_region.items() if region is not Region.ET}


class LesionClass(StrEnum):
    """What a flagged place may look like; the value is the key in files."""

    TUMOUR = "tumour_like"
    WHITE_MATTER = "white_matter_lesion"
    """Hyperintensities of white matter, demyelination."""
    ENHANCEMENT = "normal_enhancement"
    """Vessels, choroid plexus, dura."""

    @property
    def words(self) -> str:
        """The name in words."""
        return {
            "tumour_like": "tumour",
            "white_matter_lesion": "white-matter lesion",
            "normal_enhancement": "vessel or dura",
        }[self.value]


class ReviewState(StrEnum):
    """What a reader decided about a candidate."""

    UNREVIEWED = "unreviewed"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    DEFERRED = "deferred"
    EDITED = "edited"

    @property
    def decided(self) -> bool:
        """Whether the reader is done with it: a candidate that is put off is not."""
        return self in (ReviewState.ACCEPTED, ReviewState.REJECTED, ReviewState.EDITED)


class Source(StrEnum):
    """Who flagged a candidate; the value is the key in files."""

    NETWORK = "network"
    READER = "reader"
    """Added in the review."""


class RelevanceMeasure(StrEnum):
    """What sequence relevance is shared out of; the value is the key in files."""

    OVERLAP = "overlap"
    """Dice of what a subset of the sequences would itself draw with what all of them draw."""


class PromptKind(StrEnum):
    """How a reader points at something; the value stands in files."""

    POINT = "point"
    SCRIBBLE = "scribble"
    BOX = "box"
    LASSO = "lasso"


class DrawingMethod(StrEnum):
    """How a reader's own candidate was drawn, in the words of DICOM's Segment Algorithm Type."""

    MANUAL = "manual"
    """By hand."""
    SEMIAUTOMATIC = "semiautomatic"
    """By the program, from where the reader pointed."""


RESEARCH_USE_NOTICE = "Research use only. Flags regions; does not exclude disease."
"""Stands wherever results are shown."""


class Phase(StrEnum):
    """Before or after the reader saw what the network flagged."""

    UNAIDED = "unaided"
    AIDED = "aided"


class ReviewAct(StrEnum):
    """What a reader did; an undo or redo is an act of its own and stays on the record.

    The first five make a review; the others are in the log of a read alone.
    """

    MARK = "mark"
    """What a candidate or the whole study is."""
    UNDO = "undo"
    REDO = "redo"
    WITHDRAW = "withdraw"
    """A signature is taken back, for a reason; undo never does that."""
    WITHDRAW_RESPONSE = "withdraw response"
    """A signed response to treatment is taken back, for a reason."""
    BEGIN = "begin"
    LEAVE = "leave"
    PLACE = "place"
    """A place is marked by hand."""
    TAKE_BACK = "take back"
    """Of a marked place."""
    RESPONSE = "response"
    """A response to treatment is signed."""
    TAKE_OVER = "take over"
    """The review starts again with the decisions that follow, made elsewhere."""


class QuestionKind(StrEnum):
    """What a client asks a server of a study; the value is the key in messages."""

    PREDICT = "predict"
    PERTURBED = "perturbed"
    FIRST_LOOK = "first look"
    GRID = "grid"
    ATTRIBUTE = "attribute"
    PROBE = "probe"
    LAYER = "layer"

    @property
    def needs_trace(self) -> bool:
        """Whether it is answered from what the last prediction attended to."""
        return self in {QuestionKind.PROBE, QuestionKind.LAYER}


class MapExtent(StrEnum):
    """How much of the head an attention map in DICOM holds."""

    CUT = "cut"
    """The box in which something can be seen: small."""
    FULL = "full"
    """Every image of the series at its own size: OHIF shows no other."""


class Extra(StrEnum):
    """Files that are written on request alone."""

    CONTOURS = "contours"
    """RT Structure Set, for planning systems."""
    KEY_SLICES = "key-slices"
    """Pictures as Secondary Capture, for viewers that show no Segmentation."""


class Identity(StrEnum):
    """What identifies the patient in a report."""

    PATIENT = "patient"
    """Name, identifier, sex and birth of the patient, and the study's name and UID."""
    DATE = "date"
    """When the study was acquired and when it was analysed."""
    SERIES = "series"
    """Files and descriptions of the series."""


class ComputePrecision(StrEnum):
    """In which numbers a network computes."""

    AUTO = "auto"
    """float32 on a CPU, bfloat16 on an accelerator that multiplies it in hardware."""
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
