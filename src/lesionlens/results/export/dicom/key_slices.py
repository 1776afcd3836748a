"""Key slices as Secondary Capture images, for viewers without support for SEG and SR.

One colour frame per candidate: the source image on which it is largest, with outlines and "research
use only" burned in. No patient data are burned in.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import MultiFrameTrueColorSecondaryCaptureImageStorage
from scipy import ndimage

from lesionlens.base.errors import ExportError
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.findings import Candidate
from lesionlens.results.export import caveats, lookup
from lesionlens.results.export.dicom import identity
from lesionlens.results.export.dicom.contours import empty_object, image_item
from lesionlens.results.export.dicom.ko import best_frame
from lesionlens.results.export.dicom.refs import SourceFrames
from lesionlens.results.export.dicom.seg import Segment

BURNED = "RESEARCH USE ONLY"
EDGE = 512
"""Minimum length of the longer side in pixels."""
LINE = 2
"""Outline width in pixels."""
_WINDOW = (1.0, 99.5)
"""Percentiles of the whole series that are shown black and white."""

Pixels = NDArray[np.uint8]


def build_key_slices(
    analysis: Analysis, sources: SourceFrames, segments: tuple[Segment, ...]
) -> Dataset | None:
    """Build the object; None without a candidate.

    Parameters
    ----------
    segments : tuple of Segment
        From `seg.segments_of`.
    """
    shown = identity.exported(analysis)
    if not shown:
        return None
    volume = sources.stack(analysis.study.series[analysis.prepared.reference].load())
    low, high = np.percentile(volume, _WINDOW)
    frames = [best_frame(analysis, sources, candidate) for candidate in shown]
    pictures = []
    for candidate, frame in zip(shown, frames, strict=True):
        grey = np.clip((volume[frame] - low) / max(high - low, 1e-6), 0, 1)
        mine = [one for one in segments if one.candidate is candidate]
        words = f"{BURNED} - {caveats.candidate_name(analysis, candidate)}"
        pictures.append(_rendered(grey, mine, frame, sources, words))
    made = _described(analysis, sources, np.stack(pictures), shown)
    made.SourceImageSequence = Sequence(image_item(sources, n) for n in dict.fromkeys(frames))
    return made


def _rendered(
    grey: NDArray[np.floating],
    segments: list[Segment],
    frame: int,
    sources: SourceFrames,
    words: str,
) -> Pixels:
    """Render one frame with square pixels: grey image, outlines, text."""
    column_mm, row_mm = np.linalg.norm(sources.planes[frame][:, :2], axis=0)
    finest = min(column_mm, row_mm)
    size_mm = (sources.columns * column_mm, sources.rows * row_mm)
    scale = max(1.0 / finest, EDGE / max(size_mm))
    size = (round(size_mm[0] * scale), round(size_mm[1] * scale))
    plain = Image.fromarray((255 * grey).astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)
    picture = np.repeat(np.asarray(plain)[:, :, None], 3, axis=2)
    for segment in segments:
        mask = Image.fromarray(segment.frame(frame, sources.rows, sources.columns))
        inside = np.asarray(mask.resize(size, Image.Resampling.NEAREST))
        picture[inside & ~ndimage.binary_erosion(inside, iterations=LINE)] = lookup.rgb(
            segment.region.colour
        )
    drawn = Image.fromarray(picture)
    ImageDraw.Draw(drawn).text(
        (6, 4), words, fill="white", stroke_fill="black", stroke_width=2, font_size=16
    )
    return np.asarray(drawn)


def _described(
    analysis: Analysis, sources: SourceFrames, pixels: Pixels, shown: tuple[Candidate, ...]
) -> Dataset:
    made = empty_object(
        analysis, sources, "key_slices", MultiFrameTrueColorSecondaryCaptureImageStorage
    )
    now = datetime.now(UTC).astimezone()
    made.Modality, made.ConversionType = "OT", "WSD"
    made.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    made.ContentDate, made.ContentTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    made.PatientOrientation = ""
    made.BodyPartExamined = "BRAIN"
    made.BurnedInAnnotation = "YES"
    made.DerivationDescription = "Outlines of candidate regions burned in; research use only"
    made.NumberOfFrames, made.Rows, made.Columns = pixels.shape[:3]
    if len(shown) > 1:  # DICOM does not allow a frame increment pointer for a single frame
        made.FrameIncrementPointer = Tag("FrameLabelVector")
        made.FrameLabelVector = [f"Candidate {candidate.id}" for candidate in shown]
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PlanarConfiguration = 3, "RGB", 0
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 8, 8, 7, 0
    data = pixels.tobytes()
    made.PixelData = data + b"\0" * (len(data) % 2)
    made["PixelData"].VR = "OB"
    return made


def check_key_slices(path: Path, meant: Dataset) -> None:
    """Read the object back and compare every pixel.

    Raises
    ------
    ExportError
        A pixel differs.
    """
    read = pydicom.dcmread(path)
    if not np.array_equal(read.pixel_array, meant.pixel_array):
        raise ExportError(
            found="a picture in key_slices.dcm that differs, read back, from what was drawn",
            expected="what was meant to be written",
            next_step="Report this as a defect; the other objects hold the same regions",
        )
