"""napari's writers: image and labels layers as NIfTI, in patient coordinates.

napari offers them before its own writers for several layers, and after them for one. Layers of
other plugins are passed on to napari's writers.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.files import is_nifti_name, without_volume_suffix
from lesionlens.napari.loading import LayerData


def write_labels(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write a labels layer as NIfTI; return the paths written.

    Of uint8, int32, int64 and uint64 the first is written that holds all labels.
    """
    return _write(path, (data, attributes, "labels"))


def write_image(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write an image layer as float32 NIfTI; return the paths written."""
    return _write(path, (data, attributes, "image"))


def write_layers(path: str, layers: list[LayerData]) -> list[str]:
    """Write layers into a new folder of this name, a file each; return the paths written.

    Raises
    ------
    UnusableInputError
        The folder exists, or NIfTI was requested and a layer is not of a study; nothing is written.
    ResourceError
        The folder or a file cannot be written; nothing is kept.
    """
    from lesionlens.base.storage import write_error

    folder = Path(without_volume_suffix(path))
    if folder.exists():
        raise UnusableInputError(
            f"{folder.name!r} exists already.",
            hint="Choose the name of a new folder.",
        )
    in_patient = [_is_in_patient(path, layer) for layer in layers]
    try:
        folder.mkdir()
    except OSError as error:
        raise write_error("a folder of layers", folder, error) from error
    written: list[str] = []
    try:
        for number, (layer, is_in_patient) in enumerate(zip(layers, in_patient, strict=True), 1):
            name = re.sub(r"[^\w.-]+", "_", layer[1].get("name", "")) or f"layer_{number}"
            while any(Path(file).name.startswith(f"{name}.") for file in written):
                name = f"{name}_{number}"
            file_name = f"{name}.nii.gz" if is_in_patient else name
            written += _write(str(folder / file_name), layer)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)  # which may be gone
        raise
    return written


def _is_in_patient(path: str, layer: LayerData) -> bool:
    """Return whether a layer's world coordinates are the patient's.

    Raises
    ------
    UnusableInputError
        They may not be, and the path requests NIfTI.
    """
    from lesionlens.napari.model.overlays.maps import AXIS_LABELS

    data, attributes, _ = layer
    has_metadata = "lesionlens" in attributes.get("metadata", {})
    has_axis_labels = tuple(attributes.get("axis_labels", ())) == AXIS_LABELS
    in_patient = (has_metadata or has_axis_labels) and len(data.shape) == 3
    if not in_patient and is_nifti_name(path):
        raise UnusableInputError(
            f"LesionLens did not create the layer {attributes.get('name', '')!r}.",
            hint="Save it with napari's writer, or create it from a study opened here.",
        )
    return in_patient


def _write(path: str, layer: LayerData) -> list[str]:
    """Write a layer as NIfTI in the patient's millimetres; leave foreign layers to napari.

    Raises
    ------
    ResourceError
        The file cannot be written; an earlier one is unchanged.
    """
    import nibabel as nib
    import npe2
    import numpy as np

    from lesionlens.base.storage import atomic_file, write_error

    if not _is_in_patient(path, layer):
        return [str(file) for file in npe2.write(path, layer_data=[layer], plugin_name="napari")]
    data, attributes, kind = layer
    array = np.asarray(data)
    array = array.astype(_label_dtype(array) if kind == "labels" else np.float32)
    image = nib.Nifti1Image(array, _to_patient(attributes), dtype=array.dtype)
    image.set_qform(image.affine, 1)  # ITK needs it where the sform is sheared
    image.header.set_xyzt_units("mm")
    stem = without_volume_suffix(path) if is_nifti_name(path) else path
    suffix = path[len(stem) :] or ".nii.gz"
    if not suffix.isupper():  # nibabel reads no ".Nii"
        suffix = suffix.lower()
    target = f"{stem}{suffix}"
    try:
        with atomic_file(Path(target)) as temporary:
            nib.save(image, temporary)
    except OSError as error:
        raise write_error("a layer", Path(target), error) from error
    return [target]


def _label_dtype(array: Any) -> Any:
    """Return the first type that holds all labels."""
    import numpy as np

    low, high = (array.min(), array.max()) if array.size else (0, 0)
    spans = ((kind, np.iinfo(kind)) for kind in (np.uint8, np.int32, np.int64))
    return next((kind for kind, span in spans if span.min <= low and high <= span.max), np.uint64)


def _to_patient(attributes: dict[str, Any]) -> Any:
    """Return the (4, 4) float64 affine from a layer's voxels to its world."""
    import numpy as np
    from napari.utils.transforms import Affine

    names = ("scale", "translate", "rotate", "shear")
    layer_affine = Affine(
        **{name: attributes[name] for name in names if name in attributes}, ndim=3
    )
    extra_affine = np.asarray(attributes.get("affine", np.eye(4)), np.float64)
    return extra_affine @ np.asarray(layer_affine.affine_matrix, np.float64)
