"""Make the training volumes of the prompt network: synthetic heads and real cases.

    python -m training.prompts.pool POOL --synthetic 60 [--kinds mixed]
    python -m training.prompts.pool POOL --anatomies shared/data/anatomies
    python -m training.prompts.pool POOL --cases CASES [--weights synthetic] [--only NAME ...]

Each volume is a folder of plain arrays, read through memory maps: `image.npy`, (4, I, J, K)
z-scores at 1 mm; `code.npy`, 0 outside, 1 brain, 2 whole tumour, 3 core, 4 enhancing; `parts.npy`,
the lesion or distractor; `tissue.npy`, the healthy tissue (synthetic heads only); and `guess.npy`,
(V, 3, i, j, k) uint8 at 2 mm: predictions of the analysis network from several subsets of the
sequences. The first prediction for a real case is that of the whole analysis, by weights that were
not trained on the case.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lesionlens.base.labels import Region
from lesionlens.network.lens_net import LensNetwork
from lesionlens.network.normalise import with_presence, zscore
from lesionlens.network.weights import load
from training.prompts.anatomies import read_structures
from training.prompts.samples import Volume
from training.synth.generator import GeneratorConfig, generate_geometry, paint
from training.synth.other_lesions import LesionFrequencies

if TYPE_CHECKING:
    from lesionlens.training.references import RealCase

FIRST_SEED = 1_700_000_000
CONFIG = GeneratorConfig(shape=(144, 176, 144), spacing_mm=(1.0, 1.0), tumour_free=0.1)
KINDS = {
    "gliomas": CONFIG,
    "mixed": replace(
        CONFIG,
        kinds=LesionFrequencies(metastases=0.3, meningioma=0.15, isointense=0.3, plaques=0.4),
    ),
    "metastases": replace(CONFIG, tumour_free=0.0, kinds=LesionFrequencies(metastases=1.0)),
}
SUBSETS = ((1, 1, 1, 1), (0, 1, 0, 1), (0, 0, 0, 1), (0, 1, 0, 0), (1, 0, 1, 1), (0, 0, 1, 0))


@torch.inference_mode()
def predictions_on_subsets(
    network: LensNetwork, channels: Tensor, brain: Tensor, present: Tensor, subsets: list[Tensor]
) -> list[np.ndarray]:
    """Return uint8 probabilities (3, i, j, k) for (1, 4, ...) z-scores at 2 mm, one per subset."""
    maps = []
    for subset in subsets:
        x = with_presence(channels, (present & subset)[None], brain)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(x.contiguous(memory_format=torch.channels_last_3d)).logits[0]
        probability = (logits.float().sigmoid() * brain[0]).cummin(0).values
        maps.append((probability * 255).round().to(torch.uint8).numpy())
    return maps


def write_volume(folder: Path, arrays: dict[str, np.ndarray], record: Mapping[str, object]) -> None:
    """Write a volume's arrays; the folder appears atomically."""
    temporary = folder.with_name("." + folder.name)
    temporary.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        np.save(temporary / f"{name}.npy", np.ascontiguousarray(array))
    (temporary / "about.json").write_text(json.dumps(record))
    if "parts" in arrays:
        Volume(temporary)  # writes things.npy
    temporary.replace(folder)


def _even_box(inside: Tensor) -> tuple[slice, ...]:
    voxels = inside.nonzero()
    low, high = voxels.amin(0).tolist(), (voxels.amax(0) + 1).tolist()
    box = []
    for a, b, size in zip(low, high, inside.shape, strict=True):
        first, last = max(0, a - 2), min(size, b + 2)
        box.append(slice(first - first % 2, last + last % 2))
    return tuple(box)


def add_synthetic(
    pool: Path, seed: int, network: LensNetwork, config: GeneratorConfig = CONFIG
) -> None:
    """Write a synthetic head and the predictions of the analysis network."""
    folder = pool / f"synthetic-{seed}"
    if folder.is_dir():
        return
    rng = np.random.default_rng(seed)
    geometry = generate_geometry(config, [seed])
    batch = paint(config, geometry, [seed])
    box = _even_box(batch.brain[0])
    brain = batch.brain[0][box]
    raw = functional.avg_pool3d((batch.channels * batch.brain[:, None])[0][(slice(None), *box)], 2)
    coarse = functional.avg_pool3d(brain[None].float(), 2) > 0.5
    picks = [0, 1 + int(rng.integers(2)), 3 + int(rng.integers(3))]
    subsets = [torch.tensor(SUBSETS[n]).bool() for n in picks]
    predicted = predictions_on_subsets(
        network, zscore(raw[None], coarse), coarse, torch.ones(4).bool(), subsets
    )
    tissue = geometry.anatomy.tissue[0].argmax(0).to(torch.uint8) + 1
    code = batch.brain[0].to(torch.uint8) + batch.labels[0].sum(0, dtype=torch.uint8)
    arrays = {
        "image": batch.zscored[0][(slice(None), *box)].half().numpy(),
        "code": (code * batch.brain[0])[box].numpy(),
        "parts": batch.instances[0][box].numpy(),
        "tissue": (tissue * batch.brain[0])[box].numpy(),
        "guess": np.stack(predicted),
    }
    record = {"present": [True] * 4, "subsets": [SUBSETS[n] for n in picks], "real": False}
    write_volume(folder, arrays, record)


def add_case(pool: Path, case: RealCase, weights: str, network: LensNetwork) -> None:
    """Write a real case: its analysis, and the predictions from subsets of its sequences."""
    from lesionlens.base.run_context import SILENT
    from lesionlens.engines.engine import EngineChoice
    from lesionlens.engines.grid import make_network_input
    from lesionlens.imaging.preparation.prepare import prepare
    from lesionlens.imaging.preparation.resampling import resample
    from lesionlens.training.cases import number_lesions

    if (pool / case.name).is_dir():
        return
    prepared = prepare(case.study(), SILENT)
    fine, coarse = (make_network_input(prepared, mm, torch.device("cpu")) for mm in (1.0, 2.0))
    prediction = EngineChoice("cpu", weights=weights).load().predict(prepared, context=SILENT)
    probability = prediction.probability or {}
    analysis = [resample(probability[r], prepared.working, coarse.grid) for r in Region]
    present = torch.from_numpy(prepared.present.copy())
    subsets = [torch.tensor(subset).bool() for subset in SUBSETS]
    predicted = predictions_on_subsets(network, coarse.channels, coarse.brain, present, subsets)
    values, grid = case.reference()
    labels = resample(values.astype(np.float32), grid, fine.grid, nearest=True).astype(np.uint8)
    nested = np.sum([np.isin(labels, region.labels) for region in Region], 0, dtype=np.uint8)
    code = np.where(fine.brain[0].numpy(), 1 + nested, 0).astype(np.uint8)
    first = (np.stack(analysis) * 255).round().clip(0, 255).astype(np.uint8)
    arrays = {
        "image": fine.channels[0].half().numpy(),
        "code": code,
        "parts": number_lesions(code),
        "guess": np.stack([first, *predicted]),
    }
    record = {
        "present": prepared.present.tolist(), "subsets": [[1, 1, 1, 1], *SUBSETS], "real": True,
    }  # fmt: skip
    write_volume(pool / case.name, arrays, record)


def main() -> None:
    """Add volumes to the pool."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pool", type=Path)
    parser.add_argument("--synthetic", type=int, default=0)
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--kinds", choices=KINDS, default="gliomas")
    parser.add_argument("--anatomies", type=Path)
    parser.add_argument("--cases", type=Path)
    parser.add_argument("--weights", default="synthetic")
    parser.add_argument("--only", nargs="*", default=())
    options = parser.parse_args()
    torch.set_num_threads(1)
    for file in sorted(options.anatomies.glob("*.nii.gz")) if options.anatomies else ():
        folder = options.pool / f"anatomy-{file.name.split('.')[0]}"
        if not folder.is_dir():
            arrays, groups = read_structures(file)
            record = {"present": [True] * 4, "subsets": [], "real": False, "groups": groups}
            write_volume(folder, arrays, record)
    network = load(options.weights)[0]
    for number in range(options.synthetic):
        seed = options.first_seed + number
        add_synthetic(options.pool, seed, network, KINDS[options.kinds])
    if options.cases:
        from lesionlens.training.references import find_real_cases

        for case in find_real_cases(options.cases, convention=lambda _: None).cases:
            if not options.only or case.name in options.only:
                add_case(options.pool, case, options.weights, network)


if __name__ == "__main__":
    main()
