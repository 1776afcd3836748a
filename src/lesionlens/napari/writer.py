"""napari's writers: an image or labels layer as NIfTI, in the patient's millimetres."""

from __future__ import annotations

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


def _write(path: str, array: Any, attributes: dict[str, Any]) -> list[str]:
    """Write an array whose axes are R, A, S with the layer's scale and translate as affine.

    Raises
    ------
    UnusableInputError
        The layer is not three-dimensional or is turned, so that its millimetres are not known.
    """
    import nibabel as nib  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415

    from lesionlens.base.errors import UnusableInputError  # noqa: PLC0415

    turned = not np.allclose(attributes.get("rotate", np.eye(array.ndim)), np.eye(array.ndim))
    ours = "lesionlens" in attributes.get("metadata", {})
    if array.ndim != 3 or turned or not ours:
        raise UnusableInputError(
            found=f"the layer {attributes.get('name', '')!r}, which LesionLens did not make",
            expected="a layer of LesionLens, whose place in the patient is known",
            next_step="Save it with napari's own writer, or make it from a study opened here",
        )
    affine = np.diag([*np.asarray(attributes["scale"], float), 1.0])
    affine[:3, 3] = attributes["translate"]
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return [path]
