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

ENGINES, EXPORTERS = "lesionlens.engines", "lesionlens.exporters"
_PACKAGE = __name__.partition(".")[0]


@cache  # a lookup takes 0.05 s
def _points_on(path: tuple[str, ...], group: str) -> tuple[EntryPoint, ...]:
    return tuple(sorted(entry_points(group=group), key=lambda point: not is_builtin(point.module)))


def _points(group: str, name: str | None = None) -> tuple[EntryPoint, ...]:
    """Return a group's entry points, built-in ones first, so that they cannot be shadowed."""
    points = _points_on(tuple(sys.path), group)
    return points if name is None else tuple(point for point in points if point.name == name)


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
    points, label = _points(group, name), _label(group, name)
    if not points:
        raise MissingPluginError(
            f"No {label} is installed; there are: {', '.join(names(group)) or 'none'}.",
            hint="Install the package that provides it.",
        )
    if not is_builtin(points[0].module) and len(points) > 1:
        raise PluginError(
            who=f"the {label} of {_distribution(points[0])}",
            why=f"has the same name as that of {', '.join(map(_distribution, points[1:]))}",
        )
    with plugin_errors(points[0].module, label, "when it was loaded", may_refuse=False):
        return points[0].load()


def make(group: str, name: str, *, may_refuse: bool = True, **arguments: Any) -> Any:
    """Call a plug-in's class or function with these arguments; raises as `load`."""
    factory, label = load(group, name), _label(group, name)
    with plugin_errors(
        _points(group, name)[0].module, label, "when it was made", may_refuse=may_refuse
    ):
        return factory(**arguments)


def create_all(group: str) -> tuple[dict[str, Any], dict[str, PluginError]]:
    """Instantiate every class in a group: instances, and errors of third-party ones, by name."""
    instances: dict[str, Any] = {}
    failed: dict[str, PluginError] = {}
    for name in names(group):
        try:
            instances[name] = make(group, name, may_refuse=False)
        except PluginError as error:
            failed[name] = error
    return instances, failed


def load_errors(group: str) -> dict[str, str]:
    """Return by name why third-party plug-ins in a group cannot be loaded."""
    reasons: dict[str, str] = {}
    for point in (point for point in _points(group) if not is_builtin(point.module)):
        try:
            load(group, point.name)
        except PluginError as error:
            reasons[point.name] = str(error)
        if is_builtin(_points(group, point.name)[0].module):
            reasons[point.name] = f"{_distribution(point)} uses the name of a built-in plug-in."
    return reasons


def is_builtin(plugin: object) -> bool:
    """Return whether a plug-in, or a module of this name, is part of this package."""
    return _top(plugin) == _PACKAGE


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
        Its own LesionLensErrors pass through, since the user chose it.

    Raises
    ------
    PluginError
        In place of any error except cancellation and lack of memory or disk space.
    MissingPluginError
        Built-in code needs a package that is not installed.
    """
    try:
        yield
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # sys.exit, or asyncio's cancellation, which is no Exception
        passes_through = isinstance(error, LesionLensError if may_refuse else CancelledError)
        if passes_through or is_out_of_memory(error) or is_full_disk(error):
            raise
        if is_builtin(plugin):
            missing = missing_package_error(error)
            if missing is None:
                raise
            raise missing from error
        raise PluginError(
            who=name_of(plugin, label),
            why=f"failed {when} ({type(error).__name__})",
            message=next(iter(str(error).strip().splitlines()), "")[:300],
        ) from error


def name_of(plugin: object, label: str) -> str:
    """Return the description of a third-party plug-in with its package, for messages."""
    points = (*_points(ENGINES), *_points(EXPORTERS))
    own = (p for p in points if p.dist is not None and _top(p.module) == _top(plugin))
    package = next(map(_distribution, own), f"the module {_top(plugin)}")
    return f"the {label} of {package}"


def _label(group: str, name: str) -> str:
    return f"{group.removeprefix('lesionlens.').removesuffix('s')} {name!r}"


def _top(plugin: object) -> str:
    """Return the top-level package of an object, or of a module's name."""
    module = getattr(plugin, "__module__", None) or type(plugin).__module__
    return (plugin if isinstance(plugin, str) else str(module)).partition(".")[0]


def _distribution(point: EntryPoint) -> str:
    return point.module if point.dist is None else f"{point.dist.name} {point.dist.version}"


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
