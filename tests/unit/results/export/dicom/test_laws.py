"""Any orientation, spacing and slice order: written and read back, every voxel keeps its place."""

from dataclasses import replace

import highdicom
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.phantoms.analysis import make_analysis, write_study
from tests.phantoms.headers import NOBODY, instances

from lesionlens.base import geometry
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.study import SourceFile, StudyKind
from lesionlens.results.export.dicom.exporter import DicomExporter
from lesionlens.testing import make_patient

T1C = MrSequence.T1C


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """One finished DICOM analysis, whose grid and voxels the laws replace."""
    patient = make_patient(spacing_mm=8.0)
    folder = tmp_path_factory.mktemp("template")
    study = write_study(patient, folder, kind=StudyKind.DICOM, sequences=(T1C,), how=_axial())
    return make_analysis(patient, study)


def _axial():
    from tests.phantoms.acquire import AXIAL_SLICES

    return AXIAL_SLICES


def _turn(angles):
    a, b, c = angles
    x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return z @ y @ x


def _written_series(volume, folder):
    folder.mkdir()
    files = []
    for k, ds in enumerate(instances(volume, T1C, 1, NOBODY)):
        path = folder / f"{k}.dcm"
        ds.save_as(path, enforce_file_format=True)
        files.append(SourceFile(path, path.name, ds.SOPInstanceUID, ds.SOPClassUID))
    return tuple(files)


def _analysis(template, grid, files, rng):
    """Return the template with random labels and attention on another grid."""
    labels = rng.integers(0, 4, grid.shape, dtype=np.uint8)
    labels.ravel()[:3] = (1, 2, 3)
    attention = {
        region: Volume(rng.random(grid.shape, dtype=np.float32), grid) for region in Region
    }
    series = replace(template.study.series[T1C], grid=grid, files=files)
    return replace(
        template,
        study=replace(template.study, series={T1C: series}),
        prepared=replace(template.prepared, native=grid),
        volumes=replace(
            template.volumes,
            labels=Volume(labels, grid),
            probability={},
            attention=attention,
        ),
        findings=replace(template.findings, components=(labels > 0).astype(np.int32)),
    )


def _by_place(points, values):
    """Return {rounded RAS mm: value}, to compare in any order."""
    keys = np.round(np.asarray(points) / 0.1).astype(int)
    return dict(zip(map(tuple, keys.tolist()), values.tolist(), strict=True))


def _nearest(found, wanted):
    """Whether both hold the same values at the same places, within rounding."""
    assert len(found) == len(wanted)
    for (x, y, z), value in wanted.items():
        near = [
            found[key]
            for dx in (-1, 0, 1)
            for dy in (-1, 0, 1)
            for dz in (-1, 0, 1)
            if (key := (x + dx, y + dy, z + dz)) in found
        ]
        assert value in near


def _pydicom_points(path):
    """Return RAS mm of every marked pixel and how deep in the nest it is, from DICOM alone."""
    ds = pydicom.dcmread(path)
    names = {int(s.SegmentNumber): s.SegmentLabel for s in ds.SegmentSequence}
    label = {region.display_name: count for count, region in enumerate(Region, 1)}
    shared = ds.SharedFunctionalGroupsSequence[0]
    orientation = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    row_mm, column_mm = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    points, values = [], []
    frames = ds.pixel_array.reshape(-1, ds.Rows, ds.Columns)
    for frame, groups in zip(frames, ds.PerFrameFunctionalGroupsSequence, strict=True):
        number = int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        position = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        for row, column in np.argwhere(frame):
            lps = position + column * column_mm * orientation[:3] + row * row_mm * orientation[3:]
            points.append(lps)
            values.append(label[names[number].split(" ", 1)[1]])
    ras = geometry.points_lps_from_ras(np.array(points))
    deepest: dict[tuple[int, ...], tuple[int, int]] = {}
    for n, key in enumerate(map(tuple, np.round(ras / 0.1).astype(int).tolist())):
        deepest[key] = max(deepest.get(key, (0, n)), (values[n], n))
    kept = [n for _, n in deepest.values()]
    return ras[kept], np.array(values)[kept]


@settings(
    max_examples=8,
    phases=(Phase.explicit, Phase.generate),  # each example writes files: shrinking takes minutes
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    angles=st.tuples(*[st.floats(-3.1, 3.1)] * 3),
    spacing=st.tuples(*[st.floats(0.5, 6.0)] * 3),
    shape=st.tuples(st.integers(4, 8), st.integers(5, 9), st.integers(2, 5)),
    backwards=st.booleans(),
    turned=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_labels_and_attention_keep_their_millimetres(
    template, tmp_path_factory, angles, spacing, shape, backwards, turned, seed
):
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = _turn(angles) * spacing
    if backwards:
        affine[:3, 2] *= -1  # slices against the right-hand rule
    affine[:3, 3] = rng.uniform(-100, 100, 3)
    acquired = Grid(shape, affine, NOBODY.uid("frame"))
    folder = tmp_path_factory.mktemp("law")
    files = _written_series(Volume(np.ones(shape, np.float32), acquired), folder / "in")
    grid = acquired
    if turned:  # a reader that flips rows, as dcm2niix does
        change = np.diag([1.0, -1.0, 1.0, 1.0])
        change[1, 3] = shape[1] - 1
        grid = Grid(shape, affine @ change, acquired.frame_uid)
    analysis = _analysis(template, grid, files, rng)
    DicomExporter().write(analysis, folder)

    labels = analysis.volumes.labels.data
    voxels = np.argwhere(labels > 0)
    depth = np.array(
        [0, 2, 1, 3]
    )  # oedema is in the whole alone, the core in two, enhancing in all
    wanted = _by_place(grid.to_mm(voxels), depth[labels[labels > 0]])
    _nearest(_by_place(*_pydicom_points(folder / "dicom" / "seg.dcm")), wanted)

    volume = highdicom.seg.segread(folder / "dicom" / "seg.dcm").get_volume()
    found = np.argwhere(volume.array.any(axis=-1))
    points = geometry.apply(geometry.ras_from_lps(volume.affine), found)
    _nearest(_by_place(points, volume.array[tuple(found.T)].sum(axis=-1)), wanted)

    total = 0.0
    for name in ("attention", "attention_tc", "attention_et"):
        ds = pydicom.dcmread(folder / "dicom" / f"{name}.dcm")
        assert len(ds.FloatPixelData)
        total += np.frombuffer(ds.FloatPixelData, "<f4").sum(dtype=np.float64)
    meant = sum(v.data.sum(dtype=np.float64) for v in analysis.volumes.attention.values())
    np.testing.assert_allclose(total, meant, rtol=1e-4)  # what cannot be seen may be left out
