"""Pack the prompt pool small enough to travel to a borrowed GPU, and unpack it there.

    python research/prompt_pack.py pack POOL --out PACK
    python research/prompt_pack.py unpack PACK --out POOL

Real cases, of those that weights may be trained on alone, and label maps travel; synthetic heads
are made anew over there by `prompt_pool.py`. Images are kept in steps of an eighth of a deviation.
"""

from __future__ import annotations

import argparse
import json
import zipfile
from pathlib import Path

import numpy as np
from gpu_training import MAY_BE_TRAINED_ON
from numpy.typing import NDArray
from prompt_pool import write
from prompt_samples import Volume

_STEPS_A_DEVIATION = 8.0
_LABEL_MAP = "anatomy-"
EVALUATED_ON = tuple(f"BraTS2021_{n}" for n in ("00006", "01480", "01482", "01659"))
"""Cases that other weights may be trained on, but which the prompt network is measured by."""
PACK_BYTES = 30_000_000


def pack(pool: Path, out: Path) -> int:
    """Pack every volume that may travel; return the bytes of all."""
    out.mkdir(parents=True, exist_ok=True)
    for folder in sorted(pool.iterdir()):
        case = folder.name in MAY_BE_TRAINED_ON and folder.name not in EVALUATED_ON
        if not case and not folder.name.startswith(_LABEL_MAP):
            continue
        Volume(folder)  # numbers its things
        kept: dict[str, NDArray[np.generic]] = {}
        for file in sorted(folder.glob("*.npy")):
            if file.stem not in ("exact", "parts", "image"):
                kept[file.stem] = np.load(file)
        if (folder / "image.npy").is_file():
            values = np.load(folder / "image.npy").astype(np.float32) * _STEPS_A_DEVIATION
            kept["image"] = values.round().clip(-127, 127).astype(np.int8)
        about = np.frombuffer((folder / "about.json").read_bytes(), np.uint8)
        with zipfile.ZipFile(out / f"{folder.name}.npz", "w", zipfile.ZIP_LZMA) as packed:
            for name, array in {"about": about, **kept}.items():
                with packed.open(f"{name}.npy", "w") as stream:
                    np.lib.format.write_array(stream, np.ascontiguousarray(array))
    return sum(file.stat().st_size for file in out.glob("*.npz"))


def unpack(packed: Path, pool: Path) -> int:
    """Write the volumes of a pack as a pool; return how many there are. Those there stay."""
    files = sorted(packed.glob("*.npz"))
    for file in files:
        if (pool / file.stem).is_dir():
            continue
        with np.load(file) as kept:
            arrays = {name: kept[name] for name in kept.files if name != "about"}
            about = json.loads(kept["about"].tobytes())
        if "image" in arrays:
            arrays["image"] = (arrays["image"] / np.float32(_STEPS_A_DEVIATION)).astype(np.float16)
        write(pool / file.stem, arrays, about)
    return len(files)


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("act", choices=("pack", "unpack"))
    parser.add_argument("source", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    wanted = parser.parse_args()
    if wanted.act == "unpack":
        print(unpack(wanted.source, wanted.out), "volumes")
        return 0
    size = pack(wanted.source, wanted.out)
    print(f"{size / 1e6:.1f} MB of at most {PACK_BYTES / 1e6:.0f}")
    return int(size > PACK_BYTES)


if __name__ == "__main__":
    raise SystemExit(main())
