"""Every command x bad argument: exit status 2, one message on stderr, nothing touched anywhere."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tests.command import commands, digests, lesionlens
from tests.corpus import copy_of

COMMANDS = commands()
NOWHERE = "http://127.0.0.1:1/dicom-web"
CALLS = {
    "analyze": "study --out out",
    "batch": "studies --out out",
    "compare": "result --prior later",
    "evaluate": "results cases",
    "export": "result study --out out",
    "finetune": "cases --out out",
    "pacs find": NOWHERE,
    "pacs get": f"{NOWHERE} 1.2.3 --out out",
    "pacs send": f"{NOWHERE} result",
    "sentence": "result",
    "worklist scan": "studies --list list",
}
"""Arguments that are good, of which one is then replaced; commands that are not here are called
with paths that lead nowhere only."""
BAD_OPTIONS = {
    "--bundle": ("nowhere", "text"),
    "--ca": ("nowhere",),
    "--candidate": ("99",),
    "--cert": ("nowhere",),
    "--device": ("toaster",),
    "--flair": ("nowhere.nii.gz", "text/notes.txt"),
    "--json": ("text/notes.txt",),
    "--layout": ("heap",),
    "--log-file": ("nowhere/run.log", "study/t1c.nii.gz"),
    "--maps": ("some",),
    "--only": ("everything",),
    "--out": ("file", "foreign"),
    "--plot": ("text/notes.txt",),
    "--port": ("-1", "70000"),
    "--prior": ("nowhere", "text"),
    "--shard": ("3/2", "x"),
    "--study": ("1.2.3",),
    "--t1c": ("nowhere.nii.gz",),
    "--threads": ("0", "-1", "many"),
    "--weights": ("nowhere.safetensors", "text/notes.txt"),
    "--workers": ("0", "-3"),
}
MORE = (
    ("analyze", "--out", "study/out"),
    ("batch", "--out", "studies/out"),
    ("export", "--out", "study/out"),
    ("finetune", "--out", "cases/out"),
)
"""Nothing is written into or beside what is read."""
BAD_ARGUMENTS = ("nowhere", "empty", "text", "file", "broken")
"""What is no study, result or list; `broken` holds a result cut in the middle of its findings."""

ANY_PATH = ("sample", "open", "review")
"""Writes to any path, or opens a window, where there is one."""


@pytest.fixture(scope="module")
def place(corpus, tmp_path_factory) -> Path:
    """A folder with whatever the commands are called with."""
    base = tmp_path_factory.mktemp("place")
    copy_of(corpus.study("nifti"), base / "study")
    copy_of(corpus.study("nifti"), base / "studies" / "one")
    copy_of(corpus.study("nifti"), base / "cases" / "one")
    copy_of(corpus.result("nifti"), base / "result")
    copy_of(corpus.result("nifti"), base / "results" / "one")
    copy_of(corpus.result("nifti"), base / "broken")
    findings = base / "broken" / "findings.json"
    findings.write_bytes(findings.read_bytes()[:200])
    for name in ("empty", "text", "foreign"):
        (base / name).mkdir()
    (base / "text" / "notes.txt").write_text("no scan")
    (base / "foreign" / "findings.json").write_text('{"mine": true}')
    (base / "file").write_text("a file")
    return base


def refused(place: Path, words: list[str]) -> None:
    """Run a command in a folder: it must end with 2, and change nothing below the folder."""
    before, started_in = digests(place), Path.cwd()
    os.chdir(place)
    try:
        ended = lesionlens(*words)
    finally:
        os.chdir(started_in)
    assert ended.status == 2, (words, ended)
    assert ended.stderr.strip(), words
    if ended.stdout:
        assert json.loads(ended.stdout)["error"]["status"] == 2
    assert digests(place) == before, words


def options_of(name: str) -> set[str]:
    return {option for one in COMMANDS[name].params for option in one.opts if option[:2] == "--"}


def arguments_of(name: str) -> list[str]:
    return [one.name for one in COMMANDS[name].params if one.param_type_name == "argument"]


def required_options(name: str) -> list[str]:
    return [o.opts[0] for o in COMMANDS[name].params if o.required and o.opts[0][:2] == "--"]


@pytest.mark.parametrize("name", COMMANDS)
def test_an_example_is_in_the_help(name):
    ended = lesionlens(*name.split(), "--help")
    assert ended.status == 0
    assert f"Example: lesionlens {name}" in " ".join(ended.stdout.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unknown_option_or_a_missing_argument_is_refused(place, name):
    refused(place, [*name.split(), "--no-such-option"])
    if any(one.required for one in COMMANDS[name].params):
        refused(place, name.split())
    words = CALLS.get(name, "").split()
    for option in [one for one in required_options(name) if one in words]:
        at = words.index(option)
        refused(place, [*name.split(), *words[:at], *words[at + 2 :]])


@pytest.mark.parametrize("bad", BAD_ARGUMENTS)
@pytest.mark.parametrize("name", [n for n in COMMANDS if arguments_of(n) and n not in ANY_PATH])
def test_a_path_to_nothing_usable_is_refused(place, name, bad):
    required = [word for option in required_options(name) for word in (option, "out")]
    words = CALLS.get(name, "").split() or ["nowhere"] * len(arguments_of(name)) + required
    for position in range(len(arguments_of(name))):
        if words[position] not in (NOWHERE, "1.2.3") and (name, bad) != ("evaluate", "broken"):
            refused(place, [*name.split(), *words[:position], bad, *words[position + 1 :]])


BAD = [
    (name, option, value)
    for name in CALLS
    if name in COMMANDS
    for option, values in BAD_OPTIONS.items()
    if option in options_of(name)
    for value in values
] + [row for row in MORE if row[0] in COMMANDS]


@pytest.mark.parametrize(("name", "option", "value"), BAD, ids=map(" ".join, BAD))
def test_a_bad_value_of_an_option_is_refused(place, name, option, value):
    words = CALLS[name].split()
    if option in words:
        words[words.index(option) + 1] = value
    else:
        words += [option, value]
    refused(place, [*name.split(), *words])
