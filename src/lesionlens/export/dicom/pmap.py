"""Parametric Map of attention: float32, one channel a region, coded Saliency.

The maps are what the network's region queries attended to. That is neither a class activation nor
a gradient-weighted map, so the general concept is used and the method is said in the label.
Frames on which every map stays below one grey level of an eight-bit display are left out.
"""

from __future__ import annotations

from pathlib import Path

import highdicom
import numpy as np
import pydicom
from highdicom.pm import RealWorldValueMapping
from numpy.typing import NDArray
from pydicom.sr.codedict import codes

from lesionlens.base.codes import SALIENCY
from lesionlens.base.errors import ExportError
from lesionlens.base.labels import Region
from lesionlens.export.dicom import identity
from lesionlens.export.dicom.geometry import plane_positions
from lesionlens.export.dicom.refs import SourceFrames
from lesionlens.records.analysis import Analysis

BODY_PART = "BRAIN"
"""Said because a validator else asks for a laterality; highdicom copies none into maps."""
INVISIBLE = 1 / 512
"""Frames whose maximum is lower are left out."""


def channels(analysis: Analysis) -> tuple[Region, ...]:
    """Return the regions that have a map, in the order of Region."""
    return tuple(r for r in Region if r in analysis.volumes.attention)


def label_of(region: Region) -> str:
    """Return a channel's label: the name of the NIfTI file that holds the same map."""
    return f"attention_{region.value}"


def shown_frames(analysis: Analysis, sources: SourceFrames) -> NDArray[np.intp]:
    """Return the frames to write: where some map can be seen; the middle one if there is none."""
    axis = sources.places[0].fixed
    others = tuple(a for a in range(3) if a != axis)
    peak = np.max(
        [analysis.volumes.attention[r].data.max(axis=others) for r in channels(analysis)], axis=0
    )
    found = np.flatnonzero([peak[place.index] >= INVISIBLE for place in sources.places])
    return found if found.size else np.array([len(sources.places) // 2])


def build_pmap(analysis: Analysis, sources: SourceFrames) -> highdicom.pm.ParametricMap:
    """Build the Parametric Map.

    Parameters
    ----------
    analysis : Analysis
        With at least one attention map.
    sources : SourceFrames
        Of the reference series.
    """
    chosen = shown_frames(analysis, sources)
    regions = channels(analysis)
    pixels = np.empty((len(chosen), sources.rows, sources.columns, len(regions)), np.float32)
    for channel, region in enumerate(regions):
        volume = analysis.volumes.attention[region].data
        for row, frame in enumerate(chosen):
            pixels[row, :, :, channel] = sources.places[frame].cut(volume)
    method = analysis.maps.method if analysis.maps is not None else "attention"
    made_map = highdicom.pm.ParametricMap(
        source_images=sources.images(chosen),
        pixel_array=pixels,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[[_mapping(region, method)] for region in regions],
        voi_lut_transformations=[
            highdicom.VOILUTTransformation(window_center=0.5, window_width=1.0)
        ],
        content_label="ATTENTION",
        content_description="Attention of the network, research use only",
        plane_positions=plane_positions(sources, chosen),
        **identity.of_new_object(analysis, "attention"),
    )
    made_map.BodyPartExamined = BODY_PART
    return made_map


def _mapping(region: Region, method: str) -> RealWorldValueMapping:
    return RealWorldValueMapping(
        lut_label=label_of(region),
        lut_explanation=f"{region.words}: {method}"[:64],
        unit=codes.UCUM.NoUnits,
        value_range=(0.0, 1.0),
        slope=1.0,
        intercept=0.0,
        quantity_definition=identity.concept(SALIENCY),
    )


def check_pmap(path: Path, analysis: Analysis, sources: SourceFrames) -> None:
    """Read a Parametric Map back and compare every frame with the attention volumes.

    Raises
    ------
    ExportError
        A value or a place differs.
    """
    read = pydicom.dcmread(path)
    frames = np.frombuffer(read.FloatPixelData, "<f4").reshape(-1, read.Rows, read.Columns)
    places = {tuple(np.round(p, 3)): n for n, p in enumerate(sources.positions)}
    names = {label_of(region): region for region in channels(analysis)}
    shared = read.SharedFunctionalGroupsSequence[0]
    seen = set()
    for frame, groups in zip(frames, read.PerFrameFunctionalGroupsSequence, strict=True):
        holder = groups if "RealWorldValueMappingSequence" in groups else shared
        region = names[str(holder.RealWorldValueMappingSequence[0].LUTLabel)]
        position = groups.PlanePositionSequence[0].ImagePositionPatient
        at = places.get(tuple(np.round([float(v) for v in position], 3)))
        volume = analysis.volumes.attention[region].data
        if at is None or not np.array_equal(frame, sources.places[at].cut(volume)):
            raise _differs()
        seen.add((region, at))
    if len(seen) != len(names) * len(shown_frames(analysis, sources)):
        raise _differs()


def _differs() -> ExportError:
    return ExportError(
        found="a frame in attention.dcm that differs, read back, from the result",
        expected="what was meant to be written",
        next_step="Report this as a defect; nothing was saved",
    )
