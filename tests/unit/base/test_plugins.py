"""Plugins that are missing, of other packages, and broken."""

from __future__ import annotations

import pytest
from tests.helpers.third_party_package import install_package

from lesionlens.base import errors, plugins


def test_a_missing_plugin_names_what_is_installed():
    with pytest.raises(errors.MissingPluginError, match=r"(?s)'toaster'.*dicom.*nifti"):
        plugins.load(plugins.EXPORTERS, "toaster")


def test_a_plugin_that_cannot_be_imported_names_its_package(monkeypatch, tmp_path):
    install_package(monkeypatch, tmp_path, "import nothing_like_this", exporters="mine = Reader")
    expected = r"'mine' of crooked 0\.7 .*ModuleNotFoundError.*nothing_like_this"
    with pytest.raises(errors.PluginError, match=expected) as caught:
        plugins.load(plugins.EXPORTERS, "mine")
    assert caught.value.exit_status == 1
    made, failed = plugins.create_all(plugins.EXPORTERS)
    assert {"dicom", "nifti"} <= set(made)
    assert set(failed) == {"mine"} == set(plugins.load_errors(plugins.EXPORTERS))


REFUSAL = """
from lesionlens.base.errors import ReadError

def refuse(*_):
    raise ReadError(found="an old file", expected="a new one", next_step="Convert it")
"""


@pytest.mark.parametrize("code", ["refuse()", "class Reader:\n    __init__ = refuse"])
def test_a_plugin_that_refuses_before_it_is_chosen_costs_no_other(code, monkeypatch, tmp_path):
    """It raises an error of ours, as a chosen reader may: then nothing could be read or saved."""
    install_package(monkeypatch, tmp_path, f"{REFUSAL}\n{code}", exporters="mine = Reader")
    made, failed = plugins.create_all(plugins.EXPORTERS)
    assert {"dicom", "nifti"} <= set(made)
    assert "ReadError" in failed["mine"].brief
    assert "old" not in failed["mine"].brief
    assert "old" in str(failed["mine"])
    with pytest.raises(errors.LesionLensError, match="an old file"):
        plugins.make(plugins.EXPORTERS, "mine")


def test_what_goes_to_files_does_not_repeat_what_the_plugin_said(monkeypatch, tmp_path):
    code = "raise RuntimeError('cannot read doe^jane.dcm')"
    install_package(monkeypatch, tmp_path, code, exporters="mine = Writer")
    error = plugins.create_all(plugins.EXPORTERS)[1]["mine"]
    assert "jane" in str(error)
    assert "jane" not in error.brief


def test_no_package_takes_the_name_of_one_of_ours(monkeypatch, tmp_path):
    ours = plugins.load(plugins.EXPORTERS, "nifti")
    install_package(monkeypatch, tmp_path, "class Reader: ...", exporters="nifti = Reader")
    assert plugins.load(plugins.EXPORTERS, "nifti") is ours
    assert "crooked 0.7" in plugins.load_errors(plugins.EXPORTERS)["nifti"]


def test_a_name_that_two_packages_have_is_refused_by_both_their_names(monkeypatch, tmp_path):
    """Which of them ran depended on the order of sys.path, without a word."""
    install_package(monkeypatch, tmp_path, "class Engine: ...", engines="mine = Engine")
    other = tmp_path / "other" / "second-2.0.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: second\nVersion: 2.0\n")
    points = "[lesionlens.engines]\nmine = crooked:Engine\nlens = crooked:Engine\n"
    (other / "entry_points.txt").write_text(points)
    assert plugins.load(plugins.ENGINES, "mine")
    monkeypatch.syspath_prepend(str(other.parent))
    with pytest.raises(errors.PluginError, match=r"second 2\.0 has .*crooked 0\.7"):
        plugins.load(plugins.ENGINES, "mine")
    assert "same name" in plugins.load_errors(plugins.ENGINES)["mine"]
    assert plugins.load(plugins.ENGINES, "lens").__module__.startswith("lesionlens.")


@pytest.mark.parametrize("error", [MemoryError(), OSError(28, "No space"), KeyboardInterrupt()])
def test_what_is_nobodys_fault_is_not_blamed_on_a_plugin(error):
    with pytest.raises(type(error)) as caught, plugins.plugin_errors("crooked", "reader", "now"):
        raise error
    assert caught.value is error


def test_our_code_that_needs_a_missing_package_names_the_package():
    with (
        pytest.raises(errors.MissingPluginError, match="torch is not installed"),
        plugins.plugin_errors("lesionlens.engines.lens", "engine 'lens'", "when it was loaded"),
    ):
        raise ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn")
