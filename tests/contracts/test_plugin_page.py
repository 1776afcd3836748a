"""The package of docs/how-to/plugins.md and the class of the tutorial work as they stand there."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path

import pytest
from tests.contracts.test_examples import blocks

from lesionlens import Lens
from lesionlens.base.records.study import Study
from lesionlens.imaging.preparation.prepare import PrepareOptions
from lesionlens.testing import check_engine

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = DOCS / "how-to" / "plugins.md"
TUTORIAL = DOCS / "tutorial" / "own-network.md"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Install the page's package as pip would."""
    about = tomllib.loads(blocks(PAGE, "toml")[0])["project"]
    place = tmp_path / "elsewhere"
    for block in blocks(PAGE, "python"):
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
def test_arrays_engine_and_exporter_of_the_page_make_a_result(patient, tmp_path):
    scans = {s: (v.data, v.grid.affine) for s, v in patient.sequences.items()}
    result = Lens(engine="mine")(Study.from_arrays(scans), PrepareOptions(edge_mm=4.0))
    assert result.candidates
    assert any("no network" in notice for notice in result.analysis.run.notices)
    result.save(tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary == {"candidates": len(result.candidates)}
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert {row["file"] for row in run["inputs"]} == set(scans)
    assert len({row["sha256"] for row in run["inputs"]}) == len(scans)


@pytest.mark.usefixtures("package")
def test_the_engine_of_the_page_keeps_the_contract():
    check_engine(Lens(engine="mine").engine)


def test_the_engine_of_the_tutorial_keeps_the_contract():
    shown, called, _ = blocks(TUTORIAL, "python")[0].partition("\n\nresult = ")
    assert called
    names = {}
    exec(compile(shown, TUTORIAL.name, "exec"), names)
    check_engine(names["BrightFlair"]())
