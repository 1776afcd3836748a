"""Who may import whom: the written layers, and what Python really loads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
QT = ("qtpy", "PyQt6", "PySide6", "vispy", "napari", "magicgui", "superqt")
HEAVY = ("torch", "monai", *QT)
CORE = [
    "lesionlens.base.geometry",
    "lesionlens.records.analysis",
    "lesionlens.reading.readers",
    "lesionlens.preparation.prepare",
    "lesionlens.findings.candidates",
    "lesionlens.review.log",
    "lesionlens.export.exporter",
    "lesionlens.lens",
    "lesionlens.cli.main",
]
NO_TORCH = [name for name in CORE if name != "lesionlens.lens"]
NOT_FOR_TRAINING = [
    "nibabel",
    "scipy",
    "SimpleITK",
    "pydicom",
    "highdicom",
    "skimage",
    "monai",
    "jinja2",
    "matplotlib",
    "pydantic",
]
REPORT = "import sys, json; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"


def loaded_by(statement: str) -> set[str]:
    """Top-level names in sys.modules after a statement in a fresh interpreter."""
    code = f"{statement}\n{REPORT}"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_layers_hold():
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_the_package_alone_loads_nothing_heavy():
    assert not loaded_by("import lesionlens") & {*HEAVY, "numpy", "scipy", "pydantic"}


@pytest.mark.parametrize("module", CORE)
def test_the_core_loads_no_qt(module):
    assert not loaded_by(f"import {module}") & set(QT)


@pytest.mark.parametrize("module", NO_TORCH)
def test_reading_measuring_reviewing_and_exporting_load_no_torch(module):
    assert not loaded_by(f"import {module}") & {"torch", "monai"}


def test_listing_plugins_loads_no_torch():
    listing = (
        "import npe2\n"
        "manager = npe2.PluginManager.instance()\n"
        "manager.discover()\n"
        "assert 'lesionlens' in {m.name for m in manager.iter_manifests()}\n"
        "list(manager.iter_widgets()); list(manager.iter_sample_data())"
    )
    assert not loaded_by(listing) & {"torch", "monai"}


def test_training_on_synthetic_brains_needs_only_torch_numpy_and_safetensors():
    blocked = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {NOT_FOR_TRAINING}:\n"
        "            raise ImportError(f'{name} is not there')\n"
        "sys.meta_path.insert(0, Block())\n"
        "import lesionlens.cli.main, lesionlens.training.loop, lesionlens.synth.draw\n"
    )
    loaded_by(blocked)
