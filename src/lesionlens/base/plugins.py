"""Look up plug-ins by entry point, and attribute their errors to their package.

If the code of a third-party plug-in fails, the error names its package, and everything that does
not depend on it continues.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import util
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from lesionlens.base.errors import (
    CancelledError,
    LesionLensError,
    MissingPluginError,
    PluginError,
    ResourceError,
    is_full_disk,
    is_out_of_memory,
    missing_package_error,
)
from lesionlens.base.files import check_writable

ENGINES = "lesionlens.engines"
EXPORTERS = "lesionlens.exporters"
_PACKAGE = __name__.partition(".")[0]


@cache
def _points_on(path: tuple[str, ...], group: str) -> tuple[EntryPoint, ...]:
    return tuple(
        sorted(entry_points(group=group), key=lambda point: not _is_own_module(point.module))
    )


def _points(group: str) -> tuple[EntryPoint, ...]:
    """Return a group's entry points, built-in ones first, so that they cannot be shadowed.

    Cached for each `sys.path`, since a lookup takes 0.05 s.
    """
    return _points_on(tuple(sys.path), group)


def has_display() -> bool:
    """Return whether windows can be shown; Windows and macOS always have a desktop."""
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(display) or sys.platform in ("win32", "darwin")


def check_window() -> None:
    """Refuse if napari or Qt is not installed, or no window can be shown: Qt would abort.

    Raises
    ------
    MissingPluginError
        The message names the extra.
    ResourceError
        There is no display, or none with OpenGL, and the user chose no other platform of Qt; or
        napari's own folders cannot be written, without which it does not start.
    """
    if any(util.find_spec(name) is None for name in ("napari", "qtpy")):
        raise MissingPluginError(
            "napari, which shows the window, is not installed.",
            hint='Install it: pip install "lesionlens[gui]"',
        )
    if not os.environ.get("QT_QPA_PLATFORM") and (problem := _display_problem()):
        raise ResourceError(
            f"No window can be opened here: {problem}.",
            hint="Use a desktop or a remote desktop (VNC, xrdp; `ssh -X` forwards no OpenGL), or "
            "work without a window (`lesionlens analyze`)",
        )
    check_writable("napari")


_OPENGL_PROBE = """
import sys
from OpenGL.platform import GetCurrentContext
from qtpy.QtGui import QGuiApplication, QOffscreenSurface, QOpenGLContext
app = QGuiApplication([])
surface, context = QOffscreenSurface(), QOpenGLContext()
surface.create()
works = context.create() and context.makeCurrent(surface) and GetCurrentContext()
sys.exit(not works and 3)
"""
"""Ends as napari would: with 3 without OpenGL, by a signal without a display."""


def _display_problem() -> str:
    """Return why no window with OpenGL can be shown, as another process finds; empty if one can."""
    if sys.platform in ("win32", "darwin"):
        return ""
    if not has_display():
        return "there is no display"
    command = [sys.executable, "-P", "-c", _OPENGL_PROBE]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return "the display does not answer"
    if not ended.returncode:
        return ""
    if ended.returncode == 3:
        return "the display has no OpenGL"
    lines = ended.stderr.strip().splitlines() or [f"Qt ended with status {ended.returncode}"]
    return lines[0].removeprefix("qt.qpa.xcb: ").strip().rstrip(".")[:200]


def names(group: str) -> tuple[str, ...]:
    """Return the names installed in a group, sorted."""
    return tuple(sorted({point.name for point in _points(group)}))


def load(group: str, name: str) -> Any:
    """Return the object of an entry point.

    Raises
    ------
    MissingPluginError
        No plug-in has that name; the message lists the installed ones.
    PluginError
        A third-party plug-in cannot be imported, or two packages have one of this name.
    """
    points = [point for point in _points(group) if point.name == name]
    if points:
        label = f"{_kind(group)} {name!r}"
        if not _is_own_module(points[0].module) and len(points) > 1:
            raise PluginError(
                who=f"the {label} of {_distribution(points[0])}",
                why="has the same name as that of " + ", ".join(map(_distribution, points[1:])),
            )
        with plugin_errors(points[0].module, label, "when it was loaded", may_refuse=False):
            return points[0].load()
    raise MissingPluginError(
        found=f"no {_kind(group)} named {name!r}; installed: {', '.join(names(group)) or 'none'}",
        expected=f"an entry point in the group {group}",
        next_step="Install the package that provides it; `lesionlens doctor` lists what is "
        "installed",
        in_window="Install the package that provides it",
    )


def create_all(group: str) -> tuple[dict[str, Any], dict[str, PluginError]]:
    """Instantiate every class installed in a group.

    Returns
    -------
    instances, failed : dict of str to Any, dict of str to PluginError
        Instances, and the errors of third-party plug-ins, each sorted by name.
    """
    instances: dict[str, Any] = {}
    failed: dict[str, PluginError] = {}
    for name in names(group):
        try:
            instances[name] = _create(group, name, {}, may_refuse=False)
        except PluginError as error:
            failed[name] = error
    return instances, failed


def make(group: str, name: str, **arguments: Any) -> Any:
    """Call a plug-in's class or function with these arguments.

    Raises
    ------
    MissingPluginError, PluginError
        As `load`, or a third-party plug-in fails.
    """
    return _create(group, name, arguments, may_refuse=True)


def _create(group: str, name: str, arguments: dict[str, Any], *, may_refuse: bool) -> Any:
    factory, label = load(group, name), f"{_kind(group)} {name!r}"
    module = next(point.module for point in _points(group) if point.name == name)
    with plugin_errors(module, label, "when it was made", may_refuse=may_refuse):
        return factory(**arguments)


def load_errors(group: str) -> dict[str, str]:
    """Return by name why third-party plug-ins in a group cannot be loaded."""
    reasons: dict[str, str] = {}
    own_names = {point.name for point in _points(group) if _is_own_module(point.module)}
    for point in _points(group):
        if _is_own_module(point.module):
            continue
        if point.name in own_names:
            label = f"{_kind(group)} {point.name!r} of {_distribution(point)}"
            reasons[point.name] = f"that the {label} has the name of a built-in one, which is used"
        elif point.name not in reasons:
            try:
                load(group, point.name)
            except PluginError as error:
                reasons[point.name] = error.found
    return reasons


def is_builtin(plugin: object) -> bool:
    """Return whether a plug-in, or a module of this name, is part of this package."""
    return _is_own_module(_module(plugin))


@contextmanager
def plugin_errors(
    plugin: object, label: str, when: str, *, may_refuse: bool = True
) -> Iterator[None]:
    """Convert an error from third-party code into one that names its package.

    Parameters
    ----------
    plugin : object
        The called instance, class, function, or module name.
    label, when : str
        In words: "engine 'mine'", "when it was made".
    may_refuse : bool
        Its own LesionLensErrors pass through, since the user chose it; else they too are failures
        of the plug-in, without which everything else continues.

    Raises
    ------
    PluginError
        In place of any error except cancellation and lack of memory or disk space, which pass
        through.
    MissingPluginError
        Built-in code needs a package that is not installed.
    """
    builtin = is_builtin(plugin)
    try:
        yield
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # sys.exit, or asyncio's cancellation, which is no Exception
        passes_through = isinstance(error, LesionLensError if may_refuse else CancelledError)
        if passes_through or is_out_of_memory(error) or is_full_disk(error):
            raise
        if builtin:
            missing = missing_package_error(error)
            if missing is None:
                raise
            raise missing from error
        first_line = next(iter(str(error).strip().splitlines()), "")
        reason = f"failed {when} ({type(error).__name__})"
        raise PluginError(
            who=name_of(plugin, label),
            why=reason,
            message=first_line[:300],
        ) from error


def are_texts(values: Any) -> bool:
    """Return whether a plug-in gave a tuple or list of texts."""
    return isinstance(values, tuple | list) and all(isinstance(value, str) for value in values)


def name_of(plugin: object, label: str) -> str:
    """Return the description of a third-party plug-in with its package, for messages."""
    return f"the {label} of {package_of(plugin)}"


def _kind(group: str) -> str:
    return group.removeprefix("lesionlens.").removesuffix("s")


def _module(plugin: object) -> str:
    if isinstance(plugin, str):
        return plugin
    module = getattr(plugin, "__module__", None) or type(plugin).__module__
    return str(module)


def _is_own_module(module: str) -> bool:
    return module.partition(".")[0] == _PACKAGE


def package_of(plugin: object) -> str:
    """Return the distribution of a plug-in, or its top-level module."""
    top = _module(plugin).partition(".")[0]
    for group in (ENGINES, EXPORTERS):
        for point in _points(group):
            if point.dist is not None and point.module.partition(".")[0] == top:
                return _distribution(point)
    return f"the module {top}"


def _distribution(point: EntryPoint) -> str:
    return point.module if point.dist is None else f"{point.dist.name} {point.dist.version}"
