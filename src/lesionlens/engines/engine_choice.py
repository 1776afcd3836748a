"""The choice of engine, device and server, for Python, commands, cohorts, window and server."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lesionlens.base.errors import ServerError, UnusableInputError
from lesionlens.base.labels import ComputePrecision
from lesionlens.network.fork_safety import fork_safe

if TYPE_CHECKING:
    from lesionlens.engines.engine import Engine
    from lesionlens.engines.remote.address import ServerAddress

T = TypeVar("T")
_POLL_S = 0.002
_BUNDLE_ENGINE, _REMOTE_ENGINE = "monai-bundle", "remote"


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """An engine that is not loaded yet; the default is the current network on the best device.

    Raises
    ------
    UnusableInputError
        Weights or another engine beside a bundle; or a local network, device or precision together
        with a server.
    """

    device: str = "auto"
    """auto, cpu, cuda, cuda:N, xpu, xpu:N or mps."""
    engine: str = "lens"
    """Name of an installed engine; with a server the name of one of its models, where "lens" means
    its first.
    """
    weights: str | None = None
    """A file, "default", "synthetic" or a version; None for the weights in use."""
    bundle: Path | None = None
    """Folder of a MONAI bundle, used instead of the built-in network."""
    precision: ComputePrecision = ComputePrecision.AUTO
    threads: int | None = None
    """CPU threads; None for each library's default."""
    patience_min: float = 2.0
    """Time limit in minutes for a bundle's passes beyond the first."""
    server: str | ServerAddress | None = None
    """Address of `lesionlens serve`; None to run on this machine."""
    fall_back: bool = False
    """Whether to analyse on this machine if the server does not answer."""

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
        if self.server is not None and (local_options := self._local_options()):
            raise UnusableInputError(
                found=f"{', '.join(local_options)} together with a server (--server)",
                expected="only the server: it chooses network and device, and its key stays here",
                next_step="Leave it out; the engine's name chooses one of the server's models",
            )

    def _local_options(self) -> list[str]:
        requested = {
            "weights": self.weights is not None,
            "bundle": self.bundle is not None,
            "device": self.device != "auto",
            "precision": self.precision is not ComputePrecision.AUTO and not self.fall_back,
        }
        return [name for name, is_requested in requested.items() if is_requested]

    @property
    def local(self) -> EngineChoice:
        """The local engine choice that is used if the server does not answer."""
        return replace(self, engine="lens", server=None, fall_back=False)

    @property
    def _local_name(self) -> str:
        return self.engine if self.bundle is None else _BUNDLE_ENGINE

    def start_loading(self) -> Future[Engine]:
        """Begin loading in another thread: importing torch takes as long as reading a study.

        The future holds the engine or the error of `load`, for `Lens`. Returns as soon as torch is
        being imported, or the engine is loaded without it, because brain extraction uses torch only
        if it is already imported.
        """
        from lesionlens.engines.threads import use_threads

        use_threads(self.threads, self._local_name)  # also for what runs until it is loaded
        pool = ThreadPoolExecutor(1, "engine")
        loading = pool.submit(self.load)
        pool.shutdown(wait=False)
        while "torch" not in sys.modules and not wait([loading], _POLL_S).done:
            pass
        return loading

    @fork_safe
    def load(self) -> Engine:
        """Load the network, or connect to the server.

        Raises
        ------
        WeightsError
            The file is damaged or belongs to another network.
        UnusableInputError
            The engine needs a bundle or a server, and none was named.
        ResourceError
            The device does not exist, or has too little memory.
        MissingPluginError
            No such engine is installed.
        ServerError
            The server does not answer, or refuses.
        """
        from lesionlens.engines.plugin_engines import make_engine
        from lesionlens.engines.threads import use_threads

        if self.server is not None:
            model = None if self.engine == "lens" else self.engine
            return make_engine(_REMOTE_ENGINE, device=self.device, server=self.server, model=model)
        name = self._local_name
        if self.bundle is None and name in (_BUNDLE_ENGINE, _REMOTE_ENGINE):
            option = "--bundle" if name == _BUNDLE_ENGINE else "--server"
            raise UnusableInputError(
                found=f"the engine {name!r} without {option}",
                expected=f"{option}, which chooses this engine by itself",
                next_step=f"Add {option}, or choose another engine",
            )
        use_threads(self.threads, name)
        options: dict[str, Any] = {}
        if self.weights is not None:
            options["weights"] = self.weights
        if self.precision is not ComputePrecision.AUTO:
            options["precision"] = self.precision
        if self.bundle is not None:
            options |= {"bundle": self.bundle, "patience_s": 60 * self.patience_min}
        return make_engine(name, device=self.device, **options)

    def run(self, work: Callable[[EngineChoice], T]) -> tuple[T, tuple[str, ...]]:
        """Run work with this choice, or with `local` if the server fails and fallback is allowed.

        Returns
        -------
        T, tuple of str
            The result, and a notice if this machine was used instead.
        """
        try:
            return work(self), ()
        except ServerError as error:
            if not self.fall_back:
                raise
            notice = f"Analysed on this machine because of --fall-back: found {error.found}"
            return work(self.local), (notice,)
