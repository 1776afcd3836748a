"""Versions of weights accepted on this machine, with a log of all changes.

They are in the user's data folder as `v1.safetensors`, `v2.safetensors` and so on, with
`versions.json`, an append-only log of who accepted and activated what. Nothing is ever deleted.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field

from lesionlens.base.errors import ReadError, ResourceError, WeightsError
from lesionlens.base.files import access, user_folders
from lesionlens.base.files.atomic_file import atomic_file, write_atomically
from lesionlens.base.files.bounded_read import read_model
from lesionlens.base.files.file_model import FileModel, schema_field
from lesionlens.base.files.folder_lock import folder_lock
from lesionlens.base.provenance import sha256_of, utc_now
from lesionlens.network.shipped_weights import DEFAULT_NAME, SHIPPED, shipped_record

LOG_NAME = "versions.json"
TRAINED_ON = AliasChoices("trained_on", "learnt_from")
"""Keys of the patients that weights were trained on; the second is that of development versions."""


class WeightsVersion(FileModel):
    """An accepted version of weights.

    Parameters
    ----------
    name : str
        v1, v2, …; an argument of `--weights` and `Lens(weights=…)`.
    sha256 : str
        SHA-256 of the file.
    version : str
        Version as written to results.
    parent_sha256 : str
        SHA-256 of the weights that training started from.
    accepted_by, accepted : str
        Who, and when: ISO 8601, UTC.
    note : str
        Free text.
    trained_on, held_out : tuple of str
        SHA-256 of the names of patients, including those of all ancestors: training and held-out
        patients stay separate in all later versions.
    """

    name: str = Field(pattern=r"^v[1-9][0-9]*$")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    version: str
    parent_sha256: str
    accepted_by: str
    accepted: str
    note: str = ""
    trained_on: tuple[str, ...] = Field(default=(), validation_alias=TRAINED_ON)
    held_out: tuple[str, ...] = ()


class UseAct(FileModel):
    """An activation of a version."""

    use: str
    by: str
    time: str
    why: str = ""


class _Log(FileModel):
    """Content of versions.json."""

    schema_: Literal["lesionlens/weights-versions/1"] = schema_field(
        "lesionlens/weights-versions/1"
    )
    versions: tuple[WeightsVersion, ...] = ()
    acts: tuple[UseAct, ...] = ()


@dataclass(frozen=True, slots=True)
class Lineage:
    """Provenance of new weights: see `WeightsVersion`."""

    version: str
    parent_sha256: str
    trained_on: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WeightsStore:
    """The accepted weights of one user."""

    folder: Path = field(default_factory=lambda: user_folders.data() / "weights")
    """The user's folder, unless another is given."""

    def path(self, name: str) -> Path:
        """Return the path of a version's file."""
        return self.folder / f"{name}.safetensors"

    @property
    def versions(self) -> tuple[WeightsVersion, ...]:
        """All accepted versions, oldest first.

        Raises
        ------
        WeightsError
            The log is damaged.
        """
        return self._log().versions

    @property
    def acts(self) -> tuple[UseAct, ...]:
        """All activations, oldest first."""
        return self._log().acts

    @property
    def in_use(self) -> WeightsVersion | None:
        """The active version; None for the shipped weights."""
        log = self._log()
        return next((version for version in log.versions if version.name == _active(log)), None)

    def version(self, name: str) -> WeightsVersion | None:
        """Return a version by its name; None if there is none."""
        return next((version for version in self.versions if version.name == name), None)

    def of(self, sha256: str) -> WeightsVersion | None:
        """Return a version by the hash of its file; None if there is none."""
        return next((version for version in self.versions if version.sha256 == sha256), None)

    def accept(self, file: Path, lineage: Lineage, *, by: str, note: str = "") -> WeightsVersion:
        """Store weights as the next version and activate them.

        Parameters
        ----------
        file : Path
            The weights; copied.

        Raises
        ------
        WeightsError
            The weights were accepted before, or the log is damaged.
        ResourceError
            The folder cannot be written; nothing was changed.
        """
        with self._changing() as log:
            return self._accept(log, file, lineage, by, note)

    def _accept(
        self, log: _Log, file: Path, lineage: Lineage, by: str, note: str
    ) -> WeightsVersion:
        digest = sha256_of(file)
        existing = next((version for version in log.versions if version.sha256 == digest), None)
        if existing is not None:
            raise WeightsError(
                found=f"weights that were already accepted, as {existing.name}",
                expected="new ones",
                next_step=f"To use them: lesionlens weights use {existing.name} --by NAME",
                in_window=f"Use {existing.name}",
            )
        number = max((int(version.name[1:]) for version in log.versions), default=0) + 1
        while (path := self.path(f"v{number}")).exists() and sha256_of(path) != digest:
            number += 1  # a file that no version names holds other weights
        accepted = WeightsVersion(
            name=f"v{number}",
            sha256=digest,
            accepted_by=by,
            accepted=utc_now(),
            note=note,
            **asdict(lineage),
        )
        with _writing(), atomic_file(self.path(accepted.name)) as temporary:
            shutil.copyfile(file, temporary)
        activation = UseAct(
            use=accepted.name, by=by, time=accepted.accepted, why=_reason("accepted", note)
        )
        self._write(_Log(versions=(*log.versions, accepted), acts=(*log.acts, activation)))
        return accepted

    def use(self, name: str, *, by: str, why: str = "") -> bool:
        """Activate a version; `DEFAULT_NAME` for the shipped weights.

        False, with nothing written, if it is already active.

        Raises
        ------
        WeightsError
            Unknown version, or its file was altered.
        ResourceError
            The folder cannot be written; nothing was changed.
        """
        with self._changing() as log:
            by_name = {version.name: version for version in log.versions}
            if name != DEFAULT_NAME:
                if name not in by_name:
                    raise WeightsError(
                        found=f"no version {name!r}",
                        expected=f"one of {', '.join([DEFAULT_NAME, *by_name])}",
                        next_step="Choose one of them: lesionlens weights list",
                    )
                self.verified(by_name[name])
            if name == _active(log):
                return False
            activation = UseAct(use=name, by=by, time=utc_now(), why=why)
            self._write(_Log(versions=log.versions, acts=(*log.acts, activation)))
            return True

    def parent_of(self, version: WeightsVersion) -> str | None:
        """Return the name of the weights that a version was trained from; None if not kept here."""
        parent = self.of(version.parent_sha256)
        if parent is not None:
            return parent.name
        shipped = {shipped_record(name)["sha256"]: name for name in SHIPPED}
        return shipped.get(version.parent_sha256)

    def back(self, *, by: str, why: str = "") -> str:
        """Revert to the weights that the active version was trained from; return their name.

        If they are not an accepted version, the packaged ones are used from then on.

        Raises
        ------
        WeightsError
            The shipped weights are active.
        """
        active = self.in_use
        if active is None:
            raise WeightsError(
                found="the weights of the package in use",
                expected="an accepted version, to revert",
                next_step="Nothing to do: lesionlens weights list",
            )
        parent = self.of(active.parent_sha256)
        name = DEFAULT_NAME if parent is None else parent.name
        self.use(name, by=by, why=_reason(f"{active.name} reverted", why))
        return name

    def verified(self, version: WeightsVersion) -> Path:
        """Return a version's file after checking its hash.

        Raises
        ------
        WeightsError
            The file is missing or altered.
        """
        path = self.path(version.name)
        if not path.is_file() or sha256_of(path) != version.sha256:
            state = "altered" if path.is_file() else "missing"
            raise WeightsError(
                found=f"the weights {version.name}, {state} since {version.accepted_by} accepted "
                "them",
                expected=f"the file with SHA-256 {version.sha256[:12]}…",
                next_step="Use others: lesionlens weights use default --by NAME",
                in_window="Choose other weights",
            )
        return path

    @contextmanager
    def _changing(self) -> Iterator[_Log]:
        """Hold the log within the block: of two acceptances at a time one would be lost."""
        with _writing():
            access.make_folder(self.folder)
        with folder_lock(self.folder):
            yield self._log()

    def _log(self) -> _Log:
        path = self.folder / LOG_NAME
        try:
            return read_model(path, _Log)
        except (FileNotFoundError, NotADirectoryError):  # HOME=/dev/null: a user without a home
            return _Log()
        except (OSError, ValueError, ReadError) as error:
            raise WeightsError(
                found=f"a {LOG_NAME} of accepted weights that cannot be read",
                expected="the one that LesionLens wrote",
                next_step="Restore it from a backup, or name weights with --weights default",
                in_window="Restore it from a backup, or name weights in the preferences",
            ) from error

    def _write(self, log: _Log) -> None:
        with _writing():
            write_atomically(self.folder / LOG_NAME, log.file_text())


def _active(log: _Log) -> str:
    return log.acts[-1].use if log.acts else DEFAULT_NAME


def _reason(action: str, why: str) -> str:
    return f"{action}: {why}" if why else action


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ResourceError(
            found=f"accepted weights that could not be stored ({error.strerror or error})",
            expected="free space and permission in your data folder",
            next_step="Free some space and try again; the weights in use have not changed",
        ) from error
