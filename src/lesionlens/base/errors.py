"""Every deliberate exception, each with the exit status that the command line gives it.

An error teaches: what was found, what was expected, what to do next. The three are keyword
arguments, so that none is forgotten.
"""

from __future__ import annotations

import errno

_MEMORY_WORDS = (
    "out of memory",
    "not enough memory",
    "allocate memory",
    "bad_alloc",
    "failed to map segment",
)


def is_lack_of_memory(error: BaseException) -> bool:
    """Whether the system or a library ran out of memory, whatever it calls that.

    Examples
    --------
    >>> is_lack_of_memory(MemoryError()), is_lack_of_memory(RuntimeError("std::bad_alloc"))
    (True, True)
    """
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(word in text for word in _MEMORY_WORDS)


def is_full_disk(error: BaseException) -> bool:
    """Whether the disk, or the user's share of it, is full.

    Examples
    --------
    >>> is_full_disk(OSError(errno.ENOSPC, "")), is_full_disk(FileNotFoundError())
    (True, False)
    """
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


class LesionLensError(Exception):
    """A deliberate refusal; `exit_status` is what the command line ends with.

    Parameters
    ----------
    found, expected, next_step : str
        Three short texts without a trailing full stop: the thing met, the thing requested, and
        what the user can do about it.
    in_window : str or None
        What to do in a window, where `next_step` names an option or a command.
    """

    exit_status = 1

    def __init__(
        self, *, found: str, expected: str, next_step: str, in_window: str | None = None
    ) -> None:
        self.found, self.expected, self.next_step = found, expected, next_step
        self.in_window = in_window or next_step
        parts = (f"Found {found}", f"Expected {expected}", next_step)
        super().__init__(". ".join(part.strip().rstrip(".") for part in parts) + ".")


class UnusableInputError(LesionLensError):
    """The input or the arguments cannot be used (exit status 2)."""

    exit_status = 2


class GeometryError(UnusableInputError):
    """A grid, affine or spacing that cannot be a scan's."""


class ReadError(UnusableInputError):
    """A file that cannot be read as what it claims to be."""


def unreadable(error: OSError, name: str) -> ReadError:
    """Return what to raise where the system refuses to read a file or folder, named without path.

    Examples
    --------
    >>> print(unreadable(PermissionError(errno.EACCES, ""), "IM1").found)
    no permission to read 'IM1'
    """
    if error.errno in (errno.EACCES, errno.EPERM):
        found, next_step = "no permission to read", "Ask its owner for read access, or copy it"
    else:
        found = f"the system's refusal ({error.strerror or type(error).__name__}) to read"
        next_step = "Check the disk, then start again"
    return ReadError(
        found=f"{found} {name!r}", expected="files and folders to read", next_step=next_step
    )


class PatientConflictError(UnusableInputError):
    """Files that contradict each other about the patient, and nobody confirmed that it is one.

    Parameters
    ----------
    fields : tuple of str
        What differs, in words; the message has no values.
    values : tuple of tuple of str
        What the files say of each field; for the screen of whoever must decide, and no log.
    """

    def __init__(
        self,
        fields: tuple[str, ...],
        *,
        found: str,
        expected: str,
        next_step: str,
        in_window: str | None = None,
        values: tuple[tuple[str, ...], ...] = (),
    ) -> None:
        self.fields, self.values = fields, values
        super().__init__(found=found, expected=expected, next_step=next_step, in_window=in_window)


class WeightsError(UnusableInputError):
    """Weights that are missing, altered or made for another network."""


class ConfigError(UnusableInputError):
    """A configuration with an unknown key or an impossible value."""


class ResourceError(LesionLensError):
    """Memory, disk or a device that is missing (exit status 1)."""


class MissingPluginError(LesionLensError):
    """A reader, engine, exporter or viewer that is not installed."""


class PluginError(LesionLensError):
    """A plug-in of another package that fails, or gives what no plug-in may (exit status 1).

    Parameters
    ----------
    who, why : str
        "the engine 'mine' of a package 0.1"; what is wrong, in words of ours, which name nobody.
    message : str
        What the plug-in itself said; it may hold names and paths, and goes into no file.
    expected : str
        What it should be or give.
    """

    def __init__(self, *, who: str, why: str, message: str = "", expected: str) -> None:
        self.brief = f"{who} {why}"
        super().__init__(
            found=f"that {self.brief}{f': {message}' * bool(message)}",
            expected=expected,
            next_step="Update or uninstall that package, or tell its authors what --debug shows",
            in_window="Update or uninstall that package, or tell its authors",
        )


class ServerError(LesionLensError):
    """A server that cannot be reached, refuses, or speaks another version (exit status 1)."""


class GoneError(ServerError):
    """What a server does not hold, or no longer; it is to be sent again.

    Parameters
    ----------
    what : str
        "session", "study" or "trace".
    """

    def __init__(
        self,
        what: str,
        *,
        found: str = "",
        expected: str = "one that was opened here and is kept alive",
        next_step: str = "Send it again",
    ) -> None:
        self.what = what
        found = found or f"a {what} that this server does not hold"
        super().__init__(found=found, expected=expected, next_step=next_step)


class FullError(ServerError):
    """A server has no room for another study or session now."""


class ExportError(LesionLensError):
    """What was written differs, read back, from what was meant (exit status 1)."""


class CancelledError(LesionLensError):
    """The user asked to stop (exit status 130); nothing was written."""

    exit_status = 130

    def __init__(self, stage: str = "the analysis") -> None:
        super().__init__(
            found=f"a request to stop during {stage}",
            expected="nothing more",
            next_step="Start it again when you want the result",
        )
