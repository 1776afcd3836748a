"""Transforms of a bundle's images and outputs: those that are applied here, or have no effect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lesionlens.base.errors import UnusableInputError

Step = Mapping[str, Any]
_WITHOUT_EFFECT = frozenset({
    "AddChannel", "AsChannelFirst", "CastToType", "CopyItems", "DeleteItems",
    "EnsureChannelFirst", "EnsureType", "FromMetaTensor", "Identity", "LoadImage", "SelectItems",
    "ToDevice", "ToMetaTensor", "ToTensor",
})  # fmt: skip
_PREPROCESSING = _WITHOUT_EFFECT | {
    "BorderPad", "ConcatItems", "CropForeground", "DivisiblePad", "NormalizeIntensity",
    "Orientation", "Spacing", "SpatialPad",
}  # fmt: skip
_POSTPROCESSING = _WITHOUT_EFFECT | {
    "Activations", "AsDiscrete", "Decollate", "Invert", "SaveImage",
}  # fmt: skip
_INTENSITY_TRANSFORMS = ("Intensity", "Histogram", "Contrast")
_LABELS = [["L", "R"], ["P", "A"], ["I", "S"]]
"""MONAI's names of the axes: others give `axcodes` another meaning."""
_THRESHOLD = 0.5
_EDGES_MM = (0.3, 10.0)


def preprocessing(inference: Step) -> list[Step]:
    """Return the transforms of the images.

    Raises
    ------
    UnusableInputError
        The network was trained on other images than those that it would receive here.
    """
    steps = _steps(inference, "preprocessing", user=("dataset", "transform"))
    _check_orientation(steps)
    _check_intensities(steps)
    _check_names(steps, "preprocessing", _PREPROCESSING)
    return steps


def postprocessing(inference: Step) -> list[Step]:
    """Return the transforms of the outputs.

    Raises
    ------
    UnusableInputError
        They make other regions than the sigmoid of each output.
    """
    steps = _steps(inference, "postprocessing", user=("evaluator", "postprocessing"))
    _check_names(_without_label_map(steps), "postprocessing", _POSTPROCESSING)
    for step in of_kind(steps, "Activations"):
        if step.get("other") is not None:
            raise not_plain("an activation by a function of the bundle", "a sigmoid of each output")
    for step in of_kind(steps, "AsDiscrete"):
        values = step.get("threshold")
        values = values if isinstance(values, list | tuple) else [values]
        if any(value not in (None, _THRESHOLD) for value in values):
            raise UnusableInputError(
                found=f"the threshold {step.get('threshold')!r:.100} in the bundle's "
                f"postprocessing",
                expected=f"{_THRESHOLD}, from which a voxel belongs to a region here",
                next_step="Provide the network as an engine (entry point lesionlens.engines)",
            )
    return steps


def not_plain(found: str, expected: str) -> UnusableInputError:
    """Return the error of a value that is not plain, or of another kind."""
    return UnusableInputError(
        found=f"{found} in configs/inference.json",
        expected=f"{expected}, as plain values: code from a bundle is not run",
        next_step="Write the values out in configs/inference.json",
    )


def name_of(step: Step) -> str:
    """Return the class of a transform, such as Spacingd, without its module; empty if not named."""
    return str(step.get("_target_") or "").rpartition(".")[2]


def of_kind(steps: Sequence[Step], kind: str) -> list[Step]:
    """Return the transforms of one kind, such as Spacing."""
    return [step for step in steps if name_of(step).startswith(kind)]


def keys_of(step: Step) -> list[str]:
    """Return the names of the images that a transform changes."""
    keys = step.get("keys", [])
    return [str(key) for key in keys] if isinstance(keys, list | tuple) else [str(keys)]


def spacing_mm(steps: Sequence[Step]) -> float:
    """Return the voxel edge of the last Spacingd; 1 mm if there is none."""
    for step in reversed(of_kind(steps, "Spacing")):
        edges = step.get("pixdim", 1.0)
        edges = edges if isinstance(edges, list | tuple) else (edges,)
        if not all(type(e) in (int, float) and _EDGES_MM[0] <= e <= _EDGES_MM[1] for e in edges):
            raise not_plain(f"the voxel edges {edges!r:.100}", "millimetres from 0.3 to 10")
        if len(set(edges)) == 1:
            return float(edges[0])
        raise UnusableInputError(
            found=f"voxel edges {edges} in the bundle's preprocessing",
            expected="cubes",
            next_step="Use a bundle that was trained on isotropic voxels",
        )
    return 1.0


def _steps(inference: Step, entry: str, user: tuple[str, str]) -> list[Step]:
    """Return the enabled transforms of an entry, of which `user` names the part that applies it."""
    part, key = user
    applied = inference.get(part)
    applied = applied.get(key) if isinstance(applied, Mapping) else None
    if applied not in (None, f"@{entry}"):
        raise not_plain(
            f"{key} {applied!r:.100} of the {part}", f'"@{entry}", a list of transforms'
        )
    steps = inference.get(entry, ())
    if isinstance(steps, Mapping):
        is_single = name_of(steps) not in ("Compose", "")
        steps = [steps] if is_single else steps.get("transforms", ())
    if not isinstance(steps, list | tuple):
        raise not_plain(f"the {entry} {steps!r:.100}", "a list of transforms")
    enabled = []
    for step in steps:
        if not isinstance(step, Mapping) or step.get("_disabled_") not in (None, False, True):
            raise not_plain(f"{step!r:.100} in the {entry}", "transforms with their options")
        if not step.get("_disabled_"):
            enabled.append(step)
    return enabled


def _without_label_map(steps: Sequence[Step]) -> list[Step]:
    """Return the transforms without a function that makes the label map to save.

    Published bundles for brain tumours combine their thresholded regions by such a `Lambdad`.
    """
    is_thresholded = False
    kept = []
    for step in steps:
        is_thresholded |= name_of(step).startswith("AsDiscrete")
        if not (is_thresholded and name_of(step).startswith("Lambda")):
            kept.append(step)
    return kept


def _check_orientation(steps: Sequence[Step]) -> None:
    """Refuse a network that was trained on images whose axes are not in RAS order."""
    for step in of_kind(steps, "Orientation"):
        axes = None if step.get("as_closest_canonical") else step.get("axcodes")
        labels = "" if step.get("labels") in (None, _LABELS) else ", with labels of its own,"
        if axes not in (None, "RAS", ["R", "A", "S"]) or labels:
            raise UnusableInputError(
                found=f"images in the order {axes!r:.20}{labels} in the bundle's preprocessing",
                expected="RAS, the order in which a network gets its images here",
                next_step="Use a bundle that was trained on images in RAS",
            )


def _check_intensities(steps: Sequence[Step]) -> None:
    """Refuse a network that was trained on other intensities than those of `zscore`."""
    for step in steps:
        name = name_of(step)
        is_zscore = name.startswith("NormalizeIntensity") and (
            [step.get(o) for o in ("nonzero", "channel_wise", "subtrahend", "divisor")]
            == [True, True, None, None]
        )
        if not is_zscore and any(word in name for word in _INTENSITY_TRANSFORMS):
            raise UnusableInputError(
                found=f"intensities by {name:.50} in the bundle's preprocessing",
                expected="NormalizeIntensityd with nonzero and channel_wise, or none: each "
                "sequence is z-scored in the brain",
                next_step="Use a bundle that was trained on such images, or provide the network "
                "as an engine (entry point lesionlens.engines)",
            )
    _check_all_normalised(steps)


def _check_all_normalised(steps: Sequence[Step]) -> None:
    """Refuse a network of which only some sequences were normalised."""
    normalised = {key for step in of_kind(steps, "NormalizeIntensity") for key in keys_of(step)}
    for step in of_kind(steps, "ConcatItems"):
        others = [key for key in keys_of(step) if key not in normalised]
        if normalised and others and str(step.get("name")) not in normalised:
            raise UnusableInputError(
                found=f"no NormalizeIntensityd of {', '.join(others)} in the bundle's "
                f"preprocessing",
                expected="one of each sequence, or none: each sequence is z-scored in the brain",
                next_step="Provide the network as an engine (entry point lesionlens.engines)",
            )


def _check_names(steps: Sequence[Step], entry: str, supported: frozenset[str]) -> None:
    """Refuse transforms that are not applied here and may have an effect."""
    for step in steps:
        name = name_of(step) or str(step)
        if name.removesuffix("Dict").removesuffix("d").removesuffix("D") not in supported:
            raise UnusableInputError(
                found=f"the transform {name:.50} in the bundle's {entry}",
                expected=f"one of {', '.join(sorted(supported))}: others are not applied here",
                next_step="Provide the network as an engine (entry point lesionlens.engines)",
            )
