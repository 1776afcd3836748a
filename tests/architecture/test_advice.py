"""Advice that names an option or a command of the command line has other words for a window."""

from __future__ import annotations

import ast
import re

from tests.architecture.sources import MODULES, name_of, nodes_of

ROOMS = (
    "base/", "imaging/preparation/", "imaging/reading/", "network/", "engines/",
    "analysis/explain/", "analysis/findings/",
    "analysis/followup/", "results/", "site/pacs/", "site/worklist/", "napari/",
)  # fmt: skip
OPTION = re.compile(r"--[a-z]|`lesionlens |naming_advice\(|command line")


def calls_with_advice():
    """Yield where each error with advice is made, and its words by argument."""
    for path in MODULES:
        for node in nodes_of(path) if name_of(path).startswith(ROOMS) else ():
            if isinstance(node, ast.Call) and any(k.arg == "next_step" for k in node.keywords):
                words = {k.arg: ast.unparse(k.value) for k in node.keywords if k.arg}
                yield f"{name_of(path)}:{node.lineno}", words


def test_a_window_names_no_option():
    advice = dict(calls_with_advice())
    of_commands = {place for place, w in advice.items() if OPTION.search(w["next_step"])}
    assert of_commands, "no advice was found"
    assert [place for place in of_commands if "in_window" not in advice[place]] == []
    windows = {place: words.get("in_window", "") for place, words in advice.items()}
    assert [place for place, words in windows.items() if OPTION.search(words)] == []
