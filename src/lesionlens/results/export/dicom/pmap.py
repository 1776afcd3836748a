"""Parametric Maps of attention: float32, one object per region, coded as Saliency.

The maps are what the network's region queries attended to. That is neither a class activation nor
a gradient-weighted map, so the general concept is used and the method is named in the label.

Each object is cut to the box outside which its map stays below the first of 256 grey levels of a
display: a map of a whole head in float32 is else larger than the study. Viewers take an object
for one map on evenly spaced frames (3D Slicer's converter even in rising order), hence one region
each and no frame left out in between.

On request (`MapExtent.FULL`) every frame is written at the source's size, since OHIF shows no
other. It multiplies what is stored by 100 and shows 0 to 100, so that integers, which would be half
as large, come out in one colour; 3D Slicer's converter takes no integers either.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
from highdicom.pm import RealWorldValueMapping
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian

from lesionlens.base.codes import BRAIN, SALIENCY
from lesionlens.base.errors import ExportError
from lesionlens.base.geometry import Box, bounding_box
from lesionlens.base.labels import MapExtent, Region
from lesionlens.base.records.analysis import Analysis
from lesionlens.results.export.dicom import identity
from lesionlens.results.export.dicom.refs import SourceFrames, keep_used_frames

BODY_PART = "BRAIN"
"""Set because a validator otherwise requires a laterality; highdicom does not copy it."""
INVISIBLE = 1 / 256
"""The first visible grey level of a display: values outside the box are lower."""


def files_of(analysis: Analysis) -> dict[Region, str]:
    """Return the file name of each region with a map, in the order of Region.

    The first one is `attention.dcm`: of the whole tumour, unless the engine has no map of it. There
    is none where no candidate is sent.
    """
    if not identity.exported(analysis):
        return {}
    known = analysis.volumes.attention
    regions = [r for r in Region if r in known]
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
        middle = len(frames) // 2
        return slice(middle, middle + 1), slice(0, frames.shape[1]), slice(0, frames.shape[2])
    return box


@dataclass(frozen=True, slots=True, eq=False)
class MapFrames:
    """The stored frames of one region's map, in ascending order along the normal."""

    region: Region
    pixels: NDArray[np.float32]
    """(f, r, c): 0 to 1."""
    chosen: NDArray[np.intp]
    """(f,): index of the source frame of each frame."""
    corner: tuple[int, int]
    """Row and column, in the source, of each frame's first pixel."""
    visible: int
    """Number of visible values in the whole map."""


def frames_of(analysis: Analysis, sources: SourceFrames, region: Region) -> MapFrames:
    """Crop a region's map to the stored frames.

    Parameters
    ----------
    analysis : Analysis
        Analysis with an attention map of the region.
    """
    depths = sources.positions @ sources.normal
    values = analysis.volumes.attention[region].data
    order, frames = np.argsort(depths), sources.stack(values)
    visible = int(np.count_nonzero(values >= INVISIBLE))
    if analysis.options.maps is MapExtent.FULL:
        return MapFrames(region, frames[order], order, (0, 0), visible)
    across, rows, columns = box_of(frames)
    chosen = np.arange(across.start, across.stop)
    chosen = chosen[np.argsort(depths[chosen])]
    pixels = np.ascontiguousarray(frames[chosen, rows, columns])
    return MapFrames(region, pixels, chosen, (rows.start, columns.start), visible)


def build_pmap(
    analysis: Analysis, sources: SourceFrames, frames: MapFrames
) -> highdicom.pm.ParametricMap:
    """Build the Parametric Map of one region."""
    region = frames.region
    method = analysis.maps.method if analysis.maps is not None else "attention"
    made = highdicom.pm.ParametricMap(
        source_images=sources.images(frames.chosen),
        pixel_array=frames.pixels,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[_mapping(region, method)],
        voi_lut_transformations=[highdicom.VOILUTTransformation(window_center=0.5, window_width=1)],
        content_label="ATTENTION",
        content_description="Attention of the network, research use only",
        pixel_measures=_measures(sources),
        plane_positions=sources.plane_positions(frames.chosen, frames.corner),
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **identity.of_new_object(analysis, label_of(region)),
    )
    made.ContentCreatorName = ""
    made.BodyPartExamined = BODY_PART
    made.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [_anatomy()]
    keep_used_frames(made, sources)
    _rise(made)
    return made


def _measures(sources: SourceFrames) -> Any:
    """Return the source's pixel spacing and slice thickness, which cropped frames must repeat."""
    first = sources.datasets[0]
    if sources.numbers is not None:
        shared = first.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
        return highdicom.PixelMeasuresSequence.from_sequence(shared)
    return highdicom.PixelMeasuresSequence(
        pixel_spacing=first.PixelSpacing,
        slice_thickness=first.get("SliceThickness"),
        spacing_between_slices=first.get("SpacingBetweenSlices"),
    )


def _anatomy() -> Dataset:
    """Return the displayed anatomy, without which 3D Slicer's converter fails."""
    item = Dataset()
    item.AnatomicRegionSequence = [identity.concept(BRAIN)]
    item.FrameLaterality = "U"  # unpaired
    return item


def _rise(made: highdicom.pm.ParametricMap) -> None:
    """Sort the frames in ascending order along the slice normal.

    highdicom writes them in descending order, which the standard allows; 3D Slicer's converter
    assumes ascending order and would show the map upside down.
    """
    groups = list(made.PerFrameFunctionalGroupsSequence)[::-1]
    for number, group in enumerate(groups, 1):
        group.FrameContentSequence[0].DimensionIndexValues = number
    made.PerFrameFunctionalGroupsSequence = groups
    made.FloatPixelData = _pixels(made)[::-1].tobytes()


def _pixels(made: Dataset) -> NDArray[np.float32]:
    return np.frombuffer(made.FloatPixelData, "<f4").reshape(-1, made.Rows, made.Columns)


def _mapping(region: Region, method: str) -> RealWorldValueMapping:
    return RealWorldValueMapping(
        lut_label=label_of(region),
        lut_explanation=f"{region.display_name}: {method}"[:64],
        unit=codes.UCUM.NoUnits,
        value_range=(0.0, 1.0),
        slope=1.0,
        intercept=0.0,
        quantity_definition=identity.concept(SALIENCY),
    )


def check_pmap(path: Path, sources: SourceFrames, frames: MapFrames) -> None:
    """Read a Parametric Map back and compare every frame with the attention volume.

    Raises
    ------
    ExportError
        A value or position differs, or a visible value is missing.
    """
    read = pydicom.dcmread(path)
    label = read.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0].LUTLabel
    pixels = _pixels(read)
    if label != label_of(frames.region) or not np.array_equal(pixels, frames.pixels):
        raise _differs()
    wanted = sources.planes[frames.chosen] @ (*frames.corner[::-1], 1.0)
    found = [
        [float(v) for v in groups.PlanePositionSequence[0].ImagePositionPatient]
        for groups in read.PerFrameFunctionalGroupsSequence
    ]
    if np.shape(found) != wanted.shape or not np.allclose(found, wanted, rtol=0, atol=1e-3):
        raise _differs()
    if np.count_nonzero(pixels >= INVISIBLE) != frames.visible:
        raise _differs()


def _differs() -> ExportError:
    return identity.differs("a frame in attention.dcm that differs, read back, from the result")
