"""A result on the frames of its source images, from which the DICOM objects are built."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lesionlens.analysis.findings.candidates import tracking_uids
from lesionlens.analysis.findings.components import boxes_of
from lesionlens.base.geometry import Box, bounding_box
from lesionlens.base.labels import Label, Region
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.findings import Candidate
from lesionlens.results.export.dicom import identity
from lesionlens.results.export.dicom.refs import SourceFrames
from lesionlens.results.export.sentence import Sentences


@dataclass(frozen=True, slots=True, eq=False)
class SegmentMask:
    """The voxels of one segment, on the source's frames."""

    number: int
    """Segment number, from 1."""
    tracking_uid: str
    box: Box
    """Bounding box: frames, rows and columns."""
    mask: NDArray[np.bool_]
    """(f, r, c): its voxels within the box."""


@dataclass(frozen=True, slots=True, eq=False)
class Segment(SegmentMask):
    """One region of one candidate."""

    candidate: Candidate
    region: Region


@dataclass(frozen=True, eq=False)
class FramedResult:
    """A result and the source images that its objects refer to."""

    analysis: Analysis
    sources: SourceFrames

    @cached_property
    def sentences(self) -> Sentences:
        """The sentences of the report, in English."""
        return Sentences(self.analysis)

    @cached_property
    def segments(self) -> tuple[SegmentMask, ...]:
        """All segments: the regions of the candidates, then the resection cavity if there is one.

        The cavity has no candidate.
        """
        analysis, labels = self.analysis, self.analysis.volumes.all_labels
        inside = self.sources.stack(labels.data) == Label.CAVITY
        box = bounding_box(inside)
        if box is None:
            return self.regions
        centroid_mm = labels.grid.to_mm(np.argwhere(labels.data == Label.CAVITY).mean(axis=0))
        (uid,) = tracking_uids(f"{analysis.study.uid}|resection cavity", [centroid_mm])
        return (*self.regions, SegmentMask(len(self.regions) + 1, uid, box, inside[box]))

    @cached_property
    def regions(self) -> tuple[Segment, ...]:
        """The segments by region, largest region first, and within a region from the top down.

        Viewers combine non-overlapping segments into one label volume. OHIF (3.13) loses slices of
        a segment whose last slice precedes that of an earlier one; this order avoids it.
        """
        analysis, sources = self.analysis, self.sources
        labels = sources.stack(analysis.volumes.labels.data)
        components = sources.stack(analysis.findings.components)
        boxes = boxes_of(components)
        depths = sources.positions @ sources.normal
        ordered: list[Segment] = []
        for region in Region:
            by_depth: list[tuple[float, Segment]] = []
            for candidate in identity.exported(analysis):
                box = boxes.get(candidate.id)
                if box is None:
                    continue
                inside = (components[box] == candidate.id) & np.isin(labels[box], region.labels)
                occupied = inside.any(axis=(1, 2))
                if occupied.any():
                    segment = Segment(0, candidate.tracking_uid, box, inside, candidate, region)
                    by_depth.append((float(depths[box[0]][occupied].min()), segment))
            ordered += [segment for _, segment in sorted(by_depth, key=lambda item: -item[0])]
        return tuple(replace(segment, number=number) for number, segment in enumerate(ordered, 1))

    def best_frame(self, candidate: Candidate) -> int:
        """Return the source frame with most of a candidate's voxels."""
        placements = self.sources.placements
        other_axes = tuple(axis for axis in range(3) if axis != placements[0].fixed)
        inside = self.analysis.findings.components == candidate.id
        counts = np.count_nonzero(inside, axis=other_axes)
        return max(range(len(placements)), key=lambda n: int(counts[placements[n].index]))
