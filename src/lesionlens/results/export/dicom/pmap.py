"""Parametric Maps of attention: float32, one object per region, coded as Saliency.

The maps are the attention of the network's region queries. They are neither class activation maps
nor gradient-weighted maps, so the general concept is used and the label names the method.

Each object is cropped to the box outside which its map is below the first of 256 grey levels of a
display, because a float32 map of a whole head is larger than the study. Viewers read an object as
one map on evenly spaced frames (3D Slicer's converter requires ascending order): each object has
one region, and no frame between the first and the last is omitted.

On request (`MapExtent.FULL`) every frame is written at the source's size, because OHIF shows no
other. OHIF multiplies stored values by 100 and shows 0 to 100: integers, which need half the space,
would all have one colour; 3D Slicer's converter does not support integers either.
"""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import shorten
from typing import Any

import highdicom
import numpy as np
from highdicom.pm import RealWorldValueMapping
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian

from lesionlens.base.codes import BRAIN, SALIENCY
from lesionlens.base.geometry import Box, bounding_box
from lesionlens.base.labels import MapExtent, Region
from lesionlens.base.records.analysis import Analysis
from lesionlens.results.export.dicom import identity
from lesionlens.results.export.dicom.framed import FramedResult
from lesionlens.results.export.dicom.refs import SourceFrames, drop_unused_frame_references

BODY_PART = "BRAIN"
"""Set because a validator otherwise requires a laterality; highdicom does not copy it."""
INVISIBLE = 1 / 256
"""The first visible grey level of a display: values outside the box are lower."""


def files_of(analysis: Analysis) -> dict[Region, str]:
    """Return the file name of each region with a map, in the order of Region.

    The first one is `attention.dcm`: of the whole tumour, unless the engine has no map of it. Empty
    if no candidate is exported.
    """
    if not identity.exported(analysis):
        return {}
    maps = analysis.volumes.attention
    regions = [r for r in Region if r in maps]
    return {
        region: "attention.dcm" if region is regions[0] else f"{label_of(region)}.dcm"
        for region in regions
    }


def label_of(region: Region) -> str:
    """Return a map's label: the name of the NIfTI file with the same map."""
    return f"attention_{region.value}"


def box_of(frames: NDArray[np.float32]) -> Box:
    """Return the bounding box (frames, rows, columns) of a map's visible values.

    Parameters
    ----------
    frames : (F, rows, columns) float32
        A map, 0 to 1.

    Returns
    -------
    Box
        The whole middle frame if nothing is visible, because an object needs a frame.

    Examples
    --------
    >>> frames = np.zeros((9, 8, 7), np.float32)
    >>> frames[2:4, 5, 6] = 0.5
    >>> box_of(frames)
    (slice(2, 4, None), slice(5, 6, None), slice(6, 7, None))
    """
    box = bounding_box(frames >= INVISIBLE)
    if box is None:
        centre = len(frames) // 2
        return slice(centre, centre + 1), slice(0, frames.shape[1]), slice(0, frames.shape[2])
    return box


@dataclass(frozen=True, slots=True, eq=False)
class MapFrames:
    """The stored frames of one region's map, in ascending order along the normal."""

    region: Region
    pixels: NDArray[np.float32]
    """(f, r, c): 0 to 1."""
    source_indices: NDArray[np.intp]
    """(f,): index of the source frame of each frame."""
    first_pixel: tuple[int, int]
    """Row and column, in the source, of each frame's first pixel."""


def frames_of(result: FramedResult, region: Region) -> MapFrames:
    """Crop a region's map to the stored frames."""
    analysis, sources = result.analysis, result.sources
    depths = sources.positions @ sources.normal
    attention = analysis.volumes.attention[region].data
    order, frames = np.argsort(depths), sources.stack(attention)
    if analysis.options.maps is MapExtent.FULL:
        return MapFrames(region, frames[order], order, (0, 0))
    frame_range, rows, columns = box_of(frames)
    source_indices = np.arange(frame_range.start, frame_range.stop)
    source_indices = source_indices[np.argsort(depths[source_indices])]
    pixels = np.ascontiguousarray(frames[source_indices, rows, columns])
    return MapFrames(region, pixels, source_indices, (rows.start, columns.start))


def build_pmap(frames: MapFrames, result: FramedResult) -> highdicom.pm.ParametricMap:
    """Build the Parametric Map of one region."""
    analysis, sources, region = result.analysis, result.sources, frames.region
    maps = analysis.maps
    method = "attention" if maps is None else maps.method
    shown = "Attention" if maps is None or maps.is_attention else "Features"
    parametric_map = highdicom.pm.ParametricMap(
        source_images=sources.images(frames.source_indices),
        pixel_array=frames.pixels,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[_value_mapping(region, method)],
        voi_lut_transformations=[highdicom.VOILUTTransformation(window_center=0.5, window_width=1)],
        content_label="ATTENTION",
        content_description=f"{shown} of the network, research use only",
        pixel_measures=_pixel_measures(sources),
        plane_positions=sources.plane_positions(frames.source_indices, frames.first_pixel),
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **identity.of_new_object(analysis, label_of(region)),
    )
    parametric_map.ContentCreatorName = ""
    parametric_map.BodyPartExamined = BODY_PART
    parametric_map.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [_anatomy_item()]
    drop_unused_frame_references(parametric_map, sources)
    _sort_frames_ascending(parametric_map)
    return parametric_map


def _pixel_measures(sources: SourceFrames) -> Any:
    """Return the source's pixel spacing and slice thickness, which cropped frames must repeat."""
    first = sources.datasets[0]
    if sources.frame_numbers is not None:
        shared = first.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
        return highdicom.PixelMeasuresSequence.from_sequence(shared)
    return highdicom.PixelMeasuresSequence(
        pixel_spacing=first.PixelSpacing,
        slice_thickness=first.get("SliceThickness"),
        spacing_between_slices=first.get("SpacingBetweenSlices"),
    )


def _anatomy_item() -> Dataset:
    """Return the displayed anatomy, without which 3D Slicer's converter fails."""
    item = Dataset()
    item.AnatomicRegionSequence = [identity.concept(BRAIN)]
    item.FrameLaterality = "U"  # unpaired
    return item


def _sort_frames_ascending(parametric_map: highdicom.pm.ParametricMap) -> None:
    """Sort the frames in ascending order along the slice normal.

    highdicom writes them in descending order, which the standard allows; 3D Slicer's converter
    assumes ascending order and would show the map upside down.
    """
    groups = list(parametric_map.PerFrameFunctionalGroupsSequence)[::-1]
    for number, group in enumerate(groups, 1):
        group.FrameContentSequence[0].DimensionIndexValues = number
    parametric_map.PerFrameFunctionalGroupsSequence = groups
    parametric_map.FloatPixelData = _stored_pixels(parametric_map)[::-1].tobytes()


def _stored_pixels(parametric_map: Dataset) -> NDArray[np.float32]:
    return np.frombuffer(parametric_map.FloatPixelData, "<f4").reshape(
        -1, parametric_map.Rows, parametric_map.Columns
    )


def _value_mapping(region: Region, method: str) -> RealWorldValueMapping:
    return RealWorldValueMapping(
        lut_label=label_of(region),
        lut_explanation=shorten(f"{region.display_name}: {method}", 64, placeholder=""),
        unit=codes.UCUM.NoUnits,
        value_range=(0.0, 1.0),
        slope=1.0,
        intercept=0.0,
        quantity_definition=identity.concept(SALIENCY),
    )
