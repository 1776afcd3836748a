"""Surfaces keep side, millimetres and volume, in the frame that each kind of file has."""

from dataclasses import replace

import numpy as np
import pytest

from lesionlens.base.labels import Region
from lesionlens.base.records.export import ExportOptions
from lesionlens.results.export.surfaces import SurfacesExporter, surface_of

trimesh = pytest.importorskip("trimesh")


def asked(analysis):
    return replace(analysis, options=ExportOptions(surfaces=True))


@pytest.mark.parametrize(("orientation", "tilt"), [("RAS", 0), ("LPS", 8), ("PIR", 5), ("LAS", 0)])
def test_left_stays_left_and_millimetres_stay(make, tmp_path, orientation, tilt):
    analysis = asked(make(orientation=orientation, spacing_mm=(2, 2, 3), tilt_deg=tilt))
    written = SurfacesExporter().write(analysis, tmp_path)
    assert len(written) == 1 + 3 * 2
    for candidate in analysis.findings.candidates:
        path = tmp_path / "surfaces" / f"candidate_{candidate.id}_wt.stl"
        assert b"SPACE=LPS" in path.read_bytes()[:80]
        mesh = trimesh.load(path)
        assert mesh.is_watertight
        ras = mesh.vertices * [-1, -1, 1]
        centre = mesh.center_mass * [-1, -1, 1]
        np.testing.assert_allclose(centre, candidate.centroid_mm, atol=0.5)
        low, high = np.array(candidate.bounding_box_mm)
        assert np.all(np.abs(ras.min(0) - low) < 2.5)
        assert np.all(np.abs(ras.max(0) - high) < 2.5)
        assert mesh.volume / 1000 == pytest.approx(candidate.volume_ml[Region.WT], rel=0.01)
        assert (centre[0] < 0) == (candidate.location.side == "left")


@pytest.mark.parametrize("radius", [0.5, 2, 3, 12])
@pytest.mark.parametrize("spacing_mm", [(1, 1, 1), (0.5, 0.5, 5)])
def test_the_surface_of_a_small_lesion_holds_its_volume(radius, spacing_mm):
    """Of a ball of 4 voxels' diameter it held three quarters, of one voxel a sixth."""
    ball = radius >= np.sqrt(((np.indices((29, 29, 29)).T - 14.0) ** 2).sum(-1)).T
    mesh = surface_of(ball, np.diag([*spacing_mm, 1.0]))
    wanted = ball.sum() * np.prod(spacing_mm)
    assert mesh.volume == pytest.approx(wanted, rel=0.02)
    np.testing.assert_allclose(mesh.center_mass, 14.0 * np.array(spacing_mm), atol=0.05)


def test_the_scene_is_in_gltf_s_frame(make, tmp_path):
    analysis = asked(make(spacing_mm=(2, 2, 2)))
    SurfacesExporter().write(analysis, tmp_path)
    scene = trimesh.load(tmp_path / "surfaces" / "candidates.glb")
    names = {f"{n} {region.display_name}" for n in (1, 2) for region in Region}
    assert names <= set(scene.graph.nodes)
    for candidate in analysis.findings.candidates:
        matrix, geometry = scene.graph[f"{candidate.id} whole tumour"]
        mesh = scene.geometry[geometry]
        x, y, z = candidate.centroid_mm
        np.testing.assert_allclose(mesh.center_mass, (x, y, z), atol=0.5)
        placed = mesh.copy().apply_transform(matrix)
        assert placed.volume > 0
        np.testing.assert_allclose(placed.center_mass, np.array([-x, z, y]) / 1000, atol=5e-4)
        green = mesh.visual.material.baseColorFactor
        assert list(green)[:3] == [0, 158, 115]


def test_it_says_why_there_is_none(make):
    assert "--surfaces" in SurfacesExporter().missing(make())
    assert "no candidate" in SurfacesExporter().missing(asked(make(lesions=())))
