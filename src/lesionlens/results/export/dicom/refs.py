"""Source instances of the reference series: headers, and each frame's position on the grid.

No order of axes is assumed: every source pixel is mapped to the native grid by its DICOM position
(LPS) and the grid's affine (RAS), and a frame that does not match voxels is refused. Therefore
flipped, sagittal, oblique and sheared series are exported correctly.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from highdicom import PlanePositionSequence
from highdicom.enum import CoordinateSystemNames
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from lesionlens.base import geometry
from lesionlens.base.errors import ExportError, ReadError
from lesionlens.base.grid import Grid
from lesionlens.base.records.patient import in_words
from lesionlens.base.records.study import Series, SourceFile
from lesionlens.imaging.reading.dicom.files import DAMAGED, read_dicom
from lesionlens.imaging.reading.dicom.series import MAX_OFFSET_VOX
from lesionlens.results.export.dicom import values
from lesionlens.results.export.dicom.copied_attributes import GEOMETRY, copied_attributes

_MAX_OUTERMOST_OFFSET_VOX = 0.05
"""Maximum distance of a pixel of the first and the last slice, between which the grid was laid."""
_SQUARE_TOLERANCE = 0.01
"""Maximum difference of the two spacings of square pixels, as a share of one."""
_GEOMETRY_TAGS = tuple(Tag(keyword) for keyword in GEOMETRY)


@dataclass(frozen=True, slots=True)
class FramePlacement:
    """How one frame (rows, columns) is cut from a volume (I, J, K)."""

    fixed: int
    index: int
    """The voxel axis perpendicular to the frame, and the frame's index on it."""
    row_axis: int
    column_axis: int
    """The voxel axes of the row index and the column index."""
    rows_reversed: bool
    columns_reversed: bool
    """Whether they run from high to low voxel indices."""

    def upright(self, volume: NDArray[Any]) -> NDArray[Any]:
        """Return a volume (I, J, K) as (slices, rows, columns) along the frame's axes, a view."""
        slices = volume.transpose(self.fixed, self.row_axis, self.column_axis)
        return slices[:, :: -1 if self.rows_reversed else 1, :: -1 if self.columns_reversed else 1]


@dataclass(frozen=True, slots=True, eq=False)
class SourceFrames:
    """The reference series in the form that highdicom requires."""

    datasets: tuple[Dataset, ...]
    """Headers without pixels: one per frame, or the one multi-frame instance."""
    frame_numbers: tuple[int, ...] | None
    """Frame numbers (from 1) within the multi-frame instance."""
    planes: NDArray[np.float64]
    """(F, 3, 3) float64: map of each frame from (column, row, 1) to LPS+ mm."""
    placements: tuple[FramePlacement, ...]
    """Position of each frame on the native grid."""
    rows: int
    columns: int
    """Rows and columns of a frame."""
    grid: Grid
    """The native grid."""
    notices: tuple[str, ...] = ()
    """Notices about header values that cannot be copied."""

    @property
    def positions(self) -> NDArray[np.float64]:
        """ImagePositionPatient of each frame, (F, 3), LPS+ mm."""
        return self.planes[:, :, 2]

    @property
    def normal(self) -> NDArray[np.float64]:
        """The slice normal, (3,), LPS+: row direction x column direction."""
        across = np.cross(self.planes[0, :, 0], self.planes[0, :, 1])
        return np.asarray(across / np.linalg.norm(across))

    @property
    def has_square_pixels(self) -> bool:
        """Whether rows and columns are equally far apart, within a hundredth."""
        column_mm, row_mm = np.linalg.norm(self.planes[0, :, :2], axis=0)
        return bool(abs(column_mm / row_mm - 1.0) <= _SQUARE_TOLERANCE)

    def stack(self, volume: NDArray[Any]) -> NDArray[Any]:
        """Return a native volume (I, J, K) as frames (F, rows, columns) of the source.

        A view if the frames are in the order of the volume's slices, else a copy.
        """
        slices = self.placements[0].upright(volume)
        indices = [placement.index for placement in self.placements]
        return slices if indices == list(range(len(slices))) else slices[indices]

    def plane_positions(
        self, frames: NDArray[np.intp], corner: tuple[int, int] = (0, 0)
    ) -> list[PlanePositionSequence]:
        """Return the positions of chosen frames as DICOM items.

        Parameters
        ----------
        corner : (2,) int
            Row and column, in the source, of the first pixel of cropped frames.
        """
        row, column = corner
        points = ((plane @ (column, row, 1.0)).tolist() for plane in self.planes[frames])
        return [PlanePositionSequence(CoordinateSystemNames.PATIENT, point) for point in points]

    def images(self, frames: NDArray[np.intp]) -> list[Dataset]:
        """Return the source datasets of chosen frames (all of a multi-frame instance)."""
        if self.frame_numbers is not None:
            return list(self.datasets)
        return [self.datasets[frame] for frame in frames]

    def reference(self, frame: int) -> tuple[Dataset, list[int] | None]:
        """Return a frame's dataset, and its frame number if it is multi-frame."""
        if self.frame_numbers is None:
            return self.datasets[frame], None
        return self.datasets[0], [self.frame_numbers[frame]]


def read_sources(series: Series) -> SourceFrames:
    """Read the headers of a series and locate every frame on its grid.

    Raises
    ------
    ReadError
        A file is missing, or is not the analysed one.
    ExportError
        A frame does not match the grid's voxels, the grid has voxels without a source, or the
        series is spread over several multi-frame files.
    """
    files = tuple({file.path: file for file in series.files}.values())
    headers, notices = _headers(files)
    if len({header.SeriesInstanceUID for header in headers}) > 1:
        raise ExportError(
            "The images of the reference have different Series Instance UIDs, so that no DICOM "
            "object can point at them as one series.",
            hint="Export the series again; the other files of the result are whole.",
        )
    if "PerFrameFunctionalGroupsSequence" in headers[0]:
        if len(headers) > 1:
            raise ExportError(
                found=f"a reference series whose slices lie in {len(headers)} multi-frame files",
                expected="one multi-frame file, or one file for each slice",
                next_step="Export the series again as one object; the other files of the result "
                "are whole",
            )
        frames = _multi_frame(headers[0], series.grid, frozenset(series.frames))
    else:
        frames = _single_frames(headers, series.grid)
    _check_coverage(frames)
    _set_slice_spacing(frames)
    return replace(frames, notices=notices)


def _header(file: SourceFile, *, whole: bool = False) -> Dataset:
    """Read identity and geometry of a file, or its whole header."""
    try:
        header = read_dicom(
            file.path,
            stop_before_pixels=True,
            specific_tags=None if whole else list(GEOMETRY),
        )
    except (OSError, *DAMAGED) as error:
        raise ReadError(
            found=f"that {file.name} can no longer be read",
            expected="the files that were analysed",
            next_step="Put the study back where it was, then save again",
        ) from error
    uid = header.get("SOPInstanceUID")
    if uid is None or (file.sop_instance_uid and uid != file.sop_instance_uid):
        raise ReadError(
            found=f"a different image in {file.name} from the one analysed",
            expected="the files that were analysed",
            next_step="Analyse the study again",
        )
    return header


def _check_patient(file: SourceFile, header: Dataset) -> None:
    """Refuse a file whose patient has changed since the study was opened and shown."""
    fields = file.other_patient(header.get)
    if fields:
        raise ReadError(
            found=f"a different patient in {file.name} from when the study was opened, by "
            f"{in_words(fields)}",
            expected="the patient whose study was opened",
            next_step="Close the study and open it again",
        )


def _headers(files: tuple[SourceFile, ...]) -> tuple[list[Dataset], tuple[str, ...]]:
    """Return headers with valid attributes, and notices about corrections.

    Patient, study and scanner attributes are those of the first image.
    """
    first = _header(files[0], whole=True)
    _check_patient(files[0], first)
    copied, notices = copied_attributes(first)
    shared_elements = {element.tag: element for element in copied}
    headers = []
    for header in (first, *map(_header, files[1:])):
        geometry_elements = {
            element.tag: element
            for element in map(header.get_item, _GEOMETRY_TAGS)
            if element is not None
        }
        headers.append(Dataset({**shared_elements, **geometry_elements}))
    return headers, notices


def _single_frames(headers: list[Dataset], grid: Grid) -> SourceFrames:
    shared = headers[0].ImageOrientationPatient
    placements, planes = [], []
    for header in headers:
        plane = geometry.plane_matrix(
            header.ImagePositionPatient, header.ImageOrientationPatient, header.PixelSpacing
        )
        placements.append(_placement_of(plane, header.Rows, header.Columns, grid))
        planes.append(plane)
        header.ImageOrientationPatient = shared  # equal within the tolerance checked above
    first = headers[0]
    return SourceFrames(
        tuple(headers), None, np.array(planes), tuple(placements), first.Rows, first.Columns, grid
    )


def drop_unused_frame_references(dataset: Dataset, sources: SourceFrames) -> None:
    """Remove references to frames that were not analysed from an object's source images.

    highdicom names every frame of a multi-frame instance that lies at the position: other echoes,
    time points and phases too.
    """
    if sources.frame_numbers is None:
        return
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        for derivation in groups.get("DerivationImageSequence", ()):
            derivation.SourceImageSequence = [
                item
                for item in derivation.SourceImageSequence
                if int(item.ReferencedFrameNumber) in sources.frame_numbers
            ]


def _multi_frame(header: Dataset, grid: Grid, used: frozenset[int]) -> SourceFrames:
    """Select the `used` frames of a multi-frame instance; if empty, the first at each position."""
    shared = header.SharedFunctionalGroupsSequence[0]
    frame_by_slice: dict[int, tuple[int, FramePlacement, NDArray[np.float64]]] = {}
    for number, groups in enumerate(header.PerFrameFunctionalGroupsSequence, 1):
        if used and number not in used:
            continue  # another echo, time point or phase
        position, orientation, spacing = (
            _functional_group_value(groups, shared, name, value)
            for name, value in (
                ("PlanePositionSequence", "ImagePositionPatient"),
                ("PlaneOrientationSequence", "ImageOrientationPatient"),
                ("PixelMeasuresSequence", "PixelSpacing"),
            )
        )
        plane = geometry.plane_matrix(position, orientation, spacing)
        try:
            placement = _placement_of(plane, header.Rows, header.Columns, grid)
        except ExportError:
            continue  # a frame of another stack in the same instance
        frame_by_slice.setdefault(placement.index, (number, placement, plane))
    if not frame_by_slice:
        raise _mismatch("no frame of the multi-frame instance on the voxels of the result")
    selected = [frame_by_slice[index] for index in sorted(frame_by_slice)]
    return SourceFrames(
        (_shared_geometry(header, selected[0][0]),),
        tuple(number for number, _, _ in selected),
        np.array([plane for _, _, plane in selected]),
        tuple(placement for _, placement, _ in selected),
        header.Rows,
        header.Columns,
        grid,
    )


def _functional_group_value(groups: Dataset, shared: Dataset, name: str, value: str) -> Any:
    holder = groups if name in groups else shared
    if name not in holder:
        raise _mismatch(f"a frame without {name}")
    return holder[name].value[0][value].value


def _shared_geometry(header: Dataset, number: int) -> Dataset:
    """Return the header with shared orientation and pixel measures, as highdicom expects.

    They are copied from an analysed frame, `number`: frames of other stacks differ.
    """
    copied = copy.copy(header)
    shared = copy.deepcopy(header.SharedFunctionalGroupsSequence[0])
    first = header.PerFrameFunctionalGroupsSequence[number - 1]
    for name in ("PlaneOrientationSequence", "PixelMeasuresSequence"):
        if name not in shared:
            shared[name] = copy.deepcopy(first[name])
        _shorten_decimals(shared[name].value[0])
    copied.SharedFunctionalGroupsSequence = [shared]
    return copied


def _shorten_decimals(measures: Dataset) -> None:
    """Write decimal strings in the 16 characters that DICOM allows; scanners write longer ones."""
    for element in measures:
        if element.VR == "DS" and element.value is not None:
            parts = element.value if element.VM > 1 else [element.value]
            element.value = [values.BY_VR["DS"](str(part)) for part in parts]


def _placement_of(
    plane: NDArray[np.float64], rows: int, columns: int, grid: Grid
) -> FramePlacement:
    """Locate a frame on the grid; ExportError if its pixels are not voxels of the grid."""
    corners = np.array([[0, 0], [columns - 1, 0], [0, rows - 1], [columns - 1, rows - 1]])
    lps = np.c_[corners, np.ones(4)] @ plane.T
    voxels = grid.to_voxel(geometry.points_lps_from_ras(lps))
    nearest = np.rint(voxels).astype(int)
    edge_steps = nearest[1:3] - nearest[0]
    changing_axes = [np.flatnonzero(step) for step in edge_steps]
    is_aligned = all(len(axes) <= 1 for axes in changing_axes)
    column_axis, row_axis = _axes(plane, grid)
    fixed = 3 - column_axis - row_axis
    shape = grid.shape
    is_outermost = nearest[0, fixed] in (0, shape[fixed] - 1)
    max_offset = _MAX_OUTERMOST_OFFSET_VOX if is_outermost else MAX_OFFSET_VOX
    if np.abs(voxels - nearest).max() > max_offset or not is_aligned:
        raise _mismatch("an image that does not coincide with the voxels of the result")
    if (shape[row_axis], shape[column_axis]) != (rows, columns) or (nearest < 0).any():
        raise _mismatch(f"an image of {columns} by {rows} pixels on a grid of {shape} voxels")
    if (nearest >= np.asarray(shape)).any():
        raise _mismatch("an image outside the voxels of the result")
    return FramePlacement(
        fixed=fixed,
        index=int(nearest[0, fixed]),
        row_axis=row_axis,
        column_axis=column_axis,
        rows_reversed=bool(nearest[0, row_axis] > 0),
        columns_reversed=bool(nearest[0, column_axis] > 0),
    )


def _axes(plane: NDArray[np.float64], grid: Grid) -> tuple[int, int]:
    """Return the voxel axes of the columns and rows."""
    steps = np.linalg.inv(geometry.lps_from_ras(grid.affine))[:3, :3] @ plane[:, :2]
    column_axis, row_axis = (int(axis) for axis in np.abs(steps).argmax(axis=0))
    if column_axis == row_axis:
        raise _mismatch("an image whose rows and columns run in the same direction")
    return column_axis, row_axis


def _check_coverage(frames: SourceFrames) -> None:
    first = frames.placements[0]
    if any(replace(placement, index=first.index) != first for placement in frames.placements):
        raise _mismatch("images in several planes in one series")
    expected = frames.grid.shape[first.fixed]
    indices = {placement.index for placement in frames.placements}
    if len(indices) != expected or len(indices) != len(frames.placements):
        raise _mismatch(
            f"{len(frames.placements)} source images for {expected} slices of the result"
        )


def _set_slice_spacing(frames: SourceFrames) -> None:
    """Correct the slice spacing in the headers, which highdicom copies to new objects.

    Scanners write the gap or nothing, and the value is wrong if only every other slice is exported;
    3D Slicer derives the voxel size from it. A missing or non-positive thickness is set to it.
    """
    step = geometry.lps_from_ras(frames.grid.affine)[:3, frames.placements[0].fixed]
    spacing = f"{abs(float(step @ frames.normal)):.6g}"
    for header in frames.datasets:
        measures = header
        if frames.frame_numbers is not None:
            measures = header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        measures.SpacingBetweenSlices = spacing
        thickness = values.BY_VR["DS"](str(measures.get("SliceThickness") or 0))
        measures.SliceThickness = thickness if float(thickness or 0) > 0 else spacing


def _mismatch(found: str) -> ExportError:
    return ExportError(
        found=found,
        expected="each source image to be one slice of the result",
        next_step="Report this as a defect of the DICOM reader; the NIfTI result is not affected",
    )
