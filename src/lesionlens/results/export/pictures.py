"""Report images: a grey slice as WebP, with contours, markers and scale bar as SVG."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.measure import find_contours

from lesionlens.analysis.explain.maps import by_logarithm
from lesionlens.base.labels import Label, MrSequence, Region
from lesionlens.results.export import wording
from lesionlens.results.export.slices import Cut, SliceScene, ViewPlane

ATTENTION_COLOUR = "#CC79A7"
"""Colour of the attention contour (Okabe and Ito's reddish purple)."""
ATTENTION_LEVEL = 0.5
"""Level of the attention contour: half of the map's full scale."""
HEAT_STOPS = (
    *("#000004", "#210c4a", "#57106e", "#8a226a", "#bc3754"),
    *("#e45a31", "#f98e09", "#f9cb35", "#fcffa4"),
)
"""Nine evenly spaced colours of matplotlib's `inferno` (CC0): perceptually even."""
MIN_HEAT = 0.1
"""Attention below this share of the scale is not shown."""
WEBP_QUALITY = 82
BAR_MM = 50
_OVERVIEW_SLICES = 8
_TOLERANCE_PX = 0.2  # by which a contour may be simplified


@dataclass(frozen=True, slots=True)
class ContourPath:
    """A closed line over an image, in image voxels."""

    region: Region | None
    """The outlined region, the whole tumour's for a cavity; None for attention."""
    colour: str
    path: str


@dataclass(frozen=True, slots=True)
class Box:
    """A candidate's bounding box on a slice, in image voxels, with its number."""

    x: int
    y: int
    width: int
    height: int
    number: int


@dataclass(frozen=True, slots=True)
class ReportPicture:
    """One image of the report; lengths in working voxels (1 mm)."""

    title: str
    caption: str
    href: str
    width: int
    height: int
    markers: tuple[str, str]
    bar: float
    """Length of the scale bar; 0 if the image is too narrow for it."""
    outlines: tuple[ContourPath, ...] = field(default=())
    box: Box | None = None


@dataclass(frozen=True, slots=True)
class CandidatePictures:
    """Images of one candidate."""

    sequences: tuple[ReportPicture, ...]
    heat: ReportPicture | None
    planes: tuple[ReportPicture, ...]


def candidate_pictures(
    scene: SliceScene, number: int, reference: MrSequence, *, trusted: bool
) -> CandidatePictures:
    """Render a candidate: each sequence at its best axial slice, attention, and two more planes.

    Parameters
    ----------
    reference : MrSequence
        Sequence under the attention and the other planes.
    trusted : bool
        False omits the attention contour, because its map failed a check.
    """
    cuts = scene.cuts(number)
    layers = {
        plane: (outlines_of(scene, cut, attention=trusted), box_of(scene, number, cut))
        for plane, cut in cuts.items()
    }
    axial = cuts[ViewPlane.AXIAL]
    caption = f"axial, z = {wording.number(scene.position_mm(axial), 0)} mm"
    sequences = tuple(
        _picture(axial, scene, scene.grey(s, axial), (s.display_name, caption), layers[axial.plane])
        for s in scene.images
    )
    heat = scene.attention(Region.WT, axial)
    heat_picture = None
    if heat is not None:
        heat = by_logarithm(heat, scene.full_scale(Region.WT))
        colours = heated(scene.grey(reference, axial), heat)
        captions = ("Attention", f"whole tumour, on {reference.display_name}")
        heat_picture = _picture(axial, scene, colours, captions, layers[axial.plane])
    planes = tuple(
        _picture(
            cuts[plane],
            scene,
            scene.grey(reference, cuts[plane]),
            (plane.value.capitalize(), _caption(scene, reference, cuts[plane])),
            layers[plane],
        )
        for plane in (ViewPlane.CORONAL, ViewPlane.SAGITTAL)
    )
    return CandidatePictures(sequences, heat_picture, planes)


def _caption(scene: SliceScene, sequence: MrSequence, cut: Cut) -> str:
    position = wording.number(scene.position_mm(cut), 0)
    return f"{sequence.display_name}, {'xyz'[cut.plane.fixed]} = {position} mm"


def box_of(scene: SliceScene, number: int, cut: Cut) -> Box | None:
    """Return a candidate's box on a slice, padded by a voxel; None outside it."""
    rows, columns = np.nonzero(scene.candidate(number, cut))
    if not rows.size:
        return None
    top, left = int(rows.min()) - 2, int(columns.min()) - 2
    return Box(left, top, int(columns.max()) + 3 - left, int(rows.max()) + 3 - top, number)


def overview_pictures(scene: SliceScene, reference: MrSequence) -> tuple[ReportPicture, ...]:
    """Render axial slices of the reference, for a study without a candidate."""
    return tuple(
        _picture(
            cut,
            scene,
            scene.grey(reference, cut),
            (reference.display_name, f"axial, z = {wording.number(scene.position_mm(cut), 0)} mm"),
            ((), None),
        )
        for cut in scene.overview(_OVERVIEW_SLICES)
    )


def _picture(
    cut: Cut,
    scene: SliceScene,
    pixels: NDArray[np.uint8],
    labels: tuple[str, str],
    layers: tuple[tuple[ContourPath, ...], Box | None],
) -> ReportPicture:
    height, width = pixels.shape[:2]
    bar = BAR_MM / scene.edge_mm
    return ReportPicture(
        title=labels[0],
        caption=labels[1],
        href=encoded(pixels),
        width=width,
        height=height,
        markers=cut.plane.markers,
        bar=bar if bar + 8 <= width else 0.0,
        outlines=layers[0],
        box=layers[1],
    )


def encoded(pixels: NDArray[np.uint8]) -> str:
    """Encode (rows, columns) grey or (rows, columns, 3) RGB pixels as a WebP data URI."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=WEBP_QUALITY, method=2)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def outlines_of(scene: SliceScene, cut: Cut, *, attention: bool) -> tuple[ContourPath, ...]:
    """Return the contours of the regions, largest first, and of the attention on a slice."""
    contours = [
        ContourPath(region, region.colour, path_of(scene.region(region, cut), 0.5))
        for region in Region
    ]
    cavity = scene.cavity(cut)
    if cavity is not None:
        contours.append(ContourPath(Region.WT, Label.CAVITY.colour, path_of(cavity, 0.5)))
    heat = scene.attention(Region.WT, cut) if attention else None
    if heat is not None:
        contours.append(ContourPath(None, ATTENTION_COLOUR, path_of(heat, ATTENTION_LEVEL)))
    return tuple(outline for outline in contours if outline.path)


def path_of(values: NDArray[np.bool_] | NDArray[np.float32], level: float) -> str:
    """Return the SVG path of a contour; (0, 0) is the outer corner of the first pixel.

    Examples
    --------
    >>> path_of(np.array([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]), 0.5)
    'M1.5,2.0 1.0,1.5 1.5,1.0 2.0,1.5Z'
    """
    padded = np.pad(np.asarray(values, dtype=np.float32), 1)
    parts = []
    for line in find_contours(padded, level):
        points = _simplified(line)[:-1] - 0.5
        parts.append("M" + " ".join(f"{x:.1f},{y:.1f}" for y, x in points) + "Z")
    return "".join(parts)


def _simplified(line: NDArray[np.float64]) -> NDArray[np.float64]:
    """Simplify a closed line within `_TOLERANCE_PX`.

    Ramer 1972; Douglas and Peucker 1973. (Importing scikit-image's version takes almost a second.)
    """
    kept_indices = {0, len(line) - 1}
    spans = [(0, len(line) - 1)]
    while spans:
        first, last = spans.pop()
        offsets = line[first + 1 : last] - line[first]
        if not len(offsets):
            continue
        chord = line[last] - line[first]
        along = np.clip(offsets @ chord / max(chord @ chord, 1e-12), 0, 1)
        distances = np.linalg.norm(offsets - along[:, None] * chord, axis=1)
        farthest = int(distances.argmax())
        if distances[farthest] > _TOLERANCE_PX:
            split = first + 1 + farthest
            kept_indices.add(split)
            spans += [(first, split), (split, last)]
    return line[sorted(kept_indices)]


def heated(grey: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Overlay a map on a grey slice, with opacity increasing with its value.

    Parameters
    ----------
    grey : (rows, columns) uint8
        The slice.
    heat : (rows, columns) float32
        0 to 1.

    Returns
    -------
    (rows, columns, 3) uint8
        Grey below `MIN_HEAT`, up to three quarters of the map's colour at 1.
    """
    stops = np.array([rgb(colour) for colour in HEAT_STOPS], float)
    scale = np.linspace(0, 1, len(stops))
    colours = np.stack([np.interp(heat, scale, stops[:, c]) for c in range(3)], axis=-1)
    opacity = 0.75 * np.clip((heat - MIN_HEAT) / (0.5 - MIN_HEAT), 0, 1)[..., None]
    return np.asarray(grey[..., None] * (1 - opacity) + colours * opacity, dtype=np.uint8)


def rgb(colour: str) -> tuple[int, int, int]:
    """Return red, green and blue, 0 to 255, of #rrggbb.

    Examples
    --------
    >>> rgb("#E69F00")
    (230, 159, 0)
    """
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue
