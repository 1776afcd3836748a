"""List the positions in a pool that the search for small lesions falsely takes for lesions.

    python -m research.small_lesions.false_peaks POOL [--weights W.safetensors] [--floor -3]

Each volume of the pool (`prompts/pool.py`) gets a file `hard.npy`, (N, 3) voxels: peaks of the
logit above the floor that lie in no tumour. `small_lesions/samples.py` centres a share of its crops
there.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.network.brain import MULTIPLE
from lesionlens.network.folded_unet import FoldedUNet, load_folded_unet
from lesionlens.network.small_lesions import CHANNELS, SPACING_MM
from research.small_lesions.samples import Head
from research.training.unet_training import WEIGHTS

_FROM_TUMOUR_VOX, _APART_VOX = 4, 5


@torch.inference_mode()
def find_false_peaks(network: FoldedUNet, head: Head, floor: float) -> NDArray[np.int64]:
    """Return peaks of the logit outside the tumour, (N, 3) voxels of 1 mm."""
    image = np.concatenate([np.asarray(head.image, np.float32), head.brain[None]])
    smooth = ndimage.gaussian_filter(image, (0, 0.4, 0.4, 0.4))
    smooth[4] = head.brain
    coarse = np.stack([ndimage.zoom(v, 1 / SPACING_MM, order=1) for v in smooth])
    coarse[4] = coarse[4] > 0.5
    coarse[:4] *= coarse[4]
    padded = np.pad(coarse, [(0, 0), *((0, -n % MULTIPLE) for n in coarse.shape[1:])])
    x = torch.from_numpy(padded)[None].contiguous(memory_format=torch.channels_last_3d)
    with torch.autocast("cpu", torch.bfloat16):
        logit = network(x)[0, 0].float().numpy()
    logit = np.where(padded[4] > 0, logit, -np.inf)
    peak = (logit == ndimage.maximum_filter(logit, _APART_VOX)) & (logit > floor)
    peaks = np.rint(np.argwhere(peak) * SPACING_MM).astype(int)
    peaks = np.minimum(peaks, np.array(head.brain.shape) - 1)
    near_tumour = ndimage.distance_transform_edt(head.kind < 2) < _FROM_TUMOUR_VOX
    return np.asarray(peaks[~near_tumour[tuple(peaks.T)]])


def main() -> None:
    """Write `hard.npy` for each volume of a pool."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pool", type=Path)
    shipped = WEIGHTS / "small_lesions.safetensors"
    parser.add_argument("--weights", type=Path, default=shipped)
    parser.add_argument("--floor", type=float, default=-3.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    network = load_folded_unet(options.weights, CHANNELS)
    for folder in sorted(options.pool.iterdir()):
        if (folder / "about.json").is_file() and not folder.name.startswith(("anatomy", ".")):
            peaks = find_false_peaks(network, Head(folder), options.floor)
            np.save(folder / "hard.npy", peaks)
            print(folder.name, len(peaks), flush=True)


if __name__ == "__main__":
    main()
