"""Pack the prompt pool small enough to send to a borrowed GPU, and unpack it there.

    python -m research.prompts.pack pack POOL --out PACK
    python -m research.prompts.pack unpack PACK --out POOL

Label maps are packed, and the real cases that weights may be trained on; synthetic heads are
generated on the other machine by `prompts/pool.py`. Images are stored in steps of an eighth of a
standard deviation.
"""

from __future__ import annotations

import argparse
import json
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from research.prompts.pool import write_volume
from research.prompts.samples import Volume
from research.training.gpu_training import MAY_BE_TRAINED_ON

_STEPS_A_DEVIATION = 8.0
_LABEL_MAP = "anatomy-"
EVALUATED_ON = tuple(f"BraTS2021_{n}" for n in ("00006", "01480", "01482", "01659"))
"""Cases that other weights may be trained on, but on which the prompt network is evaluated."""
PACK_BYTES = 30_000_000


def pack(pool: Path, out: Path) -> int:
    """Pack every volume that may be trained on; return the size of all in bytes."""
    out.mkdir(parents=True, exist_ok=True)
    for folder in sorted(pool.iterdir()):
        is_case = folder.name in MAY_BE_TRAINED_ON and folder.name not in EVALUATED_ON
        if not is_case and not folder.name.startswith(_LABEL_MAP):
            continue
        Volume(folder)  # writes things.npy
        arrays: dict[str, NDArray[np.generic]] = {}
        for file in sorted(folder.glob("*.npy")):
            if file.stem not in ("exact", "parts", "image"):
                arrays[file.stem] = np.load(file)
        if (folder / "image.npy").is_file():
            values = np.load(folder / "image.npy").astype(np.float32) * _STEPS_A_DEVIATION
            arrays["image"] = values.round().clip(-127, 127).astype(np.int8)
        record = np.frombuffer((folder / "about.json").read_bytes(), np.uint8)
        with zipfile.ZipFile(out / f"{folder.name}.npz", "w", zipfile.ZIP_LZMA) as packed:
            for name, array in {"about": record, **arrays}.items():
                with packed.open(f"{name}.npy", "w") as stream:
                    np.lib.format.write_array(stream, np.ascontiguousarray(array))
    return sum(file.stat().st_size for file in out.glob("*.npz"))


def unpack(packed: Path, pool: Path) -> int:
    """Write the volumes of a pack to a pool, except existing ones; return their number."""
    files = sorted(packed.glob("*.npz"))
    for file in files:
        if (pool / file.stem).is_dir():
            continue
        with np.load(file) as stored:
            arrays = {name: stored[name] for name in stored.files if name != "about"}
            record = json.loads(stored["about"].tobytes())
        if "image" in arrays:
            arrays["image"] = (arrays["image"] / np.float32(_STEPS_A_DEVIATION)).astype(np.float16)
        write_volume(pool / file.stem, arrays, record)
    return len(files)


def main() -> int:
    """Pack or unpack; return 1 if a pack is too large."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("act", choices=("pack", "unpack"))
    parser.add_argument("source", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if options.act == "unpack":
        print(unpack(options.source, options.out), "volumes")
        return 0
    size = pack(options.source, options.out)
    print(f"{size / 1e6:.1f} MB of at most {PACK_BYTES / 1e6:.0f}")
    return int(size > PACK_BYTES)


if __name__ == "__main__":
    raise SystemExit(main())
