"""Real or synthetic volumes stored on disk, as a source of batches."""

from __future__ import annotations

import dataclasses
import io
import zipfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from lesionlens.base.errors import ReadError
from lesionlens.base.storage import write_atomically
from lesionlens.training.augmentation import augment
from lesionlens.training.config import DataConfig, StageConfig
from lesionlens.training.data import Batch, Packed, collate

SUFFIX = ".npz"


def keep(packed: Packed, file: Path) -> None:
    """Write a volume in the format of `read`."""
    fields = {f.name: getattr(packed, f.name) for f in dataclasses.fields(packed)}
    buffer = io.BytesIO()
    np.savez(buffer, **fields)
    write_atomically(file, buffer.getvalue())


def read(file: Path) -> Packed:
    """Read a stored volume.

    Raises
    ------
    ReadError
        The file is damaged.
    """
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            return Packed(**stored)
    except (OSError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise ReadError(
            f"The prepared volume {file.name!r} in {file.parent.name!r} is damaged.",
            hint="Delete it and run the same command again, which prepares it again.",
        ) from error


class FolderSource:
    """Stored cases in random order, augmented; a `training.data.BatchSource`.

    Parameters
    ----------
    stage, config
        Window size; augmentation, and number of cases kept in memory.
    seed, completed : int
        Seed, and batches returned before. Batches depend on nothing else, so that a resumed run
        gets the same ones as an uninterrupted one.
    vary_mm : float or None
        Voxel edge of whole real brains, which are augmented (`training.augmentation`) and cropped
        to the stage's window; None for synthetic volumes, which are not augmented.
    """

    def __init__(
        self,
        files: Sequence[Path],
        stage: StageConfig,
        config: DataConfig,
        seed: int,
        completed: int,
        vary_mm: float | None = None,
    ) -> None:
        self._files, self._stage, self._config = list(files), stage, config
        self._seed, self._completed = seed, completed
        self._vary_mm = vary_mm
        self._read = lru_cache(max(1, config.pool))(read)
        self.drawn, self.shown = len(self._files), 0

    def batch(self, size: int) -> Batch:
        """Return the next batch."""
        rng = np.random.default_rng((self._seed, self._completed))
        chosen = [
            self._read(self._files[int(n)]) for n in rng.integers(len(self._files), size=size)
        ]
        if self._vary_mm is not None:
            chosen = [augment(p, self._vary_mm, self._stage.window, rng) for p in chosen]
        self._completed += 1
        self.shown += size
        return collate(chosen, rng, self._config)

    def close(self) -> None:
        """Release memory."""
        self._read.cache_clear()
