"""A package of somebody else with plug-ins, installed for one test."""

from __future__ import annotations

import sys

_NAME = "crooked"


def install(monkeypatch, folder, code, **points):
    """Write a package of one module and make it importable.

    `points` names an object of the module for a group of plug-ins: `readers="mine = Reader"`.
    """
    place = folder / "elsewhere"
    info = place / f"{_NAME}-0.7.dist-info"
    info.mkdir(parents=True)
    (place / f"{_NAME}.py").write_text(code)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {_NAME}\nVersion: 0.7\n")
    lines = []
    for group, named in points.items():
        name, _, what = named.partition(" = ")
        lines += [f"[lesionlens.{group}]", f"{name} = {_NAME}:{what}"]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    monkeypatch.delitem(sys.modules, _NAME, raising=False)
    monkeypatch.syspath_prepend(str(place))
