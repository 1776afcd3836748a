"""What the documents show must work as shown."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLES = REPOSITORY / "examples"
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")
PAGES = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md")])


def name_of(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_to_a_file_leads_to_one(page):
    links = [x for x in LINK.findall(page.read_text("utf-8")) if "://" not in x]
    assert not [x for x in links if not (page.parent / x).exists()]


@pytest.mark.slow
def test_the_readme_s_python_runs_as_shown(monkeypatch, tmp_path):
    text = (REPOSITORY / "README.md").read_text("utf-8")
    block = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert block
    code = block[1].replace("result.show()", "").replace("out/demo", str(tmp_path / "demo"))
    monkeypatch.chdir(REPOSITORY)
    exec(compile(code, "README.md", "exec"), {})
    assert (tmp_path / "demo" / "report.html").exists()


@pytest.mark.slow
def test_the_examples_run(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(sys, "argv", ["analyse_a_study.py", "sample_data/study"])
    runpy.run_path(str(EXAMPLES / "analyse_a_study.py"), run_name="__main__")
    assert "score" in capsys.readouterr().out
    out = tmp_path / "attends.nii.gz"
    monkeypatch.setattr(sys, "argv", ["where_a_voxel_attends.py", "sample_data/study", str(out)])
    runpy.run_path(str(EXAMPLES / "where_a_voxel_attends.py"), run_name="__main__")
    assert out.exists()
