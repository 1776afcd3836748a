"""Who may import whom: the written layers, and what Python really loads."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

from tests.architecture.sources import MODULES, name_of, nodes_of
from tests.helpers.file_search import files_below

REPOSITORY = Path(__file__).resolve().parents[2]
QT = ("qtpy", "PyQt6", "PySide6", "vispy", "napari", "magicgui", "superqt")
HEAVY = ("torch", "monai", *QT)
NO_TORCH = [
    "lesionlens.base.geometry",
    "lesionlens.base.records.analysis",
    "lesionlens.imaging.reading.readers",
    "lesionlens.imaging.preparation.prepare",
    "lesionlens.analysis.findings.candidates",
    "lesionlens.results.review.log",
    "lesionlens.results.export.exporter",
    "lesionlens.cli.main",
]
NOT_FOR_TRAINING = [
    "nibabel",
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
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
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


def test_reading_measuring_reviewing_and_exporting_load_neither_torch_nor_qt():
    """One after the other in one interpreter: what a later one loads is its own doing."""
    code = (
        "import importlib, sys\n"
        f"for name in {NO_TORCH}:\n"
        "    importlib.import_module(name)\n"
        f"    found = {set(HEAVY)} & set(sys.modules)\n"
        "    assert not found, f'{name} loads {found}'\n"
    )
    loaded_by(code)


def test_the_facade_loads_no_qt():
    assert not loaded_by("import lesionlens.results.lens") & set(QT)


def test_neither_reading_weights_nor_a_pass_loads_sympy():
    """Torch imports it, and its compiler, for what it cannot compute itself: .6 s an analysis."""
    loaded = loaded_by(
        "import torch\n"
        "from lesionlens.network.weights import load_chosen\n"
        "from lesionlens.network.prompt.weights import NAME, load_shipped\n"
        "from lesionlens.network.folded_unet import load_shipped_unet\n"
        "from lesionlens.network import small_lesions\n"
        "network, _ = load_chosen(None, torch.device('cpu'))\n"
        "with torch.inference_mode():\n"
        "    network(torch.zeros(1, 8, 16, 16, 16))\n"
        "load_shipped(torch.device('cpu'), NAME)\n"
        "image = torch.zeros(small_lesions.CHANNELS, 16, 16, 16).numpy()\n"
        "next(iter(load_shipped_unet(small_lesions.NAME, small_lesions.CHANNELS)([image])))\n"
    )
    assert "torch" in loaded
    assert "sympy" not in loaded


def test_training_on_synthetic_brains_needs_only_torch_numpy_scipy_and_safetensors():
    blocked = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {NOT_FOR_TRAINING}:\n"
        "            raise ImportError(f'{name} is not there')\n"
        "sys.meta_path.insert(0, Block())\n"
        "import lesionlens.cli.main, lesionlens.training.loop, lesionlens.network.synth.generator\n"
        "import lesionlens.network.prompt.crop, lesionlens.network.prompt.model\n"
    )
    loaded_by(blocked)


def test_dicom_files_are_opened_in_one_place():
    """Bounded; what an exporter reads back, it has just written."""
    package = REPOSITORY / "src" / "lesionlens"
    home = package / "imaging" / "reading" / "dicom" / "bounded.py"
    written = package / "results" / "export" / "dicom"
    opened = [
        path
        for path in files_below(package, "*.py")
        if re.search(r"\b(?:dcmread|read_file_meta_info)\(", path.read_text("utf-8"))
    ]
    assert home in opened
    assert [path for path in opened if path != home and path.parent != written] == []


def test_one_module_alone_reaches_for_what_napari_keeps_to_itself():
    """With a fallback, so that another version of napari may lack it."""
    private = re.compile(
        r"(?:from|import) napari(?:\.\w+)*\._vispy|from napari\._(?!_main__)|import napari\._"
    )
    files = files_below(REPOSITORY / "src" / "lesionlens", "*.py")
    users = [path.name for path in files if private.search(path.read_text(encoding="utf-8"))]
    assert users == ["canvas_strokes.py"]


def test_the_host_process_is_set_in_few_places_that_ask_first():
    """Other plugins live in the same napari. What `collector.py` sets, it sets back."""
    sets = re.compile(
        r"(?:gc|memory)\.(?:freeze|disable|set_threshold)\(|mallopt\(|application_registry"
    )
    files = files_below(REPOSITORY / "src" / "lesionlens", "*.py")
    found = {path.name for path in files if sets.search(path.read_text(encoding="utf-8"))}
    tuned = {"actions.py", "retained_memory.py", "memory.py", "units.py", "main.py"}
    assert found == tuned | {"collector.py"}


def test_what_is_painted_comes_from_the_view_model():
    """Widgets, views and the dock read no session's state; only the model and controllers do."""
    leak = re.compile(r"session\.state\b|import .*\b(?:Worklist|Archive)?State\b(?! *=)")
    napari = REPOSITORY / "src" / "lesionlens" / "napari"
    painting = [napari / "dock.py", napari / "palette.py"]
    for folder in ("widgets", "viewer", "commands", "qt"):
        painting += files_below(napari / folder, "*.py")
    assert [p.name for p in painting if leak.search(p.read_text(encoding="utf-8"))] == []


def test_the_window_starts_threads_in_one_module_only():
    """Others would collect garbage, and free what Qt calls, beside the main thread."""
    started = {
        name_of(path)
        for path in MODULES
        if name_of(path).startswith("napari/")
        for node in nodes_of(path)
        if isinstance(node, ast.Attribute | ast.Name)
        and getattr(node, "attr", getattr(node, "id", "")) in ("Thread", "ThreadPoolExecutor")
        and not isinstance(node.ctx, ast.Store)
    }
    assert "napari/qt/threads.py" in started
    assert started <= {
        "napari/qt/threads.py",
        "napari/qt/jobs.py",  # names the type
        "napari/controllers/worklist_controller.py",  # its pool is given to `submit`
        "napari/loading.py",  # within a job
    }
