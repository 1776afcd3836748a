"""Enumerations of the product: sequences, regions, labels, review states and acts, file choices.

Name and colour of each label are defined once, here, for JSON, SEG, SR and the viewer; `base.codes`
defines the coded concepts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from enum import IntEnum, StrEnum
from typing import Literal, TypeVar

from typing_extensions import override


class MrSequence(StrEnum):
    """MR sequences in the network's channel order; the value is the key in files."""

    T1 = "t1"
    """Native T1-weighted."""
    T1C = "t1c"
    """T1-weighted after a contrast agent."""
    T2 = "t2"
    """T2-weighted."""
    FLAIR = "flair"
    """T2-weighted with fluid suppression."""

    @property
    def display_name(self) -> str:
        """The name as a radiologist writes it."""
        return {"t1": "T1", "t1c": "T1c", "t2": "T2", "flair": "FLAIR"}[self.value]


SequenceKey = Literal["t1", "t1c", "t2", "flair"]
"""A sequence by its key, as code may also write it."""


def naming_advice(sequence: MrSequence = MrSequence.FLAIR) -> str:
    """Return the advice how to name a sequence, on the command line and in the panel.

    Examples
    --------
    >>> naming_advice(MrSequence.T1C)
    'name it with --t1c FILE or in the sequence list of the panel'
    """
    return f"name it with --{sequence.value} FILE or in the sequence list of the panel"


NAME_IN_WINDOW = "name it under “change…”"
"""Advice how to name a sequence in the panel."""
REFERENCE_ORDER = (MrSequence.T1C, MrSequence.FLAIR, MrSequence.T2, MrSequence.T1)
"""Order of preference for the reference sequence, whose native grid the results use."""


class Region(StrEnum):
    """Nested tumour regions, largest first; the value is the key in files."""

    WT = "wt"
    """Whole tumour: core and oedema or infiltration."""
    TC = "tc"
    """Tumour core: necrotic, non-enhancing and enhancing parts."""
    ET = "et"
    """Enhancing tumour."""

    @property
    def display_name(self) -> str:
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
        """The colour of the outermost label of the region, as #rrggbb."""
        return {
            "wt": Label.OEDEMA.colour,
            "tc": Label.CORE.colour,
            "et": Label.ENHANCING.colour,
        }[self.value]


RegionKey = Literal["wt", "tc", "et"]
"""A region by its key, as code may also write it."""


class Label(IntEnum):
    """Voxel labels of `segmentation.nii.gz` (order of BraTS 2023 and 2024)."""

    BACKGROUND = 0
    CORE = 1
    """Necrotic or non-enhancing core."""
    OEDEMA = 2
    """Oedema or infiltration."""
    ENHANCING = 3
    CAVITY = 4
    """Resection cavity: no part of the tumour (BraTS 2024)."""

    @property
    def display_name(self) -> str:
        """The name in words."""
        return (
            "background",
            "non-enhancing core",
            "oedema or infiltration",
            "enhancing",
            "resection cavity",
        )[self]

    @property
    def colour(self) -> str:
        """Colour from the colour-blind safe palette of Okabe and Ito, as #rrggbb."""
        return ("#000000", "#0072B2", "#009E73", "#E69F00", "#CC79A7")[self]


TUMOUR_LABELS = tuple(sorted(Region.WT.labels))
AMBIGUOUS_CAVITY = "label 4 but no 3: enhancing tumour before BraTS 2023, a resection cavity since"
"""Description of a label map of `has_ambiguous_cavity`, for messages."""


def has_ambiguous_cavity(numbers: Collection[int]) -> bool:
    """Return whether nothing in a label map tells if its 4 is enhancing tumour or a cavity.

    Such a map of another program is refused wherever it is read, unless its data set is known or
    its convention is named.

    Examples
    --------
    >>> has_ambiguous_cavity({1, 2, 4}), has_ambiguous_cavity({1, 2, 3, 4})
    (True, False)
    """
    labels = set(numbers)
    return labels <= set(Label) and Label.CAVITY in labels and Label.ENHANCING not in labels


Value = TypeVar("Value")


class ByRegion(Mapping[Region, Value]):
    """A mapping by region that also accepts the keys "wt", "tc" and "et", and type-checks them.

    Examples
    --------
    >>> ByRegion({Region.TC: 3.0})["tc"]
    3.0
    """

    def __init__(self, known: Mapping[Region, Value]) -> None:
        self._known = known

    @override
    def __getitem__(self, region: Region | RegionKey) -> Value:
        if region not in tuple(Region):
            raise KeyError(f"{region!r} is not a region; there are {', '.join(Region)}")
        return self._known[Region(region)]

    @override
    def __iter__(self) -> Iterator[Region]:
        return iter(self._known)

    @override
    def __len__(self) -> int:
        return len(self._known)

    @override
    def __repr__(self) -> str:
        values = (f"{region.value!r}: {value!r}" for region, value in self._known.items())
        return f"ByRegion({{{', '.join(values)}}})"


def without_enhancing(by_region: Mapping[Region, Value]) -> dict[Region, Value]:
    """Return a mapping by region without the enhancing tumour.

    Examples
    --------
    >>> without_enhancing({Region.TC: 3.0, Region.ET: 1.0})
    {<Region.TC: 'tc'>: 3.0}
    """
    return {region: value for region, value in by_region.items() if region is not Region.ET}


class LesionClass(StrEnum):
    """Classes that a flagged region may resemble; the value is the key in files."""

    TUMOUR = "tumour_like"
    WHITE_MATTER = "white_matter_lesion"
    """Hyperintensities of white matter, demyelination."""
    VESSEL_OR_DURA = "vessel_or_dura"
    """What enhances without a lesion: vessels, choroid plexus, dura."""

    @property
    def display_name(self) -> str:
        """The name in words."""
        return {
            "tumour_like": "tumour-like",
            "white_matter_lesion": "white-matter lesion",
            "vessel_or_dura": "vessel or dura",
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
        """Whether the review of the candidate is complete; a deferred one is not."""
        return self.confirmed or self is ReviewState.REJECTED

    @property
    def confirmed(self) -> bool:
        """Whether a reader accepted the candidate, or edited its outline."""
        return self in (ReviewState.ACCEPTED, ReviewState.EDITED)


class Source(StrEnum):
    """Who flagged a candidate; the value is the key in files."""

    NETWORK = "network"
    READER = "reader"
    """Added by a reader in the review."""
    SEGMENTATION = "segmentation"
    """Outlined in a segmentation of other people or programs, which was opened."""


class PromptKind(StrEnum):
    """The kinds of prompt; the value is stored in files."""

    POINT = "point"
    SCRIBBLE = "scribble"
    BOX = "box"
    LASSO = "lasso"


class DrawingMethod(StrEnum):
    """How readers or others outlined a candidate, as of DICOM's Segment Algorithm Type."""

    MANUAL = "manual"
    """By hand."""
    SEMIAUTOMATIC = "semiautomatic"
    """By a program, from a reader's prompts."""
    AUTOMATIC = "automatic"
    """By another program alone."""


RESEARCH_USE_NOTICE = "Research use only. Flags regions; does not exclude disease."
"""Shown wherever results are shown."""


class Phase(StrEnum):
    """Before or after the reader saw the network's findings."""

    UNAIDED = "unaided"
    AIDED = "aided"


class ReviewAct(StrEnum):
    """What a reader did; the value is stored in files and logs.

    Undo and redo are separate acts. A review contains the first five acts; the others are only
    in the log of a read.
    """

    DECIDE = "mark"
    """A decision on a candidate or on the whole study."""
    UNDO = "undo"
    REDO = "redo"
    WITHDRAW = "withdraw"
    """A signature is withdrawn, with a reason; undo never does that."""
    WITHDRAW_RESPONSE = "withdraw response"
    """A signed response to treatment is withdrawn, with a reason."""
    BEGIN = "begin"
    LEAVE = "leave"
    PLACE_MARK = "place"
    """A position is marked by hand."""
    REMOVE_MARK = "take back"
    """A marked position is removed."""
    RESPONSE = "response"
    """A response to treatment is signed."""
    TAKE_OVER = "take over"
    """The review starts again with the decisions that follow, which were made elsewhere."""


class MapExtent(StrEnum):
    """The field of view of an attention map in DICOM."""

    CUT = "cut"
    """The bounding box of the visible attention: a small file."""
    FULL = "full"
    """All slices of the series at full size, which OHIF requires."""


class Identity(StrEnum):
    """What may identify the patient in a report."""

    PATIENT = "patient"
    """Name, identifier, sex and birth date of the patient; name and UID of the study."""
    DATE = "date"
    """When the study was acquired and when it was analysed."""
    SERIES = "series"
    """Files and descriptions of the series."""


class ComputePrecision(StrEnum):
    """The floating-point type in which a network computes."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
