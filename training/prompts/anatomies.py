"""Crops of label maps with new intensities each time: any structure, any contrast in any sequence.

`labels.npy` holds the structures of one head of `training_label_maps` of BBillot/SynthSeg (Apache
License 2.0). Random means of each structure in each sequence follow SynthSeg (Billot et al. 2023,
doi:10.1016/j.media.2023.102789), so that the network is trained on borders rather than tissues.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.numerics import connected_parts
from training.synth import classes

Floats = NDArray[np.float32]
HELD_OUT_CLASSES = (classes.THALAMUS, classes.STRIATUM, classes.PALLIDUM)
_FIRST_NUMBER, _MIN_VOX = 2000, 20  # label of the first structure; voxels of the smallest


def read_structures(file: Path) -> tuple[dict[str, NDArray[np.generic]], list[int]]:
    """Read one label map: its arrays, and the tissue class of each label.

    Deep grey matter is never a target: it is held out of training.
    """
    import nibabel as nib

    from training.templates.anatomies import SOURCE_VALUES

    image = nib.as_closest_canonical(nib.load(file))
    values = np.asarray(image.dataobj).astype(np.int32)
    class_of = {v: name for name, source_labels in SOURCE_VALUES.items() for v in source_labels}
    inner = [v for v, name in class_of.items() if name in classes.BRAIN]
    brain = ndimage.binary_closing(np.isin(values, inner), iterations=4)
    box = ndimage.find_objects(brain.astype(np.uint8))[0]
    values, brain = values[box], brain[box]
    labels, object_labels = np.zeros(values.shape, np.uint8), np.zeros(values.shape, np.uint16)
    classes_of_labels = [classes.FLUID]
    for value in np.unique(values[brain]).tolist():
        mask = brain & (values == value)
        class_value = class_of.get(value, classes.FLUID)
        labels[mask] = len(classes_of_labels)
        classes_of_labels.append(class_value if class_value in classes.BRAIN else classes.FLUID)
        if class_value in HELD_OUT_CLASSES or class_value not in classes.BRAIN:
            continue
        components, sizes = connected_parts(mask)
        for rank, component in enumerate(np.argsort(-sizes)[:4].tolist()):
            if sizes[component] >= _MIN_VOX:
                number = _FIRST_NUMBER + 4 * len(classes_of_labels) + rank
                object_labels[components == component] = number
    arrays = {"labels": labels, "code": brain.astype(np.uint8), "things": object_labels}
    return arrays, classes_of_labels


def paint_labels(
    labels: NDArray[np.uint8], groups: list[int], spacing_mm: float, rng: np.random.Generator
) -> Floats:
    """Synthesise the images of a crop of labels (n, n, n): (4, n, n, n), about z-scores."""
    fractions = np.array([classes.RECIPES.get(g, (0, 0, 1, 0, 0)) for g in groups])
    tissue = rng.normal(0, 1.1, (4, fractions.shape[1]))
    independence = rng.uniform(0, 1) ** 2 if rng.random() < 0.6 else 1.0
    means = (1 - independence) * tissue @ fractions.T
    means = means + rng.normal(0, 1, (4, len(groups))) * max(independence, 0.15)
    means[:, 0] = 0
    n = labels.shape[0]
    out = means[:, labels]
    blur = rng.uniform(0.3, 0.9) / spacing_mm
    slope = rng.normal(0, 0.25, (4, 3))
    ramp = np.linspace(-1, 1, n)
    for channel in range(4):
        noise = rng.normal(size=labels.shape) * rng.uniform(0.03, 0.3)
        out[channel] = ndimage.gaussian_filter(out[channel] + noise, blur * rng.uniform(0.6, 1.3))
        a, b, c = slope[channel]
        out[channel] += a * ramp[:, None, None] + b * ramp[:, None] + c * ramp
    return np.asarray(np.clip(out, -5, 5), np.float32)
