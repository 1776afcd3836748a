"""The package of docs/how-to/plugins.md and the class of the tutorial work as they stand there."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from npe2 import PluginManager
from npe2.io_utils import read_get_reader
from tests.contracts.test_examples import blocks

from lesionlens import Lens, open_study
from lesionlens.base.labels import MrSequence
from lesionlens.imaging.preparation.prepare import PrepareOptions
from lesionlens.napari import standalone
from lesionlens.napari.reader import get_reader
from lesionlens.testing import check_engine

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = DOCS / "how-to" / "plugins.md"
TUTORIAL = DOCS / "tutorial" / "own-network.md"


@pytest.fixture
def file(patient, tmp_path):
    """Write a study that only the page's reader reads."""
    scans = {s.value: patient.sequences[s].data for s in MrSequence}
    path = tmp_path / "head.npz"
    np.savez(path, affine=patient.sequences[MrSequence.FLAIR].grid.affine, **scans)
    return path


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Install the page's package as pip would."""
    about = tomllib.loads(blocks(PAGE, "toml")[0])["project"]
    place = tmp_path / "elsewhere"
    for block in (*blocks(PAGE, "python"), *blocks(PAGE, "yaml")):
        path = place / block.partition("\n")[0].removeprefix("# ")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block)
    (place / "my_package" / "__init__.py").touch()
    info = place / "my_package-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {about['name']}\nVersion: 0.1\n")
    points = [
        "\n".join((f"[{group}]", *(f"{name} = {value}" for name, value in named.items())))
        for group, named in about["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(points) + "\n")
    for name in [name for name in sys.modules if name.startswith("my_package")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(place))


@pytest.mark.usefixtures("package")
def test_reader_engine_and_exporter_of_the_page_make_a_result(file, tmp_path):
    study = open_study(file)
    result = Lens(engine="mine")(study, PrepareOptions(edge_mm=4.0))
    assert result.candidates
    assert any("no network" in notice for notice in result.analysis.run.notices)
    result.save(tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary == {"candidates": len(result.candidates)}
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert [row["file"] for row in run["inputs"]] == ["head.npz"]


def test_a_file_that_nobody_reads_is_not_opened(file):
    assert get_reader(str(file)) is None


@pytest.mark.usefixtures("package")
def test_napari_opens_what_only_the_reader_of_the_page_reads(file, monkeypatch):
    """The command read it, and the window refused it."""
    manager = PluginManager()
    manager.discover()
    monkeypatch.setattr(PluginManager, "instance", lambda: manager)
    layers, _ = read_get_reader([str(file)], plugin_name="my-package", stack=False)
    assert {keywords["name"] for _, keywords, _ in layers} == {"T1", "T1c", "T2", "FLAIR"}
    assert get_reader(str(file.parent / "missing.npz")) is None


@pytest.mark.usefixtures("package")
def test_a_window_of_lesionlens_opens_it_without_a_manifest(file, monkeypatch):
    manager = PluginManager()
    monkeypatch.setattr(PluginManager, "instance", lambda: manager)
    monkeypatch.setattr(sys, "argv", ["napari", "--plugin", "lesionlens", str(file)])
    standalone._check_study()
    assert sys.argv[-1] == str(file)
    assert "lesionlens" in {r.plugin_name for r in manager.iter_compatible_readers([str(file)])}


@pytest.mark.usefixtures("package")
def test_the_engine_of_the_page_keeps_the_contract():
    check_engine(Lens(engine="mine").engine)


def test_the_engine_of_the_tutorial_keeps_the_contract():
    shown, called, _ = blocks(TUTORIAL, "python")[0].partition("\n\nresult = ")
    assert called
    names = {}
    exec(compile(shown, TUTORIAL.name, "exec"), names)
    check_engine(names["BrightFlair"]())
