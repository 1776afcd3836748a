"""Add a run's averaged weights to the package, in half precision, with their SHA-256.

python -m training.prompts.release RUN --version 0.2 --trained-on "…" [--small]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from lesionlens.network.prompt_net import GENERAL, SMALL, PromptNotes, load, save

TARGET = Path(__file__).resolve().parents[2] / "src/lesionlens/network/weight_files"


def release(
    run: Path, version: str, trained_on: str, target: Path = TARGET, name: str = GENERAL
) -> str:
    """Write the weights and a JSON file with their hash; return the SHA-256."""
    network, notes, _ = load(run / f"{GENERAL}.safetensors")
    file = target / f"{name}.safetensors"
    digest = save(file, network, PromptNotes(version, trained_on, notes.steps))
    record = {
        "file": file.name, "sha256": digest, "version": version, "steps": notes.steps,
        "trained_on": trained_on,
    }  # fmt: skip
    file.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    return digest


def main() -> None:
    """Release the weights of a run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--version", required=True)
    parser.add_argument("--trained-on", required=True)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    name = SMALL if options.small else GENERAL
    print(release(options.run, options.version, options.trained_on, name=name))


if __name__ == "__main__":
    main()
