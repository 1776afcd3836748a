"""The shipped weights: files in `weight_files/`, each with a JSON record; needs no torch."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from lesionlens.base.errors import WeightsError
from lesionlens.base.provenance import sha256_of

DEFAULT_NAME = "default"
SHIPPED = (DEFAULT_NAME, "synthetic")
"""The sets of the Lens network's weights; the second was trained without patient data."""


def shipped_path(name: str = DEFAULT_NAME) -> Path:
    """Return the path of weights by the name of their files, without ending."""
    return Path(str(files("lesionlens.network.weight_files") / f"{name}.safetensors"))


def shipped_record(name: str) -> dict[str, Any]:
    """Return the record of weights: `sha256`, mostly also `version` and `trained_on`."""
    return dict(json.loads(shipped_path(name).with_suffix(".json").read_text("utf-8")))


def shipped_file(name: str) -> Path:
    """Return the path of weights, checked against the record.

    Raises
    ------
    WeightsError
        The file or its record is missing, or the file is altered.
    """
    path = shipped_path(name)
    has_record = path.with_suffix(".json").is_file()
    expected = shipped_record(name)["sha256"] if has_record else None
    if not path.is_file() or sha256_of(path) != expected:
        raise WeightsError(
            found=f"a missing or altered {path.name}",
            expected="the weights as shipped",
            next_step="Install LesionLens again",
        )
    return path
