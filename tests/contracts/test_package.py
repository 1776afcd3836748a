"""The package as a whole: what it loads, bundles, declares and says."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pydicom
import pytest
from packaging.requirements import Requirement

from lesionlens.imaging.samples import DICOM_STUDY

TOP = Path(__file__).resolve().parents[2]
PACKAGE = TOP / "src" / "lesionlens"
DATA = {".npz", ".npy", ".safetensors", ".gz", ".nii", ".dcm", ".pt", ".pth", ".pkl"}
QT = "qtpy PyQt6 PySide6 vispy napari magicgui superqt"
LIST_PLUGINS = "import npe2; npe2.PluginManager.instance().discover()"
WITHOUT_TORCH = """
import lesionlens.imaging.reading.open, lesionlens.imaging.preparation.prepare
import lesionlens.analysis.findings.candidates, lesionlens.results.review.log
import lesionlens.results.export.exporter, lesionlens.cli.main
"""
UNIX = {
    "os": ("chown", "fork", "geteuid", "getuid", "killpg", "nice", "sched_getaffinity", "statvfs"),
    "signal": ("SIGALRM", "SIGHUP", "SIGKILL", "alarm", "pthread_sigmask", "setitimer"),
    "socket": ("AF_UNIX",),
}
ON_WINDOWS = f"""
import builtins, importlib, pkgutil, sys
import lesionlens

def everything():
    for found in pkgutil.walk_packages(lesionlens.__path__, "lesionlens."):
        importlib.import_module(found.name)

everything()  # packages of others may be as they are on this system
for name in [name for name in sys.modules if name.split(".")[0] == "lesionlens"]:
    del sys.modules[name]
for module, names in {UNIX}.items():
    for name in names:
        delattr(importlib.import_module(module), name)
imported = builtins.__import__

def on_windows(name, globals=None, locals=None, fromlist=(), level=0):
    importer = str((globals or {{}}).get("__name__", ""))
    if importer.split(".")[0] == "lesionlens" and name in ("fcntl", "pwd", "resource", "termios"):
        raise ModuleNotFoundError(f"{{importer}} imports {{name}}")
    return imported(name, globals, locals, fromlist, level)

builtins.__import__ = on_windows
import lesionlens
everything()
"""


def run(code):
    """Run a program in a process of its own."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import lesionlens", f"torch monai numpy scipy pydantic {QT}"),
        (LIST_PLUGINS, "torch monai qtpy PySide6 vispy"),
        (WITHOUT_TORCH, f"torch monai {QT}"),
        ("import lesionlens.results.lens", QT),
    ],
    ids=["package", "plugins listed", "without torch", "without a window"],
)
def test_nothing_heavy_is_loaded(code, absent):
    run(f"{code}\nimport sys\nfound = set({absent.split()}) & set(sys.modules)\nassert not found")


@pytest.mark.slow
def test_modules_are_imported_without_what_unix_alone_has():
    run(ON_WINDOWS)


def test_whatever_is_imported_is_declared():
    """None of it comes only because another dependency happens to bring it."""

    def plain(name):
        return name.lower().replace("_", "-")

    declared = {plain(Requirement(line).name) for line in metadata.requires("lesionlens") or ()}
    provided = metadata.packages_distributions()
    missing = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            for top in {name.split(".")[0] for name in names} - sys.stdlib_module_names:
                if top != "lesionlens" and not {*map(plain, provided.get(top, [top]))} & declared:
                    missing[top] = path.name
    assert not missing


def test_notice_names_bundled_data():
    notice = (TOP / "NOTICE").read_text("utf-8")
    named = re.findall(r"(?:src|training|sample_data)/[\w./-]+", notice)
    assert not [path for path in named if not (TOP / path.rstrip(".")).exists()]
    bundled = [*PACKAGE.rglob("*"), *(TOP / "sample_data").rglob("*.gz")]
    bundled = [path.relative_to(TOP) for path in bundled if path.suffix in DATA]
    assert bundled
    assert not [p for p in bundled if not {p.as_posix(), p.parent.as_posix()} & set(named)]
    assert not [path for path in bundled if path.suffix in {".pkl", ".pt", ".pth"}]


def test_samples_name_their_origin():
    for text in (TOP / "NOTICE", TOP / "sample_data" / "README.md"):
        for word in ("CC BY 4.0", "10.7937/jc8x-9874", "BraTS2021_01660", "Baid U", "synthetic"):
            assert word in text.read_text("utf-8")


def test_viewers_can_draw_one_bit_frames_on_the_sample():
    for path in DICOM_STUDY.rglob("IM0001"):
        image = pydicom.dcmread(path, stop_before_pixels=True)
        assert (image.Rows % 8, image.Columns % 8) == (0, 0), path


def test_seed_of_the_sample_is_kept_from_training():
    from training.lens.volumes import SAMPLE_SEED
    from training.templates.synthetic_sample import SEED

    assert SEED >= SAMPLE_SEED


def test_no_template_says_that_there_is_nothing():
    never = r"\bno (?:evidence of )?(?:tumou?r|lesion|disease)\b|\b(?:healthy|normal(?! ?[;}]))\b"
    templates = list(PACKAGE.rglob("*.html.j2"))
    assert templates
    assert not [p.name for p in templates if re.search(never, p.read_text("utf-8"), re.IGNORECASE)]
