"""All deliberate exceptions, each with the exit status of the command line.

`LesionLensError("One plain sentence.", hint="What to do.")`; window and terminal show both.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TypeGuard

_MEMORY_WORDS = (
    "out of memory",
    "not enough memory",
    "allocate memory",
    "bad_alloc",
    "failed to map segment",
    "could not create a primitive",  # oneDNN
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means lack of memory, whichever library raised it.

    Examples
    --------
    >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("std::bad_alloc"))
    (True, True)
    """
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(word in text for word in _MEMORY_WORDS)


def is_full_disk(error: BaseException) -> bool:
    """Return whether an error means a full disk or an exhausted quota.

    Examples
    --------
    >>> is_full_disk(OSError(errno.ENOSPC, "")), is_full_disk(FileNotFoundError())
    (True, False)
    """
    full = (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, OSError) and root_os_error(error).errno in full


def root_os_error(error: OSError) -> OSError:
    """Return the system's error that a library re-raised without its number.

    Examples
    --------
    >>> again = OSError("With tag (7FE0,0010) got exception: ...")
    >>> again.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    >>> root_os_error(again).strerror
    'No space left on device'
    """
    while error.errno is None and isinstance(error.__cause__, OSError):
        error = error.__cause__
    return error


def os_reason(error: OSError) -> str:
    """Return the system's reason, and the file or folder with the one that holds it.

    Examples
    --------
    >>> os_reason(PermissionError(errno.EACCES, "Permission denied", "/data/list/p1/run.json"))
    'Permission denied (p1/run.json)'
    >>> os_reason(OSError("libcudart.so.12: cannot open shared object file"))
    'libcudart.so.12: cannot open shared object file'
    """
    error = root_os_error(error)
    message_lines = str(error).strip().splitlines() or [type(error).__name__]
    reason = error.strerror or message_lines[0][:200]
    if not isinstance(error.filename, str):
        return reason
    return f"{reason} ({Path(*Path(error.filename).parts[-2:]).as_posix()})"


def missing_package(error: BaseException) -> str | None:
    """Return the name of a package that is not installed and whose import failed; else None.

    Examples
    --------
    >>> missing_package(ModuleNotFoundError("no", name="torch.nn")), missing_package(KeyError())
    ('torch', None)
    """
    name = error.name if isinstance(error, ModuleNotFoundError) else None
    top = (name or "").partition(".")[0]
    return top if top and top != __name__.partition(".")[0] else None


class LesionLensError(Exception):
    """A deliberate refusal; `exit_status` is what the command line ends with.

    Parameters
    ----------
    message : str
        One plain sentence.
    hint : str
        What the user can do about it, where there is something to do.
    found, expected, next_step, in_window : str
        The older form in three parts, until each call has its sentence.

    Examples
    --------
    >>> str(LesionLensError("PyTorch is not installed.", hint="Run `pip install torch`."))
    'PyTorch is not installed. Run `pip install torch`.'
    """

    exit_status = 1

    def __init__(
        self,
        message: str = "",
        *,
        hint: str = "",
        found: str = "",
        expected: str = "",
        next_step: str = "",
        in_window: str | None = None,
    ) -> None:
        self.found = found or message.removesuffix(".")
        self.expected, self.next_step = expected, next_step or hint.removesuffix(".")
        self.in_window = in_window or self.next_step
        parts = (message or f"Found {found}", expected and f"Expected {expected}", self.next_step)
        super().__init__(". ".join(part.strip().rstrip(".") for part in parts if part) + ".")

    @property
    def sentence(self) -> str:
        """The observation alone, as a sentence."""
        return f"Found {self.found}." if self.expected else f"{self.found}."


class UnusableInputError(LesionLensError):
    """The input or the arguments cannot be used (exit status 2)."""

    exit_status = 2


class GeometryError(UnusableInputError):
    """A grid, affine or spacing that no scan can have."""


class ReadError(UnusableInputError):
    """A file that cannot be read as what it claims to be."""


def is_refusal(error: object) -> TypeGuard[OSError]:
    """Return whether the system refuses to read a file that exists, whatever its content.

    Examples
    --------
    >>> is_refusal(OSError(errno.EIO, "")), is_refusal(FileNotFoundError(errno.ENOENT, ""))
    (True, False)
    """
    not_there = (None, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)
    return isinstance(error, OSError) and error.errno not in not_there


def unreadable(error: OSError, name: str) -> ReadError:
    """Return the error for a file or folder that the system refuses to read, named without path.

    Examples
    --------
    >>> print(unreadable(PermissionError(errno.EACCES, "Permission denied"), "IM1"))
    Cannot read 'IM1': Permission denied.
    """
    return ReadError(f"Cannot read {name!r}: {error.strerror or type(error).__name__}.")


def replaced(name: str) -> ReadError:
    """Return the error for a file whose image has changed since its study was opened."""
    return ReadError(
        f"{name!r} was replaced after the study was opened.", hint="Open the study again."
    )


class PatientConflictError(UnusableInputError):
    """Files that contradict each other about the patient's identity.

    Parameters
    ----------
    fields : tuple of str
        What differs, in words; the message contains no values.
    values : tuple of tuple of str
        The differing values of each field; shown to the user who must decide, never logged.
    """

    def __init__(
        self,
        fields: tuple[str, ...],
        message: str,
        *,
        hint: str,
        in_window: str | None = None,
        values: tuple[tuple[str, ...], ...] = (),
    ) -> None:
        self.fields, self.values = fields, values
        super().__init__(message, hint=hint, in_window=in_window)


class WeightsError(UnusableInputError):
    """Weights that are missing, altered or made for another network."""


class ConfigError(UnusableInputError):
    """A configuration with an unknown key or an impossible value."""


class ResourceError(LesionLensError):
    """Memory, disk or a device that is missing (exit status 1)."""


class MissingPluginError(LesionLensError):
    """A reader, engine, exporter or viewer that is not installed."""


def missing_package_error(error: BaseException) -> MissingPluginError | None:
    """Return the user-facing error for a failed import; None if no package is missing.

    Examples
    --------
    >>> print(missing_package_error(ModuleNotFoundError("no", name="torch")))
    The package torch is not installed. `lesionlens doctor` lists what is missing.
    """
    package = missing_package(error)
    if package is None:
        return None
    return MissingPluginError(
        f"The package {package} is not installed.",
        hint="`lesionlens doctor` lists what is missing.",
    )


def environment_error(error: BaseException) -> LesionLensError | None:
    """Return the user-facing error for what this machine lacks; None for a defect or a refusal.

    Examples
    --------
    >>> print(environment_error(MemoryError()))
    There is too little memory. Close other programs and try again; completed output is kept.
    >>> environment_error(KeyError("x"))
    """
    if isinstance(error, LesionLensError):
        return None
    if is_out_of_memory(error):
        return ResourceError(
            "There is too little memory.",
            hint="Close other programs and try again; completed output is kept.",
        )
    if "can't start new thread" in str(error):
        return ResourceError(
            "The system starts no more threads.",
            hint="Raise the limit (ulimit -u; a container's limit of pids).",
        )
    if isinstance(error, OSError):
        return ResourceError(f"System error: {os_reason(error)}.", hint="Check the disk.")
    return missing_package_error(error)


class PluginError(LesionLensError):
    """A third-party plug-in that fails or returns something invalid (exit status 1).

    Parameters
    ----------
    who, why : str
        Such as "the engine 'mine' of a package 0.1"; and what is wrong, without patient data.
    message : str
        The plug-in's own message; it may contain names and paths and is written to no file.
    """

    def __init__(self, *, who: str, why: str, message: str = "") -> None:
        self.brief = f"{who} {why}"
        sentence = f"{self.brief}: {message}" if message else self.brief
        super().__init__(
            f"{sentence[:1].upper()}{sentence[1:]}.",
            hint="Update or uninstall that package, or report this to its authors.",
        )


class ExportError(LesionLensError):
    """An exported file that differs from the source when read back (exit status 1)."""


class CancelledError(LesionLensError):
    """The user asked to stop (exit status 130); nothing was written, unless `outcome` says so."""

    exit_status = 130
    outcome = "Nothing was changed."
    """What was done by then, for the reader who stopped it."""

    def __init__(self, stage: str = "the analysis") -> None:
        super().__init__(f"Cancelled during {stage}.")


INTERRUPTED = "Interrupted; nothing was changed."


class Interrupt(KeyboardInterrupt):
    """Ctrl+C, SIGTERM or SIGHUP, as raised by the handlers of the command line.

    A separate class, because a plain KeyboardInterrupt from code run by `exec`, such as the
    generated methods of a dataclass, makes Python end the process by SIGINT instead of with its
    exit status.
    """
