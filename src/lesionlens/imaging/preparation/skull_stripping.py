"""Brain extraction by external programs: HD-BET, SynthStrip.

Each runs as a separate process on a temporary NIfTI file; nothing is imported, so that its licence
and weights are the user's responsibility.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from lesionlens.base.errors import MissingPluginError, ResourceError
from lesionlens.base.files.scratch import ScratchFolder
from lesionlens.base.geometry import Floats, Mask
from lesionlens.base.grid import Grid
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.imaging.preparation.brain import BrainMask, may_be_whole

TIME_LIMIT_S = 1800.0
_UNREADABLE = (OSError, EOFError, ValueError, zlib.error, ImageFileError, HeaderDataError)
"""Exceptions that nibabel raises for a damaged file."""
AUTO, BUILT_IN = "auto", "own"


@dataclass(frozen=True, slots=True)
class Program:
    """The command line of one program."""

    executable: str
    """Name on PATH."""
    arguments: Callable[[Path, Path], list[str]]
    """Maps image path and mask path to the arguments."""
    mask_name: str = "brain_mask.nii.gz"
    """File name of the mask that it writes for `brain.nii.gz`."""


PROGRAMS: Mapping[str, Program] = {
    "synthstrip": Program(
        "mri_synthstrip", lambda image, mask: ["-i", str(image), "-m", str(mask)]
    ),
    "hd-bet": Program(
        "hd-bet",
        lambda image, mask: [
            *("-i", str(image), "-o", str(mask.with_name("brain.nii.gz"))),
            *("-device", "cpu", "--disable_tta", "--save_bet_mask"),
        ],
        "brain_bet.nii.gz",
    ),
}


def installed() -> tuple[str, ...]:
    """Return the names of the programs on PATH, the faster one first."""
    return tuple(name for name, p in PROGRAMS.items() if shutil.which(p.executable))


def identity(name: str) -> str:
    """Return a cache identity: of the method, and of a program's version.

    Raises
    ------
    MissingPluginError
        No such program, or it is not installed.
    """
    if name == BUILT_IN:
        return BUILT_IN
    executable, _ = _program(name)
    status = executable.stat()
    return f"{executable} {status.st_size} {status.st_mtime_ns}"


def strip(name: str, values: Floats, grid: Grid, *, context: RunContext = SILENT) -> BrainMask:
    """Extract the brain with an installed program.

    Parameters
    ----------
    name : str
        A key of `PROGRAMS`.
    values : (I, J, K) float32
        One sequence, with skull.
    context : RunContext
        Polled twice a second; cancellation stops the program.

    Raises
    ------
    MissingPluginError
        No such program, or it is not installed.
    ResourceError
        The program failed, or its mask is not on the image's grid.
    """
    executable, program = _program(name)
    with ScratchFolder() as scratch:
        image, mask = scratch / "image.nii.gz", scratch / program.mask_name
        nib.Nifti1Image(values, grid.affine).to_filename(image)
        _run([str(executable), *program.arguments(image, mask)], name, context)
        brain = _read(mask, grid, name)
    volume = grid.volume_ml(brain)
    doubt = None if may_be_whole(volume) else f"it measures {volume:.0f} ml"
    return BrainMask(brain, grid, name, doubt)


def _program(name: str) -> tuple[Path, Program]:
    program = PROGRAMS.get(name)
    executable = shutil.which(program.executable) if program else None
    if program is None or executable is None:
        command = f" (the command {program.executable})" if program else ""
        raise MissingPluginError(
            found=f"no brain extraction named {name!r}{command} on this machine",
            expected=f"{AUTO}, {BUILT_IN}, or one of {', '.join(PROGRAMS)}, installed and on PATH",
            next_step=f"Install it and put it on PATH, or choose {BUILT_IN}",
        )
    return Path(executable), program


def _run(command: list[str], name: str, context: RunContext) -> None:
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(  # noqa: S603  a fixed program
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # ignored on Windows
            )
        except OSError as error:  # as when its interpreter was deleted
            raise _failed(name, f"it cannot be started: {error.strerror}") from error
        try:
            end = time.monotonic() + TIME_LIMIT_S
            while process.poll() is None:
                context.check("finding the brain")
                if time.monotonic() > end:
                    raise _failed(name, f"no answer within {TIME_LIMIT_S / 60:.0f} minutes")
                time.sleep(0.05)
        finally:
            if process.poll() is None:
                _kill(process)
        if process.returncode != 0:
            output.seek(0)
            last_line = output.read().decode("utf-8", "replace").strip().splitlines()[-1:]
            raise _failed(name, f"status {process.returncode}: {' '.join(last_line)[:200]}")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a program with the workers that it started; on Windows the program alone."""
    if sys.platform != "win32":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def _read(path: Path, grid: Grid, name: str) -> Mask:
    if not path.is_file():
        raise _failed(name, "no mask file")
    try:
        mask = nib.load(path)
        voxels = np.asanyarray(mask.dataobj)
    except _UNREADABLE as error:
        raise _failed(name, "a mask that cannot be read") from error
    if mask.shape != grid.shape or not np.allclose(mask.affine, grid.affine, atol=1e-2):
        raise _failed(name, "a mask on a different grid from the image's")
    return np.asarray(voxels > 0.5)


def _failed(name: str, reason: str) -> ResourceError:
    return ResourceError(
        found=f"a failure of {name}: {reason}",
        expected="a brain mask on the image's grid",
        next_step="Try the program on its own, or use the built-in method",
    )
