"""A whole result folder as a small summary, and the comparison of two with tolerances by field.

A summary is plain JSON: times, UIDs, texts and pictures are left out, maps are means of blocks. The
outlines are stored beside it, so that overlap can be measured.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
from pydicom.dataset import Dataset

BLOCK = 24
"""Voxels along an edge of the blocks over which maps are averaged."""
LEAST_DICE = 0.995
_MAPS = ("attention", "probability", "uncertainty")
_MASKS = ("segmentation", "candidates")
_TEXTS = frozenset({"message", "text", "time", "tracking_uid", "uid", "sop_instance_uid"})
_VOLATILE = re.compile(r"Date$|Time$|^SoftwareVersions$|^PixelData$|^FloatPixelData$")
_TOLERANCES = (
    (r"\bscore|probabilit|uncertainty|relevance|dice_without|\bblocks|attention", 0.02, 0.0),
    (r"_mm\b|affine", 0.5, 0.0),
    (r"volume_ml|voxels", 0.02, 0.01),
    (r"run\.", 0.0, 0.0),
    (r"", 0.01, 0.02),
)
"""Pattern of a field's place, and the absolute and relative difference that it may have."""


def summary_of(folder: Path) -> dict[str, Any]:
    """Return the summary of a result folder."""
    run = json.loads((folder / "run.json").read_text("utf-8"))
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return {
        "files": files,
        "findings": _without_texts(json.loads((folder / "findings.json").read_text("utf-8"))),
        "table": (folder / "findings.csv").read_text("utf-8").splitlines()[0].split(","),
        "run": {
            "keys": sorted(run),
            "inputs": run["inputs"],
            "weights_sha256": run["weights_sha256"],
            "stages": sorted({stage["name"] for stage in run["stages"]}),
        },
        "volumes": {name: _volume(folder / name) for name in files if name.endswith(".nii.gz")},
        "dicom": {
            name: dict(_elements(pydicom.dcmread(folder / name)))
            for name in files
            if name.endswith(".dcm")
        },
        "report": _Outline((folder / "report.html").read_text("utf-8")).parts,
    }


def outlines_of(folder: Path) -> dict[str, np.ndarray]:
    """Return the label maps whose overlap is compared."""
    found = {name: folder / f"{name}.nii.gz" for name in _MASKS}
    return {
        name: np.asarray(nib.load(path).dataobj).astype(np.uint8) for name, path in found.items()
    }


def differences(
    one: dict[str, Any],
    other: dict[str, Any],
    outlines: dict[str, np.ndarray],
    others: dict[str, np.ndarray],
) -> list[str]:
    """Return what differs beyond the tolerances, one line a field."""
    found = list(_differing("", one, other))
    for name, labels in outlines.items():
        if labels.shape != others[name].shape:
            found.append(f"{name}: shape {labels.shape} -> {others[name].shape}")
            continue
        for label in sorted(set(np.unique(labels)) | set(np.unique(others[name]))):
            ours, theirs = labels == label, others[name] == label
            dice = 2 * (ours & theirs).sum() / (ours.sum() + theirs.sum())
            if dice < LEAST_DICE:
                found.append(f"{name}: Dice {dice:.4f} of label {label}")
    return found


def _without_texts(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_texts(v) for k, v in value.items() if k not in _TEXTS}
    if isinstance(value, list):
        return [_without_texts(item) for item in value]
    return value


def _volume(path: Path) -> dict[str, Any]:
    image = nib.load(path)
    voxels = np.asarray(image.dataobj)
    about: dict[str, Any] = {
        "shape": list(image.shape),
        "affine": np.round(image.affine, 3).tolist(),
        "codes": [int(image.header["sform_code"]), int(image.header["qform_code"])],
    }
    if path.name.startswith(_MASKS):
        values, counts = np.unique(voxels, return_counts=True)
        return {**about, "voxels": dict(zip(map(str, values.tolist()), counts.tolist()))}  # noqa: B905
    edges = [range(0, n, BLOCK) for n in voxels.shape]
    blocks = [
        round(float(voxels[i : i + BLOCK, j : j + BLOCK, k : k + BLOCK].mean()), 3)
        for i in edges[0]
        for j in edges[1]
        for k in edges[2]
    ]
    return {**about, "maximum": round(float(voxels.max()), 2), "blocks": blocks}


def _labels(items: Sequence[Dataset]) -> list[str]:
    """Return a label of each item: the code of its concept, so that one more moves no other."""
    codes = [
        item.ConceptNameCodeSequence[0].CodeValue if "ConceptNameCodeSequence" in item else ""
        for item in items
    ]
    return [f"{code}#{codes[:n].count(code)}" for n, code in enumerate(codes)]


def _elements(data: Dataset, place: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the place of each element, and its value where that is no UID, time or text."""
    for element in data:
        name = f"{place}{element.keyword or element.tag}"
        if _VOLATILE.search(element.keyword):
            continue
        if element.VR == "SQ":
            items = element.value
            yield name, len(items)
            whole = len(items) <= 8 or element.keyword == "ContentSequence"
            shown = items if whole else [items[0], items[-1]]
            for item, label in zip(shown, _labels(shown), strict=True):
                yield from _elements(item, f"{name}[{label}].".replace("ContentSequence", "C"))
        elif element.VR in ("DS", "FL", "FD", "US", "SS", "UL", "IS"):
            empty = element.value is None or element.value == ""
            values = [] if empty else np.atleast_1d(np.asarray(element.value, float))
            yield name, [round(float(value), 3) for value in values]
        else:
            text = str(element.value)
            is_word = element.VR in ("CS", "SH", "LO", "PN") and len(text) <= 64
            is_code = element.keyword == "CodeValue"
            yield name, text if is_code or (is_word and not re.search(r"\d", text)) else None


class _Outline(HTMLParser):
    """The headings of a page, the heads of its tables, and how many pictures it has."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.parts: dict[str, Any] = {"headings": [], "columns": []}
        self._within = ""
        self.parts["pictures"] = page.count("data:image")
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self._within = {"h1": "headings", "h2": "headings", "h3": "headings", "th": "columns"}.get(
            tag, self._within
        )

    def handle_endtag(self, tag: str) -> None:
        if tag in ("h1", "h2", "h3", "th"):
            self._within = ""

    def handle_data(self, data: str) -> None:
        if self._within and data.strip():
            self.parts[self._within].append(re.sub(r"[\d.,]+", "#", data.strip()))


def _differing(place: str, one: Any, other: Any) -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            here = f"{place}.{key}".strip(".")
            if key not in one or key not in other:
                yield f"{here}: {'added' if key in other else 'gone'}"
            else:
                yield from _differing(here, one[key], other[key])
    elif isinstance(one, list) and isinstance(other, list):
        if all(isinstance(item, str) for item in (*one, *other)):
            yield from (f"{place}: gone: {item}" for item in one if item not in other)
            yield from (f"{place}: added: {item}" for item in other if item not in one)
            return
        if len(one) != len(other):
            yield f"{place}: {len(one)} -> {len(other)} items"
            return
        for number, (ours, theirs) in enumerate(zip(one, other, strict=True)):
            yield from _differing(f"{place}[{number}]", ours, theirs)
    elif isinstance(one, float | int) and isinstance(other, float | int):
        absolute, relative = next(t for p, *t in _TOLERANCES if re.search(p, place))
        if abs(one - other) > absolute + relative * abs(one):
            yield f"{place}: {one} -> {other}"
    elif one != other:
        yield f"{place}: {one!r} -> {other!r}"
