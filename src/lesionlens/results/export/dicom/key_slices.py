"""Key slices as Secondary Capture images, for viewers without support for SEG and SR.

One colour frame per candidate: the source image on which it is largest, with outlines and "research
use only" burned in. No patient data are burned in.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import MultiFrameTrueColorSecondaryCaptureImageStorage
from scipy import ndimage

from lesionlens.base.records.findings import Candidate
from lesionlens.results.export import caveats, lookup
from lesionlens.results.export.dicom import identity
from lesionlens.results.export.dicom.contours import empty_object, image_item
from lesionlens.results.export.dicom.copied_attributes import LOSSY_COMPRESSION
from lesionlens.results.export.dicom.framed import FramedResult, Segment
from lesionlens.results.export.dicom.refs import SourceFrames

BURNED_IN_TEXT = "RESEARCH USE ONLY"
MIN_LONGER_SIDE_PX = 512
"""Minimum length of the longer side."""
OUTLINE_WIDTH_PX = 2
_WINDOW_PERCENTILES = (1.0, 99.5)
"""Percentiles of the whole series shown as black and white."""

Pixels = NDArray[np.uint8]


def build_key_slices(result: FramedResult) -> Dataset | None:
    """Build the object; None without a candidate."""
    analysis, sources = result.analysis, result.sources
    candidates = identity.exported(analysis)
    if not candidates:
        return None
    volume = sources.stack(analysis.study.series[analysis.prepared.reference].load())
    low, high = np.percentile(volume, _WINDOW_PERCENTILES)
    frames = [result.best_frame(candidate) for candidate in candidates]
    pictures = []
    for candidate, frame in zip(candidates, frames, strict=True):
        grey = np.clip((volume[frame] - low) / max(high - low, 1e-6), 0, 1)
        own_segments = [segment for segment in result.regions if segment.candidate is candidate]
        caption = f"{BURNED_IN_TEXT} - {caveats.candidate_name(analysis, candidate)}"
        pictures.append(_render_frame(grey, own_segments, frame, sources, caption))
    key_slices = _describe(result, np.stack(pictures), candidates)
    key_slices.SourceImageSequence = Sequence(image_item(sources, n) for n in dict.fromkeys(frames))
    _state_lossy_compression(key_slices, [sources.reference(frame)[0] for frame in frames])
    return key_slices


def _state_lossy_compression(key_slices: Dataset, shown: list[Dataset]) -> None:
    """State whether a source image had a lossy compression; a derived image keeps it (PS3.3)."""
    lossy = next((image for image in shown if image.get("LossyImageCompression") == "01"), None)
    key_slices.LossyImageCompression = "00"
    if lossy is not None:
        for keyword in LOSSY_COMPRESSION:
            if keyword in lossy:
                setattr(key_slices, keyword, getattr(lossy, keyword))


def _render_frame(
    grey: NDArray[np.floating],
    segments: list[Segment],
    frame: int,
    sources: SourceFrames,
    caption: str,
) -> Pixels:
    """Render one frame with square pixels: grey image, outlines, text."""
    column_mm, row_mm = np.linalg.norm(sources.planes[frame][:, :2], axis=0)
    smallest_mm = min(column_mm, row_mm)
    size_mm = (sources.columns * column_mm, sources.rows * row_mm)
    scale = max(1.0 / smallest_mm, MIN_LONGER_SIDE_PX / max(size_mm))
    size = (round(size_mm[0] * scale), round(size_mm[1] * scale))
    resized = Image.fromarray((255 * grey).astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)
    picture = np.repeat(np.asarray(resized)[:, :, None], 3, axis=2)
    for segment in segments:
        mask = Image.fromarray(segment.frame(frame, sources.rows, sources.columns))
        segment_mask = np.asarray(mask.resize(size, Image.Resampling.NEAREST))
        picture[
            segment_mask & ~ndimage.binary_erosion(segment_mask, iterations=OUTLINE_WIDTH_PX)
        ] = lookup.rgb(segment.region.colour)
    image = Image.fromarray(picture)
    ImageDraw.Draw(image).text(
        (6, 4), caption, fill="white", stroke_fill="black", stroke_width=2, font_size=16
    )
    return np.asarray(image)


def _describe(result: FramedResult, pixels: Pixels, candidates: tuple[Candidate, ...]) -> Dataset:
    dataset = empty_object(result, "key_slices", MultiFrameTrueColorSecondaryCaptureImageStorage)
    dataset.Modality, dataset.ConversionType = "OT", "WSD"
    dataset.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    dataset.ContentDate, dataset.ContentTime = dataset.SeriesDate, dataset.SeriesTime
    dataset.PatientOrientation = ""
    dataset.BodyPartExamined = "BRAIN"
    dataset.BurnedInAnnotation = "YES"
    dataset.DerivationDescription = "Outlines of candidate regions burned in; research use only"
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = pixels.shape[:3]
    if len(candidates) > 1:  # DICOM does not allow a frame increment pointer for a single frame
        dataset.FrameIncrementPointer = Tag("FrameLabelVector")
        dataset.FrameLabelVector = [f"Candidate {candidate.id}" for candidate in candidates]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 3, "RGB"
    dataset.PlanarConfiguration = dataset.PixelRepresentation = 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    data = pixels.tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OB"
    return dataset


def check_key_slices(_result: FramedResult, stored: Dataset, built: Dataset) -> str:
    """Compare every pixel of the object as read back; see `objects.Check`."""
    is_same = np.array_equal(stored.pixel_array, built.pixel_array)
    found = "a picture in key_slices.dcm that differs from the drawn one when read back"
    return "" if is_same else found
