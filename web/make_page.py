"""Write the network as one page that a browser runs by itself: no server, no connection.

    make web                                     # the shipped weights, to out/lesionlens.html
    python web/make_page.py --out lens.html --weights my/best.safetensors

The page's own sources are in `page/`. npm fetches onnxruntime-web, nifti-reader-js and esbuild
once, in the versions of `package-lock.json`, and keeps them in the user's cache.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import hashlib
import html
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from lesionlens.base.errors import MissingPluginError, ResourceError
from lesionlens.base.files import user_folders
from lesionlens.base.files.atomic_file import write_atomically, write_error
from lesionlens.base.labels import RESEARCH_USE_NOTICE, WeightPrecision
from lesionlens.network.brain import BRAIN
from lesionlens.network.onnx_export import export_lens
from lesionlens.network.shipped_weights import shipped_file
from lesionlens.network.weights import load_chosen
from lesionlens.network.weights_metadata import WeightsInfo

PAGE = Path(__file__).resolve().parent / "page"
"""The page's own sources."""
_NPM = ("ci", "--ignore-scripts", "--no-audit", "--no-fund")
_FETCHED = ("onnxruntime-web", "nifti-reader-js", "fflate")
"""npm packages of which code is in the page."""
_BUNDLE = ("--bundle", "--minify", "--format=iife", "--define:import.meta.url=self.location.href")
_TIME_LIMIT_S = 900.0


def write_page(network: Path, about: WeightsInfo, path: Path) -> None:
    """Write the page.

    Parameters
    ----------
    network : Path
        The Lens network as `network.onnx_export.export_lens` writes it.
    about : WeightsInfo
        Of its weights.
    path : Path
        The HTML file; replaced only by a complete one.

    Raises
    ------
    MissingPluginError
        npm is not installed.
    ResourceError
        npm could not fetch its packages, or the file cannot be written.
    """
    packages = fetch_packages()
    text = _filled(_built(packages), _blocks(network), about)
    try:
        write_atomically(path, text)
    except OSError as error:
        raise write_error("a page", path, error) from error


def fetch_packages() -> Path:
    """Return the folder `node_modules` of the pinned packages; fetched where it is not yet.

    Raises
    ------
    MissingPluginError
        npm is not installed.
    ResourceError
        npm could not fetch them.
    """
    lock = (PAGE / "package-lock.json").read_bytes()
    kept = user_folders.cache() / "browser"
    folder = kept / hashlib.sha256(lock).hexdigest()[:16]
    if (folder / "complete").is_file():
        return folder / "node_modules"
    npm = shutil.which("npm")
    if npm is None:
        raise MissingPluginError(
            found="no npm, which fetches what a page in a browser needs",
            expected="Node.js 20 or later, which brings it",
            next_step="Install Node.js where the page is written; the page needs none",
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(PAGE / name, folder / name)
    _run([npm, *_NPM], folder, "npm could not fetch onnxruntime-web, nifti-reader-js and esbuild")
    (folder / "complete").touch()
    return folder / "node_modules"


def _built(packages: Path) -> Mapping[str, str]:
    """Return the worker and the page's script, each as one text."""
    node = shutil.which("node") or "node"
    esbuild = [node, str(packages / "esbuild" / "bin" / "esbuild")]
    with tempfile.TemporaryDirectory(prefix="lesionlens-") as place:
        made = {name: Path(place) / f"{name}.js" for name in ("worker", "app")}
        for name, path in made.items():
            # a page opened as a file may start classic workers alone, which have no import.meta
            command = [*esbuild, f"{name}.js", *_BUNDLE, f"--outfile={path}"]
            _run(command, PAGE, "esbuild could not build the page", NODE_PATH=str(packages))
        return {name: path.read_text("utf-8") for name, path in made.items()} | {
            "wasm": _packed(_wasm(packages)),
            "licences": _licences(packages),
        }


def _wasm(packages: Path) -> bytes:
    place = packages / "onnxruntime-web" / "dist" / "ort-wasm-simd-threaded.wasm"
    return place.read_bytes()


def _licences(packages: Path) -> str:
    """Return name, version and licence of what is in the page, with the texts that came along."""
    licences = []
    for name in _FETCHED:
        about = json.loads((packages / name / "package.json").read_text("utf-8"))
        licences.append(f"{name} {about['version']}: {about['license']}")
        texts = sorted((packages / name).glob("LICEN[CS]E*"))
        licences.extend(text.read_text("utf-8") for text in texts)
    return "\n\n".join(licences)


def _run(command: list[str], folder: Path, failed: str, **more: str) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **more},
            capture_output=True,
            text=True,
            timeout=_TIME_LIMIT_S,
            check=False,
        )
        output = "" if done.returncode == 0 else (done.stderr or done.stdout)[-300:].strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        output = str(error)[:300]
    if output:
        raise ResourceError(
            found=f"{failed} ({output})",
            expected="Node.js 20 or later and, once, npm's registry; later pages need none",
            next_step="Check the connection and npm's settings, and start again",
        )


def _packed(data: bytes) -> str:
    return base64.b64encode(gzip.compress(data, 9, mtime=0)).decode("ascii")


def _blocks(network: Path) -> Mapping[str, str]:
    import onnx

    shipped_file(BRAIN)  # the ONNX file refers to these weights
    brain = onnx.load(shipped_file(BRAIN, onnx=True))
    return {"lens": _packed(network.read_bytes()), "brain": _packed(brain.SerializeToString())}


def _filled(built: Mapping[str, str], blocks: Mapping[str, str], about: WeightsInfo) -> str:
    style = (PAGE / "page.css").read_text("utf-8")
    notes = {
        "spacing_mm": about.spacing_mm,
        "focus_spacing_mm": about.focus_spacing_mm,
        "temperature": about.temperature,
        "thresholds": about.thresholds,
        "score": about.score,
        "score_floor": about.score_floor,
    }
    words = f"Weights {about.version}, SHA-256 {about.sha256}"
    parts = {
        "policy": _policy(built["app"], style),
        "style": style,
        "notice": html.escape(RESEARCH_USE_NOTICE),
        "about": html.escape(words),
        "notes": json.dumps(notes).replace("<", "\\u003c"),
        "worker": _packed(built["worker"].encode()),
        "wasm": built["wasm"],
        "app": built["app"],
        "licences": html.escape(built["licences"]),
        **blocks,
    }
    text = (PAGE / "page.html").read_text("utf-8")
    first, *rest = text.split("{{")
    filled = [first]
    for piece in rest:
        name, after = piece.split("}}", 1)
        filled.extend((parts[name], after))
    return "".join(filled)


def _policy(script: str, style: str) -> str:
    """Return the page's Content-Security-Policy: this script, this style, no connection at all."""

    def hashed(text: str) -> str:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
        return f"'sha256-{digest}'"

    return (
        f"default-src 'none'; script-src {hashed(script)} 'wasm-unsafe-eval'; "
        f"worker-src blob:; style-src {hashed(style)}; connect-src 'none'; "
        "base-uri 'none'; form-action 'none'"
    )


def main() -> None:
    """Export the network and write the page."""
    parser = argparse.ArgumentParser(description="Write the network as one page for a browser.")
    parser.add_argument("--out", type=Path, default=Path("out/lesionlens.html"))
    parser.add_argument("--weights", help="as of `lesionlens analyze`; default: the shipped ones")
    given = parser.parse_args()
    fetch_packages()  # what cannot be had is reported before the minutes of the export
    network, about = load_chosen(given.weights)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="lesionlens-") as aside:
        exported = Path(aside) / "lens.onnx"
        export_lens(network, about, exported, WeightPrecision.FP16)
        write_page(exported, about, given.out)
    print(f"Wrote {given.out}: weights {about.version}, {given.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
