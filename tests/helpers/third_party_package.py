"""A third-party package with plug-ins, installed for one test."""

from __future__ import annotations

import sys

_NAME = "crooked"


def install_package(monkeypatch, folder, code, **points):
    """Write a package of one module and make it importable.

    `points` are the entry points, an object of the module by group: `engines="mine = Engine"`.
    """
    site = folder / "elsewhere"
    info = site / f"{_NAME}-0.7.dist-info"
    info.mkdir(parents=True)
    (site / f"{_NAME}.py").write_text(code)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {_NAME}\nVersion: 0.7\n")
    lines = []
    for group, named in points.items():
        name, _, attribute = named.partition(" = ")
        lines += [f"[lesionlens.{group}]", f"{name} = {_NAME}:{attribute}"]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    monkeypatch.delitem(sys.modules, _NAME, raising=False)
    monkeypatch.syspath_prepend(str(site))
