"""What packs LesionLens agrees with the package, and passes the linters that are here."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGING = REPOSITORY / "packaging"
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
CONDA_NAMES = {
    "matplotlib": "matplotlib-base",
    "python-gdcm": "gdcm",
    "torch": "pytorch",
    "typing-extensions": "typing_extensions",
}
NOT_ON_CONDA = {"dicom-anonymizer"}
CONTAINERS = sorted(PACKAGING.rglob("Containerfile"))
LARGEST_MB = 25


def parted(requirement):
    """Return a requirement's name and its versions."""
    name, versions = re.fullmatch(r"([A-Za-z0-9_.-]+)\s*(.*)", requirement).groups()
    return name.lower(), versions.replace(" ", "")


def test_the_conda_recipe_asks_for_what_the_package_asks_for():
    yaml = pytest.importorskip("yaml")
    recipe = yaml.safe_load((PACKAGING / "conda/recipe.yaml").read_text("utf-8"))
    assert recipe["context"]["version"] == PROJECT["version"]
    ours = dict(parted(line) for line in PROJECT["dependencies"])
    wanted = {CONDA_NAMES.get(n, n): v for n, v in ours.items() if n not in NOT_ON_CONDA}
    asked = dict(parted(line) for line in recipe["requirements"]["run"])
    assert asked.pop("python") == PROJECT["requires-python"].replace(" ", "")
    assert asked == wanted


def test_rattler_build_reads_the_recipe():
    rattler = pytest.importorskip("rattler_build")
    recipe = rattler.Stage0Recipe.from_file(str(PACKAGING / "conda/recipe.yaml"))
    assert recipe.render()


@pytest.mark.parametrize("path", CONTAINERS, ids=lambda p: str(p.relative_to(PACKAGING)))
def test_no_container_runs_as_root(path):
    lines = path.read_text("utf-8").splitlines()
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users[-1] not in ("0", "root")
    assert any(line.startswith("HEALTHCHECK") for line in lines)
    assert f"image.version={PROJECT['version']!r}".replace("'", '"') in "".join(lines) or (
        path.parent == PACKAGING
    )


@pytest.mark.parametrize("path", CONTAINERS, ids=lambda p: str(p.relative_to(PACKAGING)))
def test_containers_pass_the_linter(path):
    hadolint = shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([hadolint, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_monai_application_names_what_is_in_its_image():
    folder = PACKAGING / "monai-deploy"
    app, package = (json.loads((folder / f"{n}.json").read_text("utf-8")) for n in ("app", "pkg"))
    assert app["version"] == package["version"] == PROJECT["version"]
    image = (folder / "Containerfile").read_text("utf-8")
    assert f'ENTRYPOINT ["{app["command"]}"]' in image
    for part in ("input", "output"):
        assert f"{app['working-directory']}{app[part]['path']}" in image


def test_the_wheel_can_be_listed_by_napari():
    classifiers = set(PROJECT["classifiers"])
    assert "Framework :: napari" in classifiers
    assert any(c.startswith("Development Status") for c in classifiers)
    assert PROJECT["authors"]
    assert "napari.manifest" in PROJECT["entry-points"]


@pytest.mark.slow
def test_the_wheel_stays_small(tmp_path):
    pytest.importorskip("hatchling")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size <= LARGEST_MB * 10**6
