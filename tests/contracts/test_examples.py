"""What the documents show must work as shown."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import typer

from lesionlens import batch
from lesionlens.cli.main import app
from lesionlens.network.weights import load

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLES = REPOSITORY / "examples"
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")
FENCE = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)
INLINE = re.compile(r"(?<!`)`(lesionlens [^`]+)`(?!`)")
PAGES = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")])


def test_links_between_pages_lead_somewhere():
    links = [
        (page, link)
        for page in PAGES
        for link in LINK.findall(page.read_text("utf-8"))
        if "://" not in link
    ]
    assert links
    assert not [row for row in links if not (row[0].parent / row[1]).exists()]


def blocks(page, language):
    """Return a page's code blocks of a language."""
    return [code for name, code in FENCE.findall(page.read_text("utf-8")) if name == language]


def shown_commands():
    """Return every call of the command line that a document or a help text shows, once."""
    shown = []
    for page in PAGES:
        text = page.read_text("utf-8")
        shown += [line for _, code in FENCE.findall(text) for line in code.splitlines()]
        shown += INLINE.findall(FENCE.sub("", text).replace("\n", " "))
    for command in every_command(typer.main.get_command(app)):
        shown.append((command.epilog or "").removeprefix("Example: "))
    calls = (" ".join(re.split("[#>]", line)[0].split()) for line in shown)
    return sorted({c for c in calls if c.startswith("lesionlens ") and not set("…|") & set(c)})


def every_command(command):
    """Yield a command and all below it."""
    yield command
    for below in getattr(command, "commands", {}).values():
        yield from every_command(below)


@pytest.mark.parametrize("line", shown_commands())
def test_every_command_that_is_shown_parses(line, monkeypatch):
    """The command, its options and arguments exist, as pasted; nothing is run."""
    monkeypatch.chdir(REPOSITORY)
    command, words = typer.main.get_command(app), shlex.split(line)[1:]
    while hasattr(command, "commands") and not words[0].startswith("-"):
        command, words = command.commands[words[0]], words[1:]
    if hasattr(command, "commands"):
        assert words[0] in {name for option in command.params for name in option.opts}
    elif words:  # else it is spoken of, not called
        command.make_context(line, words)


@pytest.mark.slow
def test_the_python_of_the_documents_runs_as_shown(monkeypatch, tmp_path):
    """README's block makes the result that the other pages' blocks read, and a batch its table."""
    first = REPOSITORY / "README.md"
    monkeypatch.chdir(REPOSITORY)
    shutil.copytree("sample_data/study", tmp_path / "studies" / "one")
    batch(tmp_path / "studies", out=tmp_path / "out" / "batch")
    for page in (first, *(page for page in PAGES if page != first)):
        for block in blocks(page, "python"):
            code = block.replace('"out/', f'"{(tmp_path / "out").as_posix()}/')
            code = re.sub(r"^\S*\.?show\(.*$", "", code, flags=re.MULTILINE)  # needs a display
            exec(compile(code, page.name, "exec"), {})
    assert (tmp_path / "out/demo/report.html").exists()


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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the exporter's own
def test_the_exported_network_computes_the_same(tmp_path, random_weights):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    from onnx.reference import ReferenceEvaluator

    file = tmp_path / "lens.onnx"
    runpy.run_path(str(EXAMPLES / "export_onnx.py"))["main"](str(file), str(random_weights))
    network, _ = load(random_weights)
    x = torch.rand(1, 8, 24, 16, 16)
    with torch.inference_mode():
        expected = network(x).logits.numpy()
    (found,) = ReferenceEvaluator(onnx.load(file)).run(None, {"x": x.numpy()})
    np.testing.assert_allclose(found, expected, atol=1e-3)
