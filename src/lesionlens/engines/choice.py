"""Which engine analyses, and where: one record for Python, commands, cohorts, window and server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lesionlens.base.errors import ServerError, UnusableInputError
from lesionlens.base.labels import ComputePrecision

if TYPE_CHECKING:
    from lesionlens.engines.engine import Engine
    from lesionlens.engines.remote.address import ServerAddress

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """An engine, not loaded yet; the default is the network in use, on the device there is.

    Raises
    ------
    UnusableInputError
        Weights beside a bundle; or a network, device or precision of this machine beside a server.
    """

    device: str = "auto"
    """auto, cpu, cuda, cuda:N, xpu, xpu:N or mps."""
    engine: str = "lens"
    """Name of an installed engine; with a server the name of one of its models, lens for its
    first."""
    weights: str | None = None
    """A file, default, synthetic or a version; None for those in use."""
    bundle: Path | None = None
    """Folder of a MONAI bundle, whose network replaces ours."""
    precision: ComputePrecision = ComputePrecision.AUTO
    threads: int | None = None
    """Of the CPU; None leaves it to each library."""
    patience_min: float = 2.0
    """Minutes that may go into asking a bundle beyond its first pass."""
    server: str | ServerAddress | None = None
    """Where `lesionlens serve` runs the network; None for this machine."""
    fall_back: bool = False
    """Whether this machine analyses if the server does not answer."""

    def __post_init__(self) -> None:
        if self.weights is not None and self.bundle is not None:
            raise UnusableInputError(
                found="both a weights file and a bundle",
                expected="one of them",
                next_step="Leave out the weights: a bundle brings its own",
            )
        if self.server is not None and (named := self._of_this_machine()):
            raise UnusableInputError(
                found=f"{', '.join(named)} beside a server (--server)",
                expected="the server alone: network and device are chosen there, its key stays "
                "here",
                next_step="Leave it out; the engine's name chooses one of the server's models",
            )

    def _of_this_machine(self) -> list[str]:
        named = {
            "weights": self.weights is not None,
            "bundle": self.bundle is not None,
            "device": self.device != "auto",
            "precision": self.precision is not ComputePrecision.AUTO and not self.fall_back,
        }
        return [name for name, given in named.items() if given]

    @property
    def here(self) -> EngineChoice:
        """What analyses on this machine if the server does not answer."""
        return replace(self, engine="lens", server=None, fall_back=False)

    def load(self) -> Engine:
        """Return the engine, its network loaded or its server reached.

        Raises
        ------
        WeightsError
            The file is damaged or of another network.
        ResourceError
            The device does not exist, or lacks memory.
        MissingPluginError
            No such engine is installed.
        ServerError
            The server does not answer, or refuses.
        """
        from lesionlens.engines.plugged_in import make_engine  # noqa: PLC0415  (heavy)
        from lesionlens.engines.threads import use_threads  # noqa: PLC0415

        if self.server is not None:
            model = None if self.engine == "lens" else self.engine
            return make_engine("remote", device=self.device, server=self.server, model=model)
        name = self.engine if self.bundle is None else "monai-bundle"
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
        """Do some work with this choice, or with `here` where the server fails and that is allowed.

        Returns
        -------
        T, tuple of str
            What the work returned, and a notice where this machine took over.
        """
        try:
            return work(self), ()
        except ServerError as error:
            if not self.fall_back:
                raise
            notice = f"Analysed on this machine, as --fall-back says: found {error.found}"
            return work(self.here), (notice,)
