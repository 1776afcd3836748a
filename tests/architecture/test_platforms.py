"""Importing the package needs nothing that Unix alone has, and leaves the environment alone."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from tests.architecture.sources import MODULES, nodes_of

REPOSITORY = Path(__file__).resolve().parents[2]
UNIX_MODULES = (
    "crypt", "curses", "fcntl", "grp", "nis", "posix", "pty", "pwd", "readline", "resource",
    "spwd", "syslog", "termios", "tty",
)  # fmt: skip
UNIX_NAMES = {
    "os": (
        "chown", "fchmod", "fchown", "fork", "forkpty", "getegid", "geteuid", "getgid",
        "getloadavg", "getpgid", "getuid", "killpg", "lchown", "mkfifo", "mknod", "nice",
        "O_DIRECTORY", "O_NOFOLLOW", "posix_fallocate", "sched_getaffinity", "setsid", "statvfs",
        "sync", "sysconf", "uname", "wait", "WNOHANG",
    ),
    "signal": (
        "SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGUSR1", "SIGUSR2",
        "alarm", "pause", "pthread_kill", "pthread_sigmask", "setitimer", "siginterrupt",
        "sigwait",
    ),
    "socket": ("AF_UNIX",),
    "time": ("clock_gettime", "tzset"),
}  # fmt: skip
ALONE = """
import builtins, importlib, os, pkgutil, sys
import lesionlens

def everything():
    for found in pkgutil.walk_packages(lesionlens.__path__, "lesionlens."):
        importlib.import_module(found.name)

everything()  # other people's packages may be as they are on this system
for name in [n for n in sys.modules if n.split(".")[0] == "lesionlens"]:
    del sys.modules[name]
for module, names in {names}.items():
    for name in names:
        if hasattr(importlib.import_module(module), name):
            delattr(importlib.import_module(module), name)
imported = builtins.__import__

def on_windows(name, globals=None, locals=None, fromlist=(), level=0):
    importer = str((globals or {{}}).get("__name__", ""))
    if importer.split(".")[0] == "lesionlens" and name.split(".")[0] in {modules}:
        raise ModuleNotFoundError(f"{{importer}} imports {{name}}")
    return imported(name, globals, locals, fromlist, level)

builtins.__import__ = on_windows
before = dict(os.environ)
import lesionlens
everything()
changed = {{k for k in before.keys() | os.environ.keys() if before.get(k) != os.environ.get(k)}}
assert not changed, changed
assert "lesionlens.cli.main" in sys.modules
"""


def test_every_module_is_imported_where_unix_has_nothing_to_add_and_sets_no_variable():
    code = ALONE.format(names=UNIX_NAMES, modules=UNIX_MODULES)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_command_line_lets_idle_threads_sleep():
    code = (
        "import os, sys\n"
        "os.environ.pop('OMP_WAIT_POLICY', None)\n"
        "os.environ.pop('OPENBLAS_NUM_THREADS', None)\n"
        "sys.argv = ['lesionlens', '--version']\n"
        "from lesionlens.cli.main import run\n"
        "try: run()\n"
        "except SystemExit: pass\n"
        "assert os.environ['OMP_WAIT_POLICY'] == 'passive'\n"
        "assert os.environ['OPENBLAS_NUM_THREADS'] == '1'\n"
        "assert 'numpy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=120)


def _plain(distribution: str) -> str:
    return distribution.lower().replace("_", "-")


def test_whatever_is_imported_is_declared():
    """None of it comes only because another dependency happens to bring it."""
    ours = {"lesionlens"}
    declared = {_plain(Requirement(r).name) for r in metadata.requires("lesionlens") or ()}
    provided = metadata.packages_distributions()
    missing = {}
    for path in MODULES:
        for node in nodes_of(path):
            if isinstance(node, ast.Import):
                names = [name.name for name in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            else:
                continue
            for top in {name.split(".")[0] for name in names} - ours - sys.stdlib_module_names:
                if not {_plain(d) for d in provided.get(top, [top])} & declared:
                    missing.setdefault(top, path.name)
    assert not missing


def test_a_terminal_that_lacks_a_character_ends_no_command():
    done = subprocess.run(
        [Path(sys.executable).parent / "lesionlens", "doctor"],
        env={"PYTHONIOENCODING": "ascii", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert b"Ready." in done.stdout


@pytest.mark.skipif(not (REPOSITORY / ".git").exists(), reason="not a clone")
def test_every_file_of_the_clone_can_be_checked_out_on_windows_and_macos():
    listed = subprocess.run(
        ["git", "ls-files", "-s"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(maxsplit=3) for line in listed.splitlines()]
    names = [name for *_, name in rows]
    assert names
    assert len({name.casefold() for name in names}) == len(names)
    reserved = re.compile(
        r"(^|/)(con|prn|aux|nul|com\d|lpt\d)(\.|/|$)|[<>:\"|?*\\\\]|[ .](/|$)", re.IGNORECASE
    )
    assert not [name for name in names if reserved.search(name) or len(name) > 150]
    # the plugin's manifest stands at the top
    assert [name for mode, *_, name in rows if mode == "120000"] == ["src/lesionlens/napari.yaml"]
