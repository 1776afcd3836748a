"""Surface meshes of the candidates: one glTF scene, and STL files.

STL is in the patient's LPS+ mm, which its header names as 3D Slicer expects. glTF requires metres
and y up: its meshes are in RAS+ mm, and each node's matrix rotates them so that the patient's head
is up and the face looks along +z.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesionlens.base import geometry
from lesionlens.base.labels import Region
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.findings import Candidate, counts_as_tumour
from lesionlens.results.export import caveats, lookup

FOLDER = "surfaces"
GLTF_FROM_RAS = np.array(
    [[-1e-3, 0, 0, 0], [0, 0, 1e-3, 0], [0, 1e-3, 0, 0], [0, 0, 0, 1]], dtype=np.float64
)
"""RAS+ mm to glTF's metres: x to the patient's left, y superior, z anterior."""
_OPACITY = {Region.WT: 90, Region.TC: 160, Region.ET: 255}
_SMOOTHING_STEPS = 10
"""Steps of Taubin smoothing (1995), which removes voxel steps."""
_VOLUME_STEPS = 5


class SurfacesExporter:
    """Writes surfaces/candidates.glb and one STL file per region of each candidate."""

    name = "surfaces"

    def missing(self, analysis: Analysis) -> str | None:
        """Return what is missing: the user's request, an outline or trimesh."""
        if not analysis.options.surfaces:
            return "surfaces are written on request: --surfaces"
        if importlib.util.find_spec("trimesh") is None:
            return "surfaces need the extra mesh: pip install 'lesionlens[mesh]'"
        if not analysis.volumes.labels.data.any():
            return "there is no candidate with an outline, so there is no surface"
        return None

    def write(self, analysis: Analysis, staged: Path) -> tuple[Path, ...]:
        """Write every surface."""
        import trimesh

        folder = staged / FOLDER
        folder.mkdir()
        scene, written = trimesh.Scene(), []
        for candidate, region, mesh in _surfaces(analysis):
            state = analysis.review.state_of(candidate.tracking_uid)
            suffix = f"_{state}" if state in caveats.NOT_ACCEPTED else ""
            suffix += "" if counts_as_tumour(candidate, state) else "_apart"
            path = folder / f"candidate_{candidate.id}_{region.value}{suffix}.stl"
            path.write_bytes(_stl_bytes(mesh))
            written.append(path)
            rgba = np.array((*lookup.rgb(region.colour), _OPACITY[region]), np.uint8)
            mesh.visual = trimesh.visual.TextureVisuals(
                material=trimesh.visual.material.PBRMaterial(
                    baseColorFactor=rgba, alphaMode="BLEND", doubleSided=True, roughnessFactor=0.7
                )
            )
            name = caveats.part_name(analysis, candidate, region.display_name)
            scene.add_geometry(mesh, node_name=name, geom_name=name, transform=GLTF_FROM_RAS)
        scene_path = folder / "candidates.glb"
        scene_path.write_bytes(scene.export(file_type="glb"))
        return (scene_path, *written)


def _surfaces(analysis: Analysis) -> Iterator[tuple[Candidate, Region, Any]]:
    """Yield candidate, region and mesh (RAS+ mm) of each non-empty region."""
    labels = analysis.volumes.labels
    for candidate in analysis.findings.candidates:
        in_candidate = analysis.findings.components == candidate.id
        for region in Region:
            mask = in_candidate & np.isin(labels.data, region.labels)
            if mask.any():
                yield candidate, region, surface_of(mask, labels.affine)


def surface_of(inside: NDArray[np.bool_], affine: geometry.Affine) -> Any:
    """Return the closed surface of a mask, with outward normals.

    Parameters
    ----------
    inside : (I, J, K) bool
        At least one voxel.
    affine : (4, 4) float64
        Voxel index to RAS+ mm.

    Returns
    -------
    trimesh.Trimesh
        Vertices in RAS+ mm.
    """
    import trimesh
    from skimage.measure import marching_cubes

    box = geometry.bounding_box(inside) or (slice(None),) * 3
    padded = np.pad(inside[box].astype(np.float32), 1)
    vertices, faces, _, _ = marching_cubes(padded, 0.5)
    corner = np.array([side.start or 0 for side in box])
    mesh = trimesh.Trimesh(geometry.apply(affine, vertices - 1 + corner), faces)
    if len(faces) > _SMOOTHING_STEPS:
        trimesh.smoothing.filter_taubin(mesh, iterations=_SMOOTHING_STEPS)
    if mesh.volume < 0:
        mesh.invert()
    _restore_volume(mesh, float(inside.sum() * abs(np.linalg.det(affine[:3, :3]))))
    return mesh


def _restore_volume(mesh: Any, volume_mm3: float) -> None:
    """Move a closed surface along its normals until it encloses the voxels' volume.

    Marching cubes cut the corners of voxels, and smoothing shrinks small parts: together a quarter
    of a lesion of 4 voxels' diameter.
    """
    for _ in range(_VOLUME_STEPS):
        mesh.vertices = mesh.vertices + mesh.vertex_normals * (
            (volume_mm3 - mesh.volume) / mesh.area
        )


def _stl_bytes(mesh: Any) -> bytes:
    """Return binary STL in LPS+ mm; its 80 bytes of header name the frame."""
    import trimesh

    lps_mesh = trimesh.Trimesh(
        geometry.points_lps_from_ras(mesh.vertices), mesh.faces, process=False
    )
    body: bytes = trimesh.exchange.stl.export_stl(lps_mesh)
    return b"LesionLens; SPACE=LPS; mm".ljust(80) + body[80:]
