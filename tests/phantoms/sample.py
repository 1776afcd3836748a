"""A sample patient: one drawing of the generator, imaged as a clinic would.

`make sample` draws one by the generator as it is. The one that ships was drawn before the
generator knew the anatomies of individuals.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from scipy import ndimage
from tests.phantoms.acquire import AXIAL, SAGITTAL, Acquisition
from tests.phantoms.files import save_nifti, write_dicom, write_nifti
from tests.phantoms.headers import PatientIdentity
from torch import Tensor

from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.records.arrays import Volume
from lesionlens.engines.testing.simple import SyntheticPatient
from lesionlens.network.synth.artefacts import Damage
from lesionlens.network.synth.generator import GeneratorConfig, SyntheticBatch, draw

SEED = 3_000_000_056
"""Never used in training, which keeps seeds from 3 000 000 000 for samples."""
CENTRE_MM = (0.0, -18.0, 8.0)
MARGIN_VOX = 3
TOP = 1400.0
PROTOCOL = {
    MrSequence.T1: Acquisition(SAGITTAL, (1.4, 1.4, 5.0), matrix_step=8),
    MrSequence.T1C: Acquisition(AXIAL, (1.0, 1.0, 3.0), matrix_step=8),
    MrSequence.T2: Acquisition(AXIAL, (1.3, 1.3, 5.0), tilt_deg=8.0, matrix_step=8),
    MrSequence.FLAIR: Acquisition(AXIAL, (1.2, 1.2, 4.0), matrix_step=8),
}
"""Four planes and slice thicknesses, one of them oblique, as in a routine examination; viewers that
misread one-bit frames of other sizes show what lies on these."""
CONFIG = GeneratorConfig(
    shape=(192, 224, 192),
    spacing_mm=(1.0, 1.0),
    individuals=0.0,
    tumour_free=0.0,
    cavity=0.0,
    head=True,
    damage=Damage(bias=0.2, thick=0.0, spoiled=0.0, shift_mm=0.0, noise=0.02),
)
IDENTITY = PatientIdentity(name="Synthetic^Sample", patient_id="SYNTHETIC-SAMPLE", study="sample")
README = """# A synthetic patient: this shows nobody

Drawn by LesionLens's own generator (`lesionlens.network.synth`) from seed {seed}, which training
never uses. No scan of a person went into it, apart from public anatomies that the generator bends;
see NOTICE at the top of the repository.

- `study/`: T1, T1c, T2 and FLAIR as NIfTI
- `study_dicom/`: the same as four classic MR series of different plane and slice thickness
- `truth/segmentation.nii.gz`: what was drawn, on the grid of T1c (1 non-enhancing core, 2 oedema,
  3 enhancing)

Rows and columns are multiples of 8: some viewers misread one-bit frames of other sizes.

`make sample` in a clone draws a patient of this kind. The generator has changed since, so that it
is another head.
"""


def draw_patient(seed: int = SEED, config: GeneratorConfig = CONFIG) -> SyntheticPatient:
    """Draw one patient with the generator.

    Parameters
    ----------
    seed : int
        Of the generator.
    config : GeneratorConfig
        Grid and artefacts.

    Returns
    -------
    SyntheticPatient
        On a RAS+ grid cut to the head, scanner units up to `TOP`.
    """
    drawn = draw(config, [seed])
    head = _head(drawn)
    channels, box = drawn.channels[0].numpy() * head, _box(head)
    low = np.array([part.start for part in box])
    edge = float(drawn.spacing_mm[0])
    affine = np.diag([edge, edge, edge, 1.0])
    affine[:3, 3] = np.asarray(CENTRE_MM) - edge * (np.asarray(config.shape) - 1) / 2 + edge * low
    i, j, k = (part.stop - part.start for part in box)
    grid = Grid((i, j, k), affine)
    scale = TOP / np.percentile(channels[(slice(None), *box)], 99.9, axis=(1, 2, 3))
    return SyntheticPatient(
        {
            sequence: Volume(np.ascontiguousarray(channels[(index, *box)] * scale[index]), grid)
            for index, sequence in enumerate(MrSequence)
        },
        Volume(_labels(drawn.labels[0])[box], grid),
        Volume(drawn.brain[0].numpy()[box], grid),
        seed,
    )


def write_sample(out: Path, patient: SyntheticPatient) -> None:
    """Write `study/`, `study_dicom/`, `truth/` and the README that says it is synthetic."""
    write_nifti(patient, out / "study", how=PROTOCOL)
    write_dicom(patient, out / "study_dicom", how=PROTOCOL, identity=IDENTITY)
    save_nifti(patient.labels, out / "truth" / "segmentation.nii.gz", PROTOCOL[MrSequence.T1C])
    (out / "README.md").write_text(README.format(seed=patient.seed), encoding="utf-8")


def _head(drawn: SyntheticBatch) -> NDArray[np.bool_]:
    """Return the (I, J, K) head without scraps of scalp that lie apart from it."""
    parts, _ = ndimage.label((drawn.channels[0] > 0).any(0).numpy())
    middle = int(np.bincount(parts[drawn.brain[0].numpy()]).argmax())
    return np.asarray(parts == middle)


def _box(head: NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    """Return the head's bounding box with a margin."""
    inside = np.argwhere(head)
    low = np.maximum(inside.min(axis=0) - MARGIN_VOX, 0)
    high = np.minimum(inside.max(axis=0) + 1 + MARGIN_VOX, head.shape)
    i, j, k = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return i, j, k


def _labels(nested: Tensor) -> NDArray[np.uint8]:
    """Turn (3, I, J, K) nested WT, TC, ET into voxel labels."""
    labels = np.zeros(nested.shape[1:], np.uint8)
    for region, value in ((Region.WT, 2), (Region.TC, 1), (Region.ET, 3)):
        labels[nested[list(Region).index(region)].numpy() > 0] = value
    return labels


def main(
    out: Annotated[Path, typer.Option(help="Folder to write into.")],
    seed: Annotated[int, typer.Option(help="Of the generator.")] = SEED,
) -> None:
    """Draw the sample patient and write it as NIfTI and as DICOM."""
    patient = draw_patient(seed)
    write_sample(out, patient)
    typer.echo(f"{out}: synthetic patient from seed {seed}")


if __name__ == "__main__":
    typer.run(main)
