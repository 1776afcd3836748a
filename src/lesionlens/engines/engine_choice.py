"""The choice of engine and device, for Python, commands, cohorts and window."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lesionlens.base.errors import UnusableInputError
from lesionlens.network.fork_safety import fork_safe

if TYPE_CHECKING:
    from lesionlens.engines.engine import Engine

_BUNDLE_ENGINE = "monai-bundle"


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """An engine that is not loaded yet; the default is the current network on the best device.

    Raises
    ------
    UnusableInputError
        Weights or another engine beside a bundle.
    """

    device: str = "auto"
    """auto, cpu, cuda, cuda:N, xpu, xpu:N or mps."""
    engine: str = "lens"
    """Name of an installed engine."""
    weights: str | None = None
    """A file, "default" or "synthetic"; None for the default."""
    bundle: Path | None = None
    """Folder of a MONAI bundle, used instead of the built-in network."""
    threads: int | None = None
    """CPU threads; None for each library's default."""

    def __post_init__(self) -> None:
        if self.weights is not None and self.bundle is not None:
            raise UnusableInputError(
                found="both a weights file and a bundle",
                expected="one of them",
                next_step="Leave out the weights: a bundle brings its own",
            )
        if self.bundle is not None and self.engine not in ("lens", _BUNDLE_ENGINE):
            raise UnusableInputError(
                found=f"both the engine {self.engine!r} and a bundle",
                expected="one of them",
                next_step="Leave out the engine: a bundle is run by its own",
            )

    @property
    def _local_name(self) -> str:
        return self.engine if self.bundle is None else _BUNDLE_ENGINE

    def start_loading(self) -> Future[Engine]:
        """Begin loading in another thread: importing torch takes as long as reading a study.

        The future holds the engine or the error of `load`, for `Lens`.
        """
        from lesionlens.engines.threads import use_threads

        use_threads(self.threads)  # also for what runs until it is loaded
        pool = ThreadPoolExecutor(1, "engine")
        loading = pool.submit(self.load)
        pool.shutdown(wait=False)
        return loading

    @fork_safe
    def load(self) -> Engine:
        """Load the network.

        Raises
        ------
        WeightsError
            The file is damaged or belongs to another network.
        UnusableInputError
            The engine needs a bundle, and none was named.
        ResourceError
            The device does not exist, or has too little memory.
        MissingPluginError
            No such engine is installed.
        """
        from lesionlens.engines.plugin_engines import make_engine
        from lesionlens.engines.threads import use_threads

        name = self._local_name
        if self.bundle is None and name == _BUNDLE_ENGINE:
            raise UnusableInputError(
                found=f"the engine {name!r} without --bundle",
                expected="--bundle, which chooses this engine by itself",
                next_step="Add --bundle, or choose another engine",
            )
        use_threads(self.threads)
        options: dict[str, Any] = {}
        if self.weights is not None:
            options["weights"] = self.weights
        if self.bundle is not None:
            options["bundle"] = self.bundle
        return make_engine(name, device=self.device, **options)
