"""napari's writers: image and labels layers as NIfTI, in patient coordinates."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any


def write_labels(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write a labels layer as uint8 or int32 NIfTI; return the path written."""
    import numpy as np  # noqa: PLC0415

    array = np.asarray(data)
    small = array.size == 0 or (array.min() >= 0 and array.max() < 256)
    return _write(path, array.astype(np.uint8 if small else np.int32), attributes)


def write_image(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write an image layer as float32 NIfTI; return the path written."""
    import numpy as np  # noqa: PLC0415

    return _write(path, np.asarray(data, dtype=np.float32), attributes)


def write_layers(path: str, layers: list[tuple[Any, dict[str, Any], str]]) -> list[str]:
    """Write layers into a new folder of this name, a NIfTI file each; return the paths written.

    Raises
    ------
    UnusableInputError
        A layer is not of a study, or the folder exists; nothing is written.
    """
    from lesionlens.base.errors import UnusableInputError  # noqa: PLC0415

    folder = Path(re.sub(r"\.nii(\.gz)?$", "", path))
    if folder.exists():
        raise UnusableInputError(
            found=f"{folder.name!r}, which exists",
            expected="the name of a new folder, for a file of each layer",
            next_step="Choose another name",
        )
    for data, attributes, _ in layers:
        _check(len(data.shape), attributes)
    folder.mkdir()
    written = []
    for number, (data, attributes, kind) in enumerate(layers, 1):
        name = re.sub(r"[^\w.-]+", "_", attributes.get("name", ""))
        place = folder / f"{name}.nii.gz"
        if not name or place.exists():
            place = folder / f"{name or 'layer'}_{number}.nii.gz"
        write = write_labels if kind == "labels" else write_image
        written += write(str(place), data, attributes)
    return written


def _check(dimensions: int, attributes: dict[str, Any]) -> None:
    """Refuse a layer that is not three-dimensional, or whose world need not be the patient."""
    from lesionlens.base.errors import UnusableInputError  # noqa: PLC0415
    from lesionlens.napari.model.overlays.maps import AXIS_LABELS  # noqa: PLC0415

    ours = "lesionlens" in attributes.get("metadata", {})
    plain = tuple(attributes.get("axis_labels", ())) == AXIS_LABELS
    if dimensions != 3 or not (ours or plain):
        raise UnusableInputError(
            found=f"the layer {attributes.get('name', '')!r}, which LesionLens did not make",
            expected="a LesionLens layer, whose position in the patient is known",
            next_step="Save it with napari's writer, or create it from a study opened here",
        )


def _write(path: str, array: Any, attributes: dict[str, Any]) -> list[str]:
    """Write an array with the way from its voxels to the patient's millimetres as affine."""
    import nibabel as nib  # noqa: PLC0415

    _check(array.ndim, attributes)
    image = nib.Nifti1Image(array, _to_patient(attributes))
    image.header.set_xyzt_units("mm")
    named = path if path.endswith((".nii", ".nii.gz")) else f"{path}.nii.gz"
    nib.save(image, named)
    return [named]


def _to_patient(attributes: dict[str, Any]) -> Any:
    """Return the (4, 4) float64 affine from a layer's voxels to its world."""
    import numpy as np  # noqa: PLC0415
    from napari.utils.transforms import Affine  # noqa: PLC0415

    names = ("scale", "translate", "rotate", "shear")
    own = Affine(**{name: attributes[name] for name in names if name in attributes}, ndim=3)
    further = np.asarray(attributes.get("affine", np.eye(4)), np.float64)
    return further @ np.asarray(own.affine_matrix, np.float64)
