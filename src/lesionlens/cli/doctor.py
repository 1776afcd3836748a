"""`lesionlens doctor`: check the installation and the devices."""

from __future__ import annotations

import platform
from importlib import metadata, util
from typing import Any

from lesionlens.base import plugins
from lesionlens.base.errors import LesionLensError
from lesionlens.base.process import available_threads
from lesionlens.base.provenance import version_of
from lesionlens.base.text import counted
from lesionlens.cli import options
from lesionlens.cli.console import CommandOutput
from lesionlens.imaging import samples

_CORE = ("torch", "monai", "numpy", "SimpleITK", "nibabel", "pydicom", "highdicom", "safetensors")
_EXTRAS = {
    "gui": ("napari", "qtpy"),
    "pacs": ("dicomweb-client", "pynetdicom"),
    "cohort": ("distributed", "pandas"),
}
_UNLOADABLE = (ImportError, OSError)
"""Errors of a package that is missing, or whose libraries cannot be loaded."""
_GROUPS = (plugins.ENGINES, plugins.EXPORTERS)


def doctor(json: options.Json = False) -> CommandOutput:
    """Report what is installed, which device is used, what is missing and how to add it.

    Exit status 1 if LesionLens cannot run.
    """
    report = examine()
    status = 0 if report["ready"] else 1
    if json:
        return CommandOutput.of_json(report, status=status)
    return CommandOutput(tuple(_lines(report)), status=status)


def examine() -> dict[str, Any]:
    """Return all that the command prints, as JSON types."""
    weights = _weights("default")
    core = {name: version_of(name) for name in _CORE}
    return {
        "lesionlens": metadata.version("lesionlens"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "core": core,
        "device": _device(),
        "weights": weights,
        "weights_synthetic": _weights("synthetic"),
        "extras": {extra: _extra(extra, packages) for extra, packages in _EXTRAS.items()},
        "plugins": {group: list(plugins.names(group)) for group in _GROUPS},
        "plugins_failing": {group: plugins.load_errors(group) for group in _GROUPS},
        "display": plugins.has_display(),
        "sample": _has_sample(),
        "ready": all(core.values()) and weights["verified"] and _has_sample(),
    }


def _has_sample() -> bool:
    return samples.STUDY.is_dir() and samples.DICOM_STUDY.is_dir()


def _extra(extra: str, packages: tuple[str, ...]) -> dict[str, Any]:
    missing = [name for name in packages if util.find_spec(name.replace("-", "_")) is None]
    return {
        "installed": not missing,
        "versions": {name: version_of(name) for name in packages if name not in missing},
        "missing": missing,
        "add": f'pip install "lesionlens[{extra}]"' if missing else None,
    }


def _device() -> dict[str, Any]:
    """Return the device that `--device auto` selects, and the available accelerators."""
    try:
        import torch

        from lesionlens.engines import device as devices
    except _UNLOADABLE:  # which the weights report
        return {"auto": None, "gpus": [], "accelerators": [], "cpu_threads": available_threads()}
    accelerators = [
        {
            "device": str(device),
            "name": devices.describe(device),
        }
        for device in devices.accelerators()
    ]
    return {
        "auto": devices.choose("auto").type,
        "gpus": [accelerator["name"] for accelerator in accelerators],
        "accelerators": accelerators,
        "cpu_threads": torch.get_num_threads(),
    }


def _weights(name: str) -> dict[str, Any]:
    """Load the packaged weights, checking their SHA-256, and report the outcome."""
    try:
        from lesionlens.network.weights import load

        _, info = load(name)
    except (LesionLensError, *_UNLOADABLE) as error:
        return {"verified": False, "sha256": None, "version": None, "message": str(error)}
    return {
        "verified": True,
        "sha256": info.sha256,
        "version": info.version,
        "trained_on": info.provenance.get("data", "not recorded"),
        "message": None,
    }


def _lines(report: dict[str, Any]) -> list[str]:
    device, weights = report["device"], report["weights"]
    gpus = (
        ", ".join(f"{g['name']} as {g['device']}" for g in device["accelerators"]) or "none found"
    )
    sample = "in the package" if report["sample"] else "MISSING: install LesionLens again"
    threads = counted(device["cpu_threads"], "thread")
    lines = [
        f"LesionLens {report['lesionlens']}, Python {report['python']}, {report['system']}",
        f"Device      {device['auto'] or 'unknown'} ({threads}; GPU: {gpus})",
        _weights_line("Weights", weights),
        _weights_line("synthetic", report["weights_synthetic"]),
        f"Display     {'yes' if report['display'] else 'none (napari needs one, or xvfb-run)'}",
        f"Sample      {sample}",
        "Core        " + ", ".join(f"{n} {v or 'MISSING'}" for n, v in report["core"].items()),
    ]
    for extra, extra_report in report["extras"].items():
        parts = [f"{n} {v or '(installed)'}" for n, v in extra_report["versions"].items()]
        if extra_report["missing"]:
            parts.append(f"missing {', '.join(extra_report['missing'])}: {extra_report['add']}")
        lines.append(f"{extra:<11} {', '.join(parts)}")
    for group, names in report["plugins"].items():
        lines.append(f"{group.removeprefix('lesionlens.'):<11} {', '.join(names) or 'none'}")
        failing = report["plugins_failing"][group].values()
        lines += [f"{'':<11} NOT USABLE: {reason.removeprefix('that ')}" for reason in failing]
    lines.append("Ready." if report["ready"] else "Not ready: see what is missing above.")
    return lines


def _weights_line(title: str, weights: dict[str, Any]) -> str:
    if not weights["verified"]:
        return f"{title:<11} NOT USABLE: {weights['message']}"
    description = f"{weights['version']} ({weights['trained_on']})"
    return f"{title:<11} {description}, verified, SHA-256 {weights['sha256'][:16]}…"
