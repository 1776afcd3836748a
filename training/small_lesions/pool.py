"""Make volumes of skull-stripped real brains, as they are or with synthetic metastases.

    python -m training.small_lesions.pool POOL CASE [CASE ...] [--seed 410000]

They are like those of `prompts/pool.py` without the arrays that only the prompt network needs:
`image.npy`, `code.npy` and `about.json`. With a seed, up to eight metastases are added to each
(`small_lesions/metastases.py`).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray

from lesionlens.base import geometry
from lesionlens.base.run_context import RunContext
from lesionlens.engines.network_input import make_network_input
from lesionlens.imaging.preparation.prepare import prepare
from lesionlens.imaging.preparation.resampling import resample
from lesionlens.imaging.reading.open import open_study
from training.small_lesions.metastases import add_metastases, read_brain, write_study

OEDEMA, ENHANCING, BRATS_ENHANCING = 2, 3, 4


def add_brain(pool: Path, case: Path, seed: int | None) -> None:
    """Add a case with BraTS labels (1, 2, 4) to the pool, unless it is there."""
    folder = pool / (case.name if seed is None else f"{case.name}-{seed}")
    if folder.is_dir():
        return
    brain, labels = read_brain(case), _labels(case)
    images = brain.images
    if seed is not None:
        added = add_metastases(brain, seed)
        images = added.images
        labels[added.whole & (labels == 0)] = OEDEMA
        labels[added.cores > 0] = ENHANCING
    with TemporaryDirectory() as copy:
        write_study(Path(copy), images, brain.grid)
        prepared = prepare(open_study(copy), RunContext())
    fine = make_network_input(prepared, 1.0, torch.device("cpu"))
    inside = fine.brain[0].numpy() > 0
    values = np.rint(resample(labels, brain.grid, fine.grid, nearest=True)).astype(np.uint8)
    code = inside * np.array([1, 3, 2, 4], np.uint8)[values]
    box = geometry.bounding_box(inside)
    assert box is not None
    folder.mkdir(parents=True)
    np.save(folder / "image.npy", fine.channels[0][(slice(None), *box)].half().numpy())
    np.save(folder / "code.npy", np.ascontiguousarray(code[box]))
    record = {"present": list(map(bool, fine.present)), "real": True}
    (folder / "about.json").write_text(json.dumps(record))


def _labels(case: Path) -> NDArray[np.float32]:
    image = nib.as_closest_canonical(nib.load(case / "seg.nii.gz"))
    labels = np.asarray(image.dataobj, np.float32)
    return np.where(labels == BRATS_ENHANCING, np.float32(ENHANCING), labels)


def main() -> None:
    """Add the cases to the pool."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pool", type=Path)
    parser.add_argument("cases", type=Path, nargs="+")
    parser.add_argument("--seed", type=int, help="of the metastases; increased by one per case")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for number, case in enumerate(options.cases):
        add_brain(options.pool, case, None if options.seed is None else options.seed + number)


if __name__ == "__main__":
    main()
