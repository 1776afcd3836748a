"""Tiny MR series of random voxels in every kind of DICOM object and every encoding."""

from __future__ import annotations

import copy
import io
import struct
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from highdicom.legacy import LegacyConvertedEnhancedMRImage
from numpy.typing import ArrayLike
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    generate_uid,
)
from tests.phantoms.headers import NOBODY, PatientIdentity, instances

from lesionlens import MrSequence
from lesionlens.base.grid import Grid
from lesionlens.base.records.arrays import Volume

VOXELS = np.random.default_rng(3).integers(1, 999, (8, 7, 6)).astype(np.float32)
LPS = np.array([[-4.0, 0, 0, 13], [0, -5, 0, 17], [0, 0, 6, -11], [0, 0, 0, 1]])
"""An axial series: RAS+ mm of the voxels."""
Images = list[Dataset]


def series(
    affine: ArrayLike = LPS,
    sequence: MrSequence = MrSequence.T1C,
    number: int = 1,
    *,
    factor: int = 1,
    identity: PatientIdentity = NOBODY,
    **values: Any,
) -> Images:
    """Return the images of VOXELS times a factor, in the order of k; None removes an attribute."""
    volume = Volume(VOXELS * factor, Grid(VOXELS.shape, np.asarray(affine, float)))
    return changed(instances(volume, sequence, number, identity), **values)


def changed(images: Images, **values: Any) -> Images:
    """Set attributes of all images: to a value, to that of a function of the index, or remove."""
    for index, image in enumerate(images):
        for keyword, value in values.items():
            if value is None:
                image.pop(keyword, None)
            else:
                setattr(image, keyword, value(index) if callable(value) else value)
    return images


def again(images: Images, *, factor: int = 1, **values: Any) -> Images:
    """Return the images once more, under other SOP Instance UIDs, brighter and changed."""
    copies = copy.deepcopy(images)
    for image in copies:
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        image.PixelData = (np.frombuffer(image.PixelData, "<u2") * factor).tobytes()
    return changed(copies, **values)


def save(images: Iterable[Dataset | bytes], folder: Path, names: Sequence[str] = ()) -> Path:
    """Write images, or the bytes of files, into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    start = len(list(folder.iterdir()))
    for index, image in enumerate(images, start):
        path = folder / (names[index] if names else f"IM{index:04d}")
        path.write_bytes(image if isinstance(image, bytes) else file_of(image))
    return folder


def file_of(image: Dataset, **options: Any) -> bytes:
    """Return the file of an image; by default with preamble and meta header."""
    stream = io.BytesIO()
    image.save_as(stream, **(options or {"enforce_file_format": True}))
    return stream.getvalue()


def under_syntax(uid: str) -> Callable[[Images], Images]:
    """Return a function that encodes images in an uncompressed transfer syntax."""

    def encoded(images: Images) -> Images:
        for image in images:
            image.file_meta.TransferSyntaxUID = uid
            if uid == ExplicitVRBigEndian:
                image.PixelData = np.frombuffer(image.PixelData, "<u2").byteswap().tobytes()
        return images

    return encoded


def compressed(uid: str) -> Callable[[Images], Images]:
    """Return a function that compresses images without loss."""

    def encoded(images: Images) -> Images:
        for image in images:
            image.compress(uid, generate_instance_uid=False)
        return images

    return encoded


def jpeg_2000(images: Images) -> Images:
    """Compress images by Pillow, as pydicom brings no encoder."""
    for image in images:
        stream, stored = io.BytesIO(), np.frombuffer(image.PixelData, "<u2")
        pixels = Image.fromarray(stored.reshape(image.Rows, image.Columns))
        pixels.save(stream, "JPEG2000", irreversible=False, no_jp2=True)
        image.PixelData = encapsulate([stream.getvalue()])
        image["PixelData"].is_undefined_length = True
        image.file_meta.TransferSyntaxUID = JPEG2000Lossless
    return images


def legacy_converted(images: Images, order: Sequence[int] = (3, 0, 5, 2, 4, 1)) -> Images:
    """Return the images as one Legacy Converted Enhanced image, its frames in no order."""
    ordered = [images[index] for index in order]
    uids = {"series_instance_uid": generate_uid(), "sop_instance_uid": generate_uid()}
    return [LegacyConvertedEnhancedMRImage(ordered, series_number=9, instance_number=1, **uids)]


def enhanced(images: Images, order: Sequence[int] | None = None, **content: Any) -> Images:
    """Return the images as one Enhanced MR image, as scanners write it.

    Parameters
    ----------
    order : sequence of int
        Of the frames; by default a shuffled one.
    content : keyword and function of an image's index
        Attributes of each frame's content.
    """
    order = np.random.default_rng(1).permutation(len(images)) if order is None else order
    whole = copy.deepcopy(images[0])
    whole.SOPClassUID = whole.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    whole.NumberOfFrames = len(images)
    shared = Dataset()
    timing = ("MRTimingAndRelatedParametersSequence", "RepetitionTime")
    for holder, target, keyword in (
        ("MREchoSequence", "EffectiveEchoTime", "EchoTime"),
        (*timing, "RepetitionTime"),
    ):
        setattr(shared, holder, [Dataset()])
        setattr(getattr(shared, holder)[0], target, float(whole[keyword].value))
    whole.SharedFunctionalGroupsSequence = [shared]
    whole.PerFrameFunctionalGroupsSequence, pixels = [], []
    for index in order:
        image, groups = images[index], Dataset()
        for holder, keywords in (
            ("PlanePositionSequence", ["ImagePositionPatient"]),
            ("PlaneOrientationSequence", ["ImageOrientationPatient"]),
            ("PixelMeasuresSequence", ["PixelSpacing", "SliceThickness"]),
            ("PixelValueTransformationSequence", ["RescaleSlope", "RescaleIntercept"]),
        ):
            item = Dataset()
            for keyword in keywords:
                if keyword in image:
                    setattr(item, keyword, image[keyword].value)
            setattr(groups, holder, [item])
        groups.FrameContentSequence = [Dataset()]
        for keyword, value in content.items():
            setattr(groups.FrameContentSequence[0], keyword, value(index))
        whole.PerFrameFunctionalGroupsSequence.append(groups)
        pixels.append(image.PixelData)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "EchoTime"):
        delattr(whole, keyword)
    for keyword in ("RepetitionTime", "RescaleSlope", "RescaleIntercept"):
        whole.pop(keyword, None)
    whole.PixelData = b"".join(pixels)
    return [whole]


def mosaic(images: Images) -> Images:
    """Return the images as one Siemens mosaic, with the private header that places its slices."""
    whole, first = copy.deepcopy(images[0]), images[0]
    across = int(np.ceil(np.sqrt(len(images))))
    rows, columns = first.Rows, first.Columns
    canvas = np.zeros((across * rows, across * columns), "<u2")
    for index, image in enumerate(images):
        row, column = divmod(index, across)
        place = np.s_[row * rows : (row + 1) * rows, column * columns : (column + 1) * columns]
        canvas[place] = np.frombuffer(image.PixelData, "<u2").reshape(rows, columns)
    whole.Rows, whole.Columns, whole.PixelData = *canvas.shape, canvas.tobytes()
    whole.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    cosines = np.array(first.ImageOrientationPatient, float).reshape(2, 3)
    steps = cosines * np.array(first.PixelSpacing, float)[::-1, None]
    half = (across - 1) / 2 * np.array([columns, rows])
    corner = np.array(first.ImagePositionPatient, float) - half @ steps
    whole.ImagePositionPatient = [f"{value:.6f}" for value in corner]
    along = np.subtract(images[-1].ImagePositionPatient, first.ImagePositionPatient).astype(float)
    csa = _csa(
        NumberOfImagesInMosaic=[len(images)],
        SliceNormalVector=along / np.linalg.norm(along),
        AcquisitionMatrixText=[f"{rows}p*{columns}"],
    )
    whole.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", csa)
    return [whole]


def _csa(**tags: Sequence[Any]) -> bytes:
    """Return a Siemens CSA header (type 2)."""
    out = b"SV10\4\3\2\1" + struct.pack("<2I", len(tags), 77)
    for name, values in tags.items():
        texts = [v.encode() if isinstance(v, str) else f"{v:.8f}".encode() for v in values]
        kind = b"SH" if isinstance(values[0], str) else b"FD"
        out += struct.pack("<64si4s3i", name.encode(), len(texts), kind, 4, len(texts), 77)
        for text in texts:
            out += struct.pack("<4i", len(text), len(text), 77, len(text))
            out += text + bytes(-len(text) % 4)
    return out


def without_meta(*, implicit: bool) -> Callable[[Images], list[bytes]]:
    """Return a function that writes images without preamble and meta header."""

    def encoded(images: Images) -> list[bytes]:
        bare = [pydicom.Dataset({e.tag: e for e in image}) for image in images]
        return [file_of(image, implicit_vr=implicit, little_endian=True) for image in bare]

    return encoded


IMPLICIT = under_syntax(ImplicitVRLittleEndian)
DEFLATED = under_syntax(DeflatedExplicitVRLittleEndian)
BIG_ENDIAN = under_syntax(ExplicitVRBigEndian)
