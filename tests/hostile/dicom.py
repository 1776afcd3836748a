"""DICOM studies of which one file, or each, says something that no scanner would."""

from __future__ import annotations

import os
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
from pydicom.datadict import dictionary_VR
from pydicom.tag import Tag
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)
from tests.hostile.judge import AS_STATED, READ, REFUSED, SET_ASIDE

Break = Callable[[list[Path]], None]
HUGE = "9" * 400


def tags(*, all_files: bool = True, **values: Any) -> Break:
    """Set attributes as they stand, whatever the standard says of them; None takes one away."""

    def act(files: list[Path]) -> None:
        for path in files if all_files else files[len(files) // 2 :][:1]:
            data = pydicom.dcmread(path)
            for keyword, value in values.items():
                if value is None:
                    del data[keyword]
                else:
                    setattr(data, keyword, value)
            data.save_as(path)

    return act


def raw(keyword: str, value: bytes) -> Break:
    """Write bytes as the value of an attribute, which pydicom would refuse."""
    tag = Tag(keyword)
    head = struct.pack("<2H", tag.group, tag.element) + dictionary_VR(tag).encode()
    padded = value + b" " * (len(value) % 2)

    def change(whole: bytes) -> bytes:
        at = whole.index(head) + 6
        (size,) = struct.unpack_from("<H", whole, at)
        return whole[:at] + struct.pack("<H", len(padded)) + padded + whole[at + 2 + size :]

    return content(change, all_files=True)


def content(change: Callable[[bytes], bytes], *, all_files: bool = False) -> Break:
    """Change the bytes of the middle file, or of each."""

    def act(files: list[Path]) -> None:
        for path in files if all_files else files[len(files) // 2 :][:1]:
            path.write_bytes(change(path.read_bytes()))

    return act


def syntax(uid: str) -> Break:
    """Claim another transfer syntax than the bytes are in."""

    def change(whole: bytes) -> bytes:
        old = b"1.2.840.10008.1.2.1\0"
        return whole.replace(old, uid.encode()[:20].ljust(20, b"\0"), 1)

    return content(change, all_files=True)


def deflated_bomb(files: list[Path]) -> None:
    """Eight hundred megabytes of zeros in a private element of a file of one megabyte."""
    path = files[0]
    data = pydicom.dcmread(path)
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data.save_as(path, enforce_file_format=True)
    whole = path.read_bytes()
    start = 144 + int.from_bytes(whole[140:144], "little")
    body = zlib.decompress(whole[start:], -zlib.MAX_WBITS)
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    with path.open("wb") as stream:
        stream.write(whole[:start] + packer.compress(body))
        stream.write(packer.compress(b"\xe1\x7f\x10\0OB\0\0" + (800 * 2**20).to_bytes(4, "little")))
        for _ in range(800):
            stream.write(packer.compress(bytes(2**20)))
        stream.write(packer.flush())


def beside(make: Callable[[Path], None]) -> Break:
    """Put something odd into the folder of the images."""
    return lambda files: make(files[0].parent)


def doubled(**values: Any) -> Break:
    """Copy every second file under another UID, with other values."""

    def act(files: list[Path]) -> None:
        for number, path in enumerate(files[::2]):
            data = pydicom.dcmread(path)
            uid = f"1.2.3.{number + 1}"
            data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = uid
            for keyword, value in values.items():
                setattr(data, keyword, value)
            data.save_as(path.with_name(f"other-{number}"))

    return act


STUDIES: dict[str, Break] = {
    **{f"without {key}": tags(**{key: None}) for key in (
        "Rows", "Columns", "PixelData", "PixelSpacing", "ImagePositionPatient",
        "ImageOrientationPatient", "FrameOfReferenceUID", "SeriesInstanceUID", "StudyInstanceUID",
        "SOPInstanceUID", "BitsAllocated", "PixelRepresentation", "SamplesPerPixel",
        "PhotometricInterpretation", "Modality", "PatientID", "SOPClassUID",
    )},
    **{f"one file without {key}": tags(all_files=False, **{key: None}) for key in (
        "Rows", "PixelData", "PixelSpacing", "ImagePositionPatient", "FrameOfReferenceUID")},
    **{f"{key} {value!r}"[:60]: tags(**{key: value}) for key, value in (
        ("Rows", 65535), ("Rows", 0), ("Rows", 1), ("Columns", 65535), ("BitsAllocated", 1),
        ("BitsAllocated", 64), ("BitsAllocated", 7), ("SamplesPerPixel", 3),
        ("PixelRepresentation", 9), ("PhotometricInterpretation", "PALETTE COLOR"),
        ("PhotometricInterpretation", "NONSENSE"), ("RescaleSlope", 0), ("RescaleSlope", 1e30),
        ("PixelSpacing", [0, 0]), ("PixelSpacing", [-1, 1]), ("PixelSpacing", [1e9, 1e9]),
        ("PixelSpacing", [4]), ("ImageOrientationPatient", [0, 0, 0, 0, 0, 0]),
        ("ImageOrientationPatient", [1, 0, 0, 1, 0, 0]), ("ImagePositionPatient", [0, 0, 0]),
        ("ImageOrientationPatient", [2, 0, 0, 0, 2, 0]), ("NumberOfFrames", 2**31 - 1),
        ("NumberOfFrames", 0), ("Modality", "CT"), ("FrameOfReferenceUID", ""),
        ("StudyInstanceUID", ""), ("SeriesDescription", "<script>alert(1)</script>"),
        ("SeriesDescription", "x" * 60_000), ("PatientName", "\x1b[31m\x07"),
        ("SpecificCharacterSet", "NONSENSE"), ("SpecificCharacterSet", ["ISO 2022 IR 6"] * 40),
    )},
    **{f"{key} of bytes {value[:9]!r}": raw(key, value) for key, value in (
        ("PixelSpacing", b"four\\4"), ("PixelSpacing", b"4\\NaN"), ("PixelSpacing", b"inf\\4"),
        ("ImagePositionPatient", b"1e999\\0\\0"), ("ImagePositionPatient", b"\\\\"),
        ("ImagePositionPatient", HUGE.encode() + b"\\0\\0"), ("RepetitionTime", b"\xff\xfe"),
        ("EchoTime", b"1,5"), ("ImageOrientationPatient", b"1\\0\\0\\0\\1"),
        ("PatientName", b"\xff\xfe\xfd\x00"), ("StudyDate", b"99999999"),
        ("StudyDate", b"yesterday"), ("SeriesInstanceUID", b"../../etc/passwd"),
        ("SOPInstanceUID", b"1." + b"9" * 300), ("StudyInstanceUID", b"\\\\\\"),
    )},
    **{f"under the syntax {name}": syntax(str(uid)) for name, uid in (
        ("implicit", ImplicitVRLittleEndian), ("big endian", ExplicitVRBigEndian),
        ("JPEG 2000", JPEG2000), ("RLE", RLELossless), ("none", "1.2.3"))},
    "a file cut in its header": content(lambda whole: whole[:400]),
    "a file cut in its pixels": content(lambda whole: whole[:-100]),
    "a file cut by a byte": content(lambda whole: whole[:-1]),
    "a file without preamble": content(lambda whole: whole[132:]),
    "a file of its preamble alone": content(lambda whole: whole[:132]),
    "an empty file": content(lambda _: b""),
    "every file cut in its pixels": content(lambda whole: whole[:-100], all_files=True),
    "garbage in the header": content(lambda w: w[:600] + random.Random(0).randbytes(200) + w[800:]),
    "an element of undefined length": content(
        lambda w: w[:-12] + b"\xff\xff\xff\xff" * 3, all_files=True),
    "a deflated bomb": deflated_bomb,
    "a deflated file that is none": syntax(str(DeflatedExplicitVRLittleEndian)),
    "a DICOMDIR of garbage": beside(
        lambda f: (f / "DICOMDIR").write_bytes(bytes(128) + b"DICM" + b"\xff" * 99) and None),
    "a fifo beside": beside(lambda f: os.mkfifo(f / "IM0000")),
    "a device beside": beside(lambda f: (f / "IM0000").symlink_to("/dev/zero")),
    "a loop of folders beside": beside(lambda f: (f / "again").symlink_to(f)),
    "a name that is no text": beside(lambda f: (f / os.fsdecode(b"\xff\xfe.dcm")).touch()),
    "two patients": doubled(PatientID="another", SeriesInstanceUID="1.2.9"),
    "two patients in one series": doubled(PatientID="another"),
    "two studies": doubled(StudyInstanceUID="1.2.8", SeriesInstanceUID="1.2.9"),
    "two frames of reference": doubled(FrameOfReferenceUID="1.2.7"),
    "every second slice twice": doubled(),
    "slices of two sizes": doubled(Rows=3, ImagePositionPatient=[0, 0, 500]),
}  # fmt: skip

EXPECTED = dict.fromkeys(STUDIES, REFUSED)
"""What becomes of each study."""
EXPECTED |= dict.fromkeys(
    (
        *(f"without {key}" for key in (
            "FrameOfReferenceUID", "Modality", "PatientID", "SOPClassUID")),
        "NumberOfFrames 0", "Modality 'CT'", "FrameOfReferenceUID ''",
        "SeriesDescription '<script>alert(1)</script>'", f"SeriesDescription {'x' * 60!r}"[:60],
        f"PatientName {chr(27) + '[31m' + chr(7)!r}", "SpecificCharacterSet 'NONSENSE'",
        f"SpecificCharacterSet {['ISO 2022 IR 6'] * 40!r}"[:60],
        *(f"{key} of bytes {value!r}" for key, value in (
            ("RepetitionTime", b"\xff\xfe"), ("EchoTime", b"1,5"), ("StudyDate", b"99999999"),
            ("PatientName", b"\xff\xfe\xfd\x00"), ("StudyDate", b"yesterday"),
            ("SeriesInstanceUID", b"../../etc"), ("StudyInstanceUID", b"\\\\\\"))),
        "under the syntax implicit", "a file without preamble",
        "a fifo beside", "a device beside", "a loop of folders beside",
    ),
    READ,
)  # fmt: skip
EXPECTED |= dict.fromkeys(
    ("a deflated bomb", "a DICOMDIR of garbage", "a name that is no text",
     "two frames of reference", "slices of two sizes"), SET_ASIDE,
)  # fmt: skip
EXPECTED |= dict.fromkeys(("RescaleSlope 1e+30", "an element of undefined length"), AS_STATED)
