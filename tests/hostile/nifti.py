"""NIfTI studies that are wrong in a header, a stream or a sidecar, made of twelve cubed voxels."""

from __future__ import annotations

import gzip
import io
import json
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from tests.hostile.judge import AS_STATED, READ, REFUSED, SET_ASIDE

SHAPE = (12, 12, 12)
Build = Callable[[Path], None]
HEAD: dict[str, tuple[str, int]] = {
    "sizeof_hdr": ("i", 0), "dim": ("8h", 40), "datatype": ("h", 70), "bitpix": ("h", 72),
    "pixdim": ("8f", 76), "vox_offset": ("f", 108), "scl_slope": ("f", 112),
    "scl_inter": ("f", 116), "xyzt_units": ("B", 123), "qform_code": ("h", 252),
    "sform_code": ("h", 254), "quatern": ("3f", 256), "srow": ("12f", 280), "magic": ("4s", 344),
}  # fmt: skip
BIG = 3.4e38


def voxels() -> np.ndarray:
    """A ball of some contrast: what a head is to the checks of the voxels."""
    grid = np.indices(SHAPE).astype(np.float32) - 5.5
    radius = np.sqrt((grid**2).sum(axis=0))
    return (100 * np.clip(6 - radius, 0, 5) + grid[0]).astype(np.float32)


def image() -> bytes:
    """A whole file as bytes."""
    made = nib.Nifti1Image(voxels(), np.diag((4.0, 4.0, 4.0, 1.0)))
    made.header.set_xyzt_units("mm")
    return made.to_bytes()


def with_field(name: str, *values: object) -> bytes:
    """The same file with another value in one field of its header."""
    raw = bytearray(image())
    form, at = HEAD[name]
    struct.pack_into(f"<{form}", raw, at, *values)
    return bytes(raw)


def plain(content: bytes, name: str = "t1c.nii") -> Build:
    return lambda folder: (folder / name).write_bytes(content) and None


def zipped(content: bytes) -> Build:
    return plain(gzip.compress(content, mtime=0), "t1c.nii.gz")


def _bomb(field: tuple[str, object] | None = None) -> Build:
    """Two hundred megabytes of zeros in a file of 200 kB."""
    content = with_field(field[0], field[1]) if field else image()
    return lambda folder: (
        (folder / "t1c.nii.gz").write_bytes(gzip.compress(content + bytes(200 * 2**20), 1, mtime=0))
        and None
    )


def _sidecar(text: str) -> Build:
    def build(folder: Path) -> None:
        (folder / "t1c.nii").write_bytes(image())
        (folder / "t1c.json").write_text(text)

    return build


def _odd(kind: str) -> Build:
    def build(folder: Path) -> None:
        place = folder / "t1c.nii"
        if kind == "fifo":
            os.mkfifo(place)
        elif kind == "socket":
            listening = socket.socket(socket.AF_UNIX)
            os.chdir(folder)
            listening.bind(place.name)
            listening.close()
        elif kind == "device":
            place.symlink_to("/dev/zero")
        elif kind == "loop":
            place.symlink_to(place.name)
        elif kind == "dangling":
            place.symlink_to("nowhere")
        else:
            place.mkdir()

    return build


def _pair(folder: Path) -> None:
    made = nib.Nifti1Pair(voxels(), np.diag((4.0, 4.0, 4.0, 1.0)))
    nib.save(made, folder / "t1c.hdr")


def _member(tail: bytes) -> bytes:
    return gzip.compress(image(), mtime=0) + tail


def _many(folder: Path) -> None:
    for number in range(200):
        (folder / f"{number}_t1c.nii").write_bytes(image()[:400])


def _extension(size: int) -> bytes:
    raw = bytearray(image())
    raw[348] = 1
    return bytes(raw[:352]) + struct.pack("<2i", size, 6) + bytes(raw[360:])


def _mgh() -> bytes:
    held = io.BytesIO()
    made = nib.MGHImage(voxels(), np.eye(4))
    made.to_file_map({"image": nib.FileHolder(fileobj=held)})
    return held.getvalue()


FIELDS: dict[str, tuple[str, tuple[object, ...]]] = {
    **{f"dim {dims}": ("dim", tuple(dims)) for dims in (
        (3, -1, 12, 12, 1, 1, 1, 1), (3, 0, 12, 12, 1, 1, 1, 1), (0, 0, 0, 0, 0, 0, 0, 0),
        (3, 32767, 32767, 32767, 1, 1, 1, 1), (7, 12, 12, 12, 2, 2, 2, 2),
        (4, 12, 12, 12, 30000, 1, 1, 1), (2, 12, 12, 1, 1, 1, 1, 1), (1, 1728, 1, 1, 1, 1, 1, 1),
        (-3, 12, 12, 12, 1, 1, 1, 1), (8, 12, 12, 12, 1, 1, 1, 1), (32767, 12, 12, 12, 1, 1, 1, 1),
        (3, 12, 12, 2, 1, 1, 1, 1), (5, 12, 12, 12, 1, 3, 1, 1),
    )},
    **{f"datatype {code}": ("datatype", (code,)) for code in (
        0, 1, 32, 128, 1536, 1792, 2048, 2304, -1, 9999, 255)},
    **{f"pixdim {edges}": ("pixdim", tuple(edges)) for edges in (
        (1, 0, 4, 4, 1, 1, 1, 1), (1, -4, 4, 4, 1, 1, 1, 1), (1, np.nan, 4, 4, 1, 1, 1, 1),
        (1, np.inf, 4, 4, 1, 1, 1, 1), (np.nan, 4, 4, 4, 1, 1, 1, 1), (1, 1e-30, 4, 4, 1, 1, 1, 1),
    )},
    **{f"vox_offset {at}": ("vox_offset", (at,)) for at in (
        -1.0, -1e9, np.nan, np.inf, 1e9, BIG, 2.0**31, 1.0, 353.5)},
    **{f"scl_slope {by}": ("scl_slope", (by,)) for by in (np.inf, -np.inf, BIG, -BIG, 1e-45)},
    **{f"scl_inter {by}": ("scl_inter", (by,)) for by in (np.inf, -np.inf, BIG)},
    **{f"srow {row[:2]}": ("srow", row) for row in (
        (0.0,) * 12, (np.nan,) * 12, (np.inf,) * 12, (BIG,) * 12, (1e-30,) * 12,
        (4.0, 4, 0, 0, 0, 4, 0, 0, 0, 0, 4, 0), (4.0, 0, 0, 1e9, 0, 4, 0, 0, 0, 0, 4, 0),
        (40.0, 0, 0, 0, 0, 40, 0, 0, 0, 0, 40, 0), (0.1, 0, 0, 0, 0, 0.1, 0, 0, 0, 0, 0.1, 0),
    )},
    "no orientation": ("sform_code", (0,)),
    "sform of an unknown code": ("sform_code", (77,)),
    "a magic of another format": ("magic", (b"zzz\0",)),
    "the magic of a pair": ("magic", (b"ni1\0",)),
    "a header of another size": ("sizeof_hdr", (347,)),
    "a header of size zero": ("sizeof_hdr", (0,)),
    "units that do not exist": ("xyzt_units", (255,)),
}  # fmt: skip
DEEP = "[" * 100_000
STUDIES: dict[str, Build] = {
    **{f"nifti {name}": plain(with_field(field, *values)) for name, (field, values) in
       FIELDS.items()},
    **{f"nifti.gz {name}": zipped(with_field(*FIELDS[name][:1], *FIELDS[name][1])) for name in (
        "vox_offset 1000000000.0", "vox_offset inf", "dim (3, 32767, 32767, 32767, 1, 1, 1, 1)",
        "datatype 2304")},
    "nifti empty": plain(b""),
    "nifti of one byte": plain(b"\x5c"),
    "nifti that ends in its header": plain(image()[:200]),
    "nifti without voxels": plain(image()[:352]),
    "nifti that lacks its last byte": plain(image()[:-1]),
    "nifti of zeros": plain(bytes(5000)),
    "nifti of random bytes": plain(np.random.default_rng(0).bytes(5000)),
    "nifti that is gzip": plain(gzip.compress(image(), mtime=0)),
    "nifti.gz that is not gzip": plain(image(), "t1c.nii.gz"),
    "nifti.gz cut": plain(gzip.compress(image(), mtime=0)[:-200], "t1c.nii.gz"),
    "nifti.gz without its checksum": plain(gzip.compress(image(), mtime=0)[:-8], "t1c.nii.gz"),
    "nifti.gz with garbage behind": plain(_member(b"garbage" * 9), "t1c.nii.gz"),
    "nifti.gz twice": zipped(gzip.compress(image(), mtime=0)),
    "nifti.gz bomb behind the voxels": _bomb(),
    "nifti.gz bomb before the voxels": _bomb(("vox_offset", 2.0**27)),
    "nifti extension of negative size": plain(_extension(-16)),
    "nifti extension of two gigabytes": plain(_extension(2**31 - 16)),
    "nifti.gz extension of two gigabytes": zipped(_extension(2**31 - 16)),
    "mgh under the name of nifti": plain(_mgh()),
    "html under the name of nifti": plain(b"<html>404 not found</html>"),
    "pair of hdr and img": _pair,
    "hdr without img": lambda folder: (_pair(folder), (folder / "t1c.img").unlink())[0],
    **{f"{kind} in place of a file": _odd(kind) for kind in (
        "fifo", "socket", "device", "loop", "dangling", "folder")},
    "two hundred broken files of one name": _many,
    "sidecar of deep brackets": _sidecar(DEEP),
    "sidecar that is a list": _sidecar("[1, 2]"),
    "sidecar of numbers for words": _sidecar(json.dumps({"SeriesDescription": 7, "PatientID": []})),
    "sidecar of ten megabytes": _sidecar(json.dumps({"SeriesDescription": "x" * 10**7})),
    "sidecar with NaN and surrogates": _sidecar('{"EchoTime": NaN, "PatientName": "\\ud800"}'),
    "sidecar of a number of 5000 digits": _sidecar('{"RepetitionTime": ' + "9" * 5000 + "}"),
    **{f"voxels of {name}": plain(nib.Nifti1Image(
        np.full(SHAPE, value, np.float32), np.diag((4.0, 4.0, 4.0, 1.0))).to_bytes())
       for name, value in (("zero", 0), ("NaN", np.nan), ("infinity", np.inf), ("one", 1))},
}  # fmt: skip
EXPECTED = dict.fromkeys(STUDIES, REFUSED)
"""What becomes of each study."""
EXPECTED |= dict.fromkeys(
    (
        *(name for name in STUDIES if name.startswith("nifti pixdim")),  # the sform counts
        "nifti srow (4.0, 0)", "nifti the magic of a pair", "nifti units that do not exist",
        "nifti that is gzip", "nifti.gz that is not gzip",
        "nifti.gz bomb behind the voxels", "sidecar that is a list",
        "sidecar of numbers for words",
    ),
    READ,
)  # fmt: skip
EXPECTED |= dict.fromkeys(
    (*(f"nifti srow {row}" for row in ("(4.0, 4)", "(40.0, 0)", "(0.1, 0)")),  # pixdim differs
     "sidecar of deep brackets", "sidecar of ten megabytes",
     "sidecar with NaN and surrogates", "sidecar of a number of 5000 digits"), SET_ASIDE,
)  # fmt: skip
EXPECTED |= dict.fromkeys(
    ("nifti scl_slope 1e-45", "nifti extension of negative size",
     "nifti extension of two gigabytes", "nifti.gz extension of two gigabytes"), AS_STATED,
)  # fmt: skip
