"""What packs LesionLens agrees with the package, and passes the linters that are here."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from lesionlens.base import provenance
from lesionlens.cli import doctor

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGING = REPOSITORY / "packaging"
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
CONDA_NAMES = {
    "matplotlib": "matplotlib-base",
    "python-gdcm": "gdcm",
    "torch": "pytorch",
    "typing-extensions": "typing_extensions",
    "zlib-ng": "python-zlib-ng",
}
CONTAINERS = sorted(PACKAGING.rglob("Containerfile"))
LARGEST_MB = 36


FORMS = {
    "github-workflows": [".github/workflows/*.yml"],
    "github-issue-forms": [".github/ISSUE_TEMPLATE/[!c]*.yml"],
    "github-issue-config": [".github/ISSUE_TEMPLATE/config.yml"],
    "dependabot": [".github/dependabot.yml"],
    "citation-file-format": ["CITATION.cff"],
}


def tool(name):
    """Return a program that came with `dev`, or skip."""
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which(name, path=places)
    return found or pytest.skip(f"{name} is not installed")


def parted(requirement):
    """Return a requirement's name and its versions."""
    name, versions = re.fullmatch(r"([A-Za-z0-9_.-]+)\s*(.*)", requirement).groups()
    return name.lower(), versions.replace(" ", "")


def test_the_conda_recipe_asks_for_what_the_package_asks_for():
    yaml = pytest.importorskip("yaml")
    recipe = yaml.safe_load((PACKAGING / "conda/recipe.yaml").read_text("utf-8"))
    assert recipe["context"]["version"] == PROJECT["version"]
    ours = dict(parted(line) for line in PROJECT["dependencies"])
    wanted = {CONDA_NAMES.get(n, n): v for n, v in ours.items()}
    asked = dict(parted(line) for line in recipe["requirements"]["run"])
    assert asked.pop("python") == PROJECT["requires-python"].replace(" ", "")
    assert asked == wanted


def test_the_packed_program_has_the_metadata_of_the_versions_that_it_states():
    """Without that of safetensors, `doctor` of the packed program was never ready."""
    spec = (PACKAGING / "pyinstaller/lesionlens.spec").read_text("utf-8")
    (names,) = re.findall(r"^NAMED = \((.+?)\)", spec, re.MULTILINE | re.DOTALL)
    base = {parted(line)[0] for line in PROJECT["dependencies"]}
    stated = {*doctor._CORE, *provenance._RESULT_PACKAGES, "lesionlens"}
    wanted = {name for name in stated if name.lower() in {*base, "lesionlens"}}
    assert wanted <= set(re.findall(r'"([^"]+)"', names))


def test_rattler_build_reads_the_recipe():
    rattler = pytest.importorskip("rattler_build")
    recipe = rattler.Stage0Recipe.from_file(str(PACKAGING / "conda/recipe.yaml"))
    assert recipe.render()


@pytest.mark.parametrize("kind", FORMS)
def test_workflows_and_forms_follow_their_schemas(kind):
    files = [str(file) for pattern in FORMS[kind] for file in REPOSITORY.glob(pattern)]
    assert files, "no such file: nothing would be checked"
    command = [tool("check-jsonschema"), "--builtin-schema", f"vendor.{kind}", *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_workflows_have_no_known_weakness():
    """Actions by their hash, no credentials left behind, no text of strangers in a shell."""
    command = [tool("zizmor"), "--offline", "--no-progress", str(REPOSITORY / ".github")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


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
    command = [tool("hadolint"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", CONTAINERS, ids=lambda p: str(p.relative_to(PACKAGING)))
def test_containers_copy_what_every_clone_has(path):
    """Podman fails at a pattern that fits no file, such as that of an optional wheel."""
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", path.read_text("utf-8"), re.MULTILINE)
    sources = [source for line in copied for source in line.split()]
    assert sources
    assert all((REPOSITORY / source).exists() for source in sources), sources


@pytest.mark.skipif(shutil.which("sh") is None, reason="no POSIX shell")
@pytest.mark.parametrize("torch", ["cpu", "cuda"])
def test_the_cuda_image_takes_no_torch_without_cuda(tmp_path, torch):
    """The step that installs, with a `pip` that writes down what it is asked for."""
    text = (PACKAGING / "Containerfile").read_text("utf-8")
    (step,) = re.findall(r"^RUN (python -m venv .+?[^\\])$", text, re.MULTILINE | re.DOTALL)
    wheels, asked = tmp_path / "wheels", tmp_path / "asked"
    wheels.mkdir()
    (wheels / "torch-2.0.0+cpu-cp312-cp312-linux_x86_64.whl").touch()
    pip = tmp_path / "opt/bin/pip"
    pip.parent.mkdir(parents=True)
    pip.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n', "utf-8")
    pip.chmod(0o755)
    place = re.match(r"python -m venv (\S+)", step)[1]
    script = step.replace(f"python -m venv {place}", "true").replace(place, str(tmp_path / "opt"))
    script = script.replace("/packaging/wheels", str(wheels))
    done = subprocess.run(
        ["sh", "-c", script],
        env={"PATH": os.environ["PATH"], "TORCH": torch},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *wheel, package = asked.read_text("utf-8").splitlines()
    assert [("+cpu" in line) for line in wheel] == ([True] if torch == "cpu" else [])
    assert all("-c constraints.txt" in line for line in (*wheel, package))
    assert package.endswith("mesh]")


def test_the_hashes_are_those_of_the_pinned_versions():
    text = (REPOSITORY / "constraints-hashes.txt").read_text("utf-8")
    assert "://" not in text, "the address of an index has no place here"
    rows = re.findall(
        r"^([\w.-]+)==([\w.]+).*\n((?:    --hash=sha256:[0-9a-f]{64}.*\n)+)", text, re.MULTILINE
    )
    assert len(rows) == len(re.findall(r"^[a-z0-9]", text, re.MULTILINE)) > 200
    hashed = {name: version for name, version, _ in rows}
    pins = re.findall(
        r"^([\w.-]+)==(.+)$", (REPOSITORY / "constraints.txt").read_text("utf-8"), re.MULTILINE
    )
    names = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins}
    both = names.keys() & hashed.keys()
    assert {n: hashed[n] for n in both} == {n: names[n] for n in both}
    assert {parted(one)[0].lower() for one in PROJECT["dependencies"]} <= hashed.keys()


@pytest.fixture
def manifests():
    """Return the MONAI application package's two manifests, by name."""
    folder = PACKAGING / "monai-deploy"
    return {n: json.loads((folder / f"{n}.json").read_text("utf-8")) for n in ("app", "pkg")}


def test_the_monai_application_has_the_keys_of_its_specification(manifests):
    """MONAI Application Package 1.0.0: tables of manifest fields, and who is required."""
    app, package = manifests["app"], manifests["pkg"]
    assert {"command", "input", "output", "type"} <= app.keys()
    assert app.keys() <= {
        "apiVersion", "command", "environment", "input", "liveness", "output", "readiness", "sdk",
        "sdkVersion", "timeout", "type", "version", "workingDirectory",
    }  # fmt: skip
    assert package.keys() <= {
        "apiVersion", "applicationRoot", "modelRoot", "models", "resources", "version",
    }  # fmt: skip
    assert {app["apiVersion"], package["apiVersion"]} == {"1.0.0"}
    assert app["type"] in ("application", "service")
    assert all(isinstance(one, dict) for one in app["input"]["formats"])
    assert isinstance(app["output"]["format"], dict)
    assert package["resources"].keys() == {"cpu", "gpu", "memory", "sharedMemory"}
    assert re.fullmatch(r"\d+(\.\d)?[MG]i", package["resources"]["memory"])


def test_the_monai_application_names_what_is_in_its_image(manifests):
    app, package = manifests["app"], manifests["pkg"]
    assert app["version"] == package["version"] == PROJECT["version"]
    image = (PACKAGING / "monai-deploy/Containerfile").read_text("utf-8")
    assert f'ENTRYPOINT ["{app["command"]}"]' in image
    assert app["command"].startswith(package["applicationRoot"])
    for part in ("input", "output"):
        place = f"{app['workingDirectory']}{app[part]['path']}"
        assert place.rstrip("/") in image
        assert app["environment"][f"HOLOSCAN_{part.upper()}_PATH"] == place
    for name, value in app["environment"].items():
        assert f"{name}={value}" in image


def test_the_monai_application_begins_from_the_image_that_is_built_before_it():
    """It began from a tag of the version, which the documented command does not give."""
    image = (PACKAGING / "monai-deploy/Containerfile").read_text("utf-8")
    page = (REPOSITORY / "docs/how-to/packaging.md").read_text("utf-8")
    (tag,) = re.findall(r"build -f packaging/Containerfile -t (\S+) \.", page)
    assert f"ARG BASE=localhost/{tag}:latest\n" in image


def test_the_packed_program_ends_with_the_exit_status():
    entry = PACKAGING / "pyinstaller/entry.py"
    done = subprocess.run([sys.executable, entry, "analyze", ""], capture_output=True, check=False)
    assert done.returncode == 2


@pytest.mark.skipif(shutil.which("sh") is None, reason="no POSIX shell")
def test_the_monai_application_analyses_shows_and_hands_out(tmp_path):
    """Its script, with the root of the image moved to a folder and the command one that echoes."""
    folder, root = PACKAGING / "monai-deploy", tmp_path / "image"
    for name in ("etc/holoscan", "opt/holoscan/app", "opt/holoscan/models", "opt/holoscan/docs"):
        (root / name).mkdir(parents=True)
    for name in ("app", "pkg"):
        shutil.copy(folder / f"{name}.json", root / "etc/holoscan")
    text = re.sub(r"/(etc|opt|var)/", rf"{root}/\1/", (folder / "app.sh").read_text("utf-8"))
    script = root / "opt/holoscan/app/app.sh"
    script.write_text(text, "utf-8")
    command = tmp_path / "bin/lesionlens"
    command.parent.mkdir()
    command.write_text('#!/bin/sh\necho "$@"\nexit 3\n', "utf-8")
    command.chmod(0o755)

    def run(*words, **variables):
        path = f"{command.parent}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            ["sh", script, *words],
            env={"PATH": path, **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    done = run(HOLOSCAN_INPUT_PATH="/in", HOLOSCAN_OUTPUT_PATH="/out")
    assert (done.returncode, done.stdout) == (3, "analyze /in --out /out/lesionlens\n")
    assert "--device cuda" in run("--device", "cuda").stdout
    assert json.loads(run("show", "pkg").stdout)["applicationRoot"]
    assert run("extract").returncode == 2
    mounted = root / "var/run/holoscan/export"
    (mounted / "config").mkdir(parents=True)
    assert run().returncode == 0
    assert (mounted / "config/app.json").is_file()
    assert not (mounted / "app").exists()
    (mounted / "config/app.json").unlink()
    (mounted / "config/pkg.json").unlink()
    (mounted / "config").rmdir()
    assert run("extract").returncode == 0
    assert (mounted / "app/app.sh").is_file()
    assert (mounted / "config/pkg.json").is_file()


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
    size = wheel.stat().st_size / 10**6
    assert size <= LARGEST_MB
    page = (REPOSITORY / "docs/how-to/packaging.md").read_text("utf-8")
    assert f"{size:.0f} MB, within a tested limit of {LARGEST_MB} MB" in page


def test_the_window_asks_for_no_pyside_that_napari_excludes():
    """6.7.0 ends in a segmentation fault when the window closes."""
    pytest.importorskip("napari")
    of_napari = Requirement(
        next(r for r in requires("napari") or () if "PySide6" in r and "pyside6" in r)
    )
    gui = [Requirement(line) for line in PROJECT["optional-dependencies"]["gui"]]
    ours = next(r for r in gui if r.name == "PySide6-Essentials")
    bounds = {str(s.version) for s in of_napari.specifier}
    releases = {*bounds, *(f"{version}.0" for version in bounds if version.count(".") == 1)}
    assert releases
    assert {r for r in releases if r in ours.specifier} <= {
        r for r in releases if r in of_napari.specifier
    }
