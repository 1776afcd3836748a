"""Candidates with the fields of findings.json; unknown fields are None, with a notice."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from lesionlens.base import notebook
from lesionlens.base.grid import Grid
from lesionlens.base.labels import (
    DrawingMethod,
    LesionClass,
    MrSequence,
    Region,
    Source,
)
from lesionlens.base.model import STRICT, Decimals, Keys
from lesionlens.base.records.arrays import frozen
from lesionlens.base.records.study import QualityCheck
from lesionlens.base.text import counted, millilitres, percent_digits, score_digits

SEQUENCE_KEYS = (MrSequence.T1C, MrSequence.FLAIR, MrSequence.T2, MrSequence.T1)
"""The order of sequences in findings.json."""
MAX_DISTANCE_MM = 10_000.0
"""Upper limit of the distance from a scanner's origin."""
MAX_VOLUME_ML = 20_000.0
"""Upper limit of a volume; more than a head has."""
Mm = Annotated[float, Decimals(3, -MAX_DISTANCE_MM, MAX_DISTANCE_MM)]
Length = Annotated[float, Decimals(3, 0, MAX_DISTANCE_MM)]
Millilitres = Annotated[float, Decimals(4, 0, MAX_VOLUME_ML)]
Share = Annotated[float, Decimals(4, 0, 1)]
Score = Annotated[float, Decimals(6, 0, 1)]
Signed = Annotated[float, Decimals(6)]
"""The contribution of a sequence, positive or negative."""
Point = tuple[Mm, Mm, Mm]
DiceBySequence = Annotated[Mapping[str, Score | None], Keys(SEQUENCE_KEYS)]
Relevance = Annotated[Mapping[str, Signed | None], Keys((*SEQUENCE_KEYS, "none"))]
LESION_PARTS = frozenset({Region.TC, Region.ET})
"""Regions whose volumes are unknown if an outline shows the lesion as a whole."""
MEASURABLE_MM = 10.0
"""Both diameters of a measurable lesion reach this (RANO, Wen 2010)."""
HIGH_UNCERTAINTY = 0.5
"""Uncertainty that is called high."""
BOTH_SIDES = "both sides"
UNCERTAIN_PLACE = " (uncertain)"
_PLURAL = {
    "insula": "insulae",
    "thalamus": "thalami",
    "hippocampus": "hippocampi",
    "basal ganglia": "basal ganglia",
    "cerebellum": "cerebellar hemispheres",
}
"""Regions with an irregular plural."""
OUTSIDE_BRAIN = "outside the brain"
_UNPAIRED = ("brainstem", "corpus callosum", "deep white matter", OUTSIDE_BRAIN)


@dataclass(frozen=True, slots=True)
class Location:
    """Approximate anatomical location in words.

    Side is left, right or both sides. Region is an anatomical region, or two joined by "and" if the
    candidate spans them; "(uncertain)" follows if none contains much of it.
    """

    __pydantic_config__: ClassVar = STRICT

    side: str | None
    region: str | None

    @property
    def text(self) -> str:
        """In words.

        Examples
        --------
        >>> Location("left", "frontal lobe").text, Location(BOTH_SIDES, "occipital lobe").text
        ('left frontal lobe', 'both occipital lobes')
        >>> Location("left", "temporal lobe and parietal lobe (uncertain)").text
        'left temporal and parietal lobes (uncertain)'
        """
        if self.region is None:
            return self.side or "location unknown"
        region = self.region.removesuffix(UNCERTAIN_PLACE)
        if region == OUTSIDE_BRAIN and self.side is not None:
            text = f"{region}, {self.side}"
        elif self.side == BOTH_SIDES:
            text = " and ".join(_both_sides_text(name) for name in region.split(" and "))
        else:
            text = " ".join(part for part in (self.side, region) if part)
            if text.count(" lobe") == 2:
                text = text.replace(" lobe and ", " and ") + "s"
        return text + self.region[len(region) :]


def _both_sides_text(region: str) -> str:
    return region if region in _UNPAIRED else f"both {_PLURAL.get(region, region + 's')}"


@dataclass(frozen=True, slots=True)
class MapAgreement:
    """How the attention map agrees with the candidate: peak inside, share of attention inside."""

    __pydantic_config__: ClassVar = STRICT

    peak_inside: bool | None
    mass_inside: Share | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One flagged region. Millimetres are patient RAS+, volumes ml.

    findings.json, findings.csv, the published schema and the reading of saved results are derived
    from the fields declared here (`records.files`).
    """

    id: int
    """From 1, by descending score; candidates added by a reader follow."""
    tracking_uid: str
    """DICOM UID, the same in JSON, SEG and SR."""
    score: Score | None
    """Float or None. 0 to 1; None for a candidate that a reader added."""
    centroid_mm: Point
    """(3,): centroid of the whole tumour."""
    bounding_box_mm: tuple[Point, Point]
    """((3,), (3,)): lower and upper corner, at the voxels' outer edges."""
    peak_mm: Point | None
    """(3,) or None: voxel centre of the highest whole-tumour probability; None where there is no
    probability, as in a mask from elsewhere.
    """
    volume_ml: Annotated[Mapping[Region, Millilitres | None], Keys(Region)]
    """Mapping of Region to float or None. ET is None if T1c is missing."""
    longest_axial_diameter_mm: Length | None
    perpendicular_diameter_mm: Length | None
    """Float or None. Of the enhancing part, else of the whole tumour, on RAS axial planes at 1 mm.
    """
    rano_measurable: bool | None
    """Enhancing, both diameters at least 10 mm, on two slices or more; None without T1c."""
    location: Location
    uncertainty: Share | None
    attention: MapAgreement
    class_probabilities: Annotated[Mapping[LesionClass, Share], Keys(LesionClass)] | None = None
    """Mapping of LesionClass to float or None. The engine's own classes; they sum to one and are
    not probabilities of a diagnosis.
    """
    dice_without: DiceBySequence | None = None
    """Mapping of str to float or None. Keys t1c, flair, t2, t1: overlap of what the network would
    outline without that sequence with what it outlines; null for an absent sequence.
    """
    sequence_relevance: Relevance | None = None
    """Mapping of str to float or None. Keys t1c, flair, t2, t1, none: signed Shapley values of the
    same overlap over all subsets of the sequences; they sum to its value for all.
    """
    source: Source = Source.NETWORK
    """Who flagged it."""
    drawn: DrawingMethod | None = None
    """How readers or others outlined it; None for the network's, and where a mask does not say."""
    diameters_by: Source = Source.NETWORK
    """Whether a reader placed both diameters or they were measured on the outline."""

    def with_diameters(self, longest_mm: float, perpendicular_mm: float) -> Candidate:
        """Return a copy with a reader's diameters; `rano_measurable` is updated.

        What is not measurable although its diameters suffice, such as on a single slice, stays so.
        """
        was_long_enough = (self.perpendicular_diameter_mm or 0.0) >= MEASURABLE_MM
        is_measurable = min(longest_mm, perpendicular_mm) >= MEASURABLE_MM and (
            self.has_enhancing and (self.rano_measurable or not was_long_enough)
        )
        return replace(
            self,
            longest_axial_diameter_mm=max(longest_mm, perpendicular_mm),
            perpendicular_diameter_mm=min(longest_mm, perpendicular_mm),
            rano_measurable=None if self.rano_measurable is None else is_measurable,
            diameters_by=Source.READER,
        )

    @property
    def score_text(self) -> str:
        """The score as text, or why there is none: a reader added it, or a segmentation was opened.

        Only a network's candidates have a score.
        """
        if self.score is not None:
            return score_digits(self.score)
        return "added by a reader" if self.source is Source.READER else "no score"

    @property
    def score_phrase(self) -> str:
        """The score as a phrase for running text."""
        return self.score_text if self.score is None else f"score {self.score_text}"

    @override
    def __repr__(self) -> str:
        return f"<Candidate {self.id}: {self.location.text}, {self.score_phrase}>"

    def _repr_html_(self) -> str:
        """Return the notebook representation: the measurements."""

        def in_mm(value: float | None) -> str:
            return "unknown" if value is None else f"{value:.1f} mm"

        measurable = {True: "yes", False: "no", None: "unknown"}[self.rano_measurable]
        volumes = {
            f"{r.display_name} (ml)": "unknown" if ml is None else millilitres(ml)
            for r, ml in self.volume_ml.items()
        }
        return notebook.table(
            {
                "candidate": str(self.id),
                "where": self.location.text,
                "score": self.score_text,
                **volumes,
                "longest axial diameter": in_mm(self.longest_axial_diameter_mm),
                "perpendicular diameter": in_mm(self.perpendicular_diameter_mm),
                "RANO measurable": measurable,
            }
        )

    def without_parts(self, parts: Collection[Region] = LESION_PARTS) -> Candidate:
        """Return a copy as for an outline that does not distinguish these parts."""
        unknown = dict.fromkeys(parts)
        return replace(self, volume_ml={**self.volume_ml, **unknown}, rano_measurable=None)

    @property
    def has_enhancing(self) -> bool:
        """Whether an enhancing part was measured."""
        return bool(self.volume_ml.get(Region.ET))

    def core_uncertain(self, *, has_t1c: bool) -> bool:
        """Return whether LesionLens outlined its core without T1c, which shows the core."""
        if has_t1c or self.source is Source.SEGMENTATION:
            return False
        return bool(self.volume_ml.get(Region.TC))

    @property
    def measured_part(self) -> Region:
        """The part that the diameters measure: the enhancing part if there is one, else all."""
        return Region.ET if self.has_enhancing else Region.WT

    @property
    def measured(self) -> str:
        """The part that the diameters measure, in words."""
        return "enhancing part" if self.has_enhancing else "whole region"


@dataclass(frozen=True, slots=True, eq=False)
class Considered:
    """A region that scored below the engine's threshold; shown on request."""

    score: float
    """0 to 1, below `EngineInfo.floor`."""
    location: Location
    """In words."""
    centroid_mm: Point
    peak_mm: Point
    """(3,): patient RAS+: centroid, and position of the highest whole-tumour probability."""
    volume_ml: float
    voxels: NDArray[np.int32] = field(default_factory=lambda: np.zeros((0, 3), np.int32))
    """(N, 3) int32: indices on the native grid; empty if read from files."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "voxels", frozen(self.voxels))


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """All candidates of one study."""

    candidates: tuple[Candidate, ...]
    """By descending score."""
    components: NDArray[np.int32]
    """(I, J, K) int32: candidate id of each voxel on the native grid, 0 elsewhere."""
    quality: tuple[QualityCheck, ...]
    """Checks of the input images."""
    conclusion: str
    """"2 candidate regions" or "no candidate region"."""
    notices: tuple[str, ...] = ()
    """Why a field is None, and other warnings."""
    considered: tuple[Considered, ...] = ()
    """Regions below the threshold, by descending score; only in a fresh result."""
    hides_reasons: bool = False
    """Whether what speaks for a candidate is not shown, as in an arm of a reader study."""

    def candidate_of(self, tracking_uid: str) -> Candidate | None:
        """Return the candidate of a UID; None if there is none."""
        matches = (c for c in self.candidates if c.tracking_uid == tracking_uid)
        return next(matches, None)

    def distinguishes(self, region: Region) -> bool:
        """Return whether its volume is known of any candidate, or there is no candidate."""
        volumes_ml = [candidate.volume_ml.get(region) for candidate in self.candidates]
        return not volumes_ml or any(volume is not None for volume in volumes_ml)

    def __post_init__(self) -> None:
        object.__setattr__(self, "components", frozen(self.components))

    def renamed(self, new_uids: Mapping[str, str]) -> Findings:
        """Return a copy with other tracking UIDs, by the old ones; others are unchanged."""
        candidates = (
            replace(c, tracking_uid=new_uids.get(c.tracking_uid, c.tracking_uid))
            for c in self.candidates
        )
        return replace(self, candidates=tuple(candidates))


def conclusion_of(candidates: Collection[Candidate]) -> str:
    """Return how many candidates were flagged and added; never a statement about disease.

    Examples
    --------
    >>> conclusion_of([])
    'no candidate region'
    """
    added_count = sum(candidate.source is Source.READER for candidate in candidates)
    count = len(candidates) - added_count
    suffix = f"; added by a reader: {added_count}" if added_count else ""
    if count == 0:
        return f"no candidate region{suffix}"
    return f"{counted(count, 'candidate region')}{suffix}"


def class_probabilities_text(probabilities: Mapping[LesionClass, float]) -> str:
    """Return the class probabilities in words, highest first.

    Examples
    --------
    >>> LC = LesionClass
    >>> class_probabilities_text({LC.TUMOUR: 0.31, LC.WHITE_MATTER: 0.65, LC.VESSEL_OR_DURA: 0.04})
    'white-matter lesion 65%, tumour-like 31%, vessel or dura 4%'
    """
    ranked = sorted(probabilities.items(), key=lambda item: -item[1])
    return ", ".join(
        f"{kind.display_name} {percent_digits(probability)}%" for kind, probability in ranked
    )


@dataclass(frozen=True, slots=True)
class PreliminaryCandidate:
    """A region flagged by the first pass: position and approximate size."""

    id: int
    """From 1, by descending score; the final candidates may differ in number and order."""
    score: float
    """0 to 1."""
    volume_ml: float
    """Volume of the whole region."""
    centroid_mm: Point
    """(3,): RAS+."""
    bounding_box_mm: tuple[Point, Point]
    """((3,), (3,)): RAS+, at the voxels' outer edges."""


@dataclass(frozen=True, slots=True, eq=False)
class PreliminaryFindings:
    """Candidates of the first pass: shown and replaced, never measured, reviewed or exported."""

    candidates: tuple[PreliminaryCandidate, ...]
    """By descending score."""
    components: NDArray[np.int32]
    """(I, J, K) int32: candidate id of each voxel, 0 elsewhere."""
    grid: Grid
    """Native grid of the reference sequence, on which `components` is defined."""
