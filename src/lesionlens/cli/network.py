"""Which network decides, here or on a server, as a command's options say it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from lesionlens.base import plugins
from lesionlens.base.errors import ServerError, UnusableInputError
from lesionlens.base.labels import ComputePrecision

if TYPE_CHECKING:
    from lesionlens.engines.remote.address import ServerAddress
    from lesionlens.lens import Lens

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ChosenNetwork:
    """What the user chose of the network."""

    device: str
    weights: str | None
    bundle: Path | None
    engine: str
    """As `Lens` takes them."""
    patience: float
    """Minutes that may go into asking a bundle."""
    server: ServerAddress | None = None
    """Where the network is, if not here."""
    fall_back: bool = False
    """Whether it is this machine's turn where the server does not answer."""
    precision: ComputePrecision = ComputePrecision.AUTO
    """As `Lens` takes it."""
    threads: int | None = None
    """Of the CPU; None for as many as there are cores."""

    def run(self, work: Callable[[Lens], T]) -> tuple[T, tuple[str, ...]]:
        """Let it do some work; return what that gives, and notes for the user.

        Raises
        ------
        ServerError
            The server does not answer, and falling back was not allowed.
        UnusableInputError
            A network or device of this machine is named beside a server.
        """
        from lesionlens.lens import Lens

        if self.server is None:
            return work(self._here(self.engine)), ()
        numbers = None if self.fall_back else named(self.precision)
        refuse_beside_server(
            self.device, weights=self.weights, bundle=self.bundle, precision=numbers
        )
        try:
            return work(Lens(server=self.server, engine=self.engine)), ()
        except ServerError as error:
            if not self.fall_back:
                raise
            note = f"Analysed on this machine, as --fall-back says: found {error.found}"
            return work(self._here("lens")), (note,)

    def _here(self, engine: str) -> Lens:
        from lesionlens.engines.threads import use_threads
        from lesionlens.lens import Lens

        use_threads(self.threads, engine)
        if self.bundle is None or self.weights is not None:
            return Lens(
                self.device,
                weights=self.weights,
                bundle=self.bundle,
                engine=engine,
                precision=self.precision,
            )
        load = plugins.load(plugins.ENGINES, "monai-bundle")
        seconds = 60 * self.patience
        made = load(self.device, bundle=self.bundle, patience_s=seconds, precision=self.precision)
        return Lens(engine=made)


def named(precision: ComputePrecision) -> str | None:
    """Return a precision that was asked for; None for that of the device."""
    return None if precision is ComputePrecision.AUTO else precision.value


def refuse_beside_server(device: str, **named: object) -> None:
    """Refuse what cannot stand beside a server; options by name, None where not given.

    Raises
    ------
    UnusableInputError
        A network or device is named that would run here, or a scheduler that would be sent the
        server's key.
    """
    given = [f"--{name}" for name, value in named.items() if value is not None]
    given += ["--device"] if device != "auto" else []
    if given:
        raise UnusableInputError(
            found=f"{', '.join(given)} beside --server",
            expected="the server alone: network and device are chosen there, its key stays here",
            next_step="Leave it out; --engine NAME chooses one of the server's models",
        )


def server_address(
    url: str | None, api_key_file: Path | None, ca: Path | None, plain_http: bool
) -> ServerAddress | None:
    """Return where a server is, as options say it; None where none was named.

    Raises
    ------
    UnusableInputError
        The address or the file of the key cannot be used, or scans would travel unencrypted.
    """
    if url is None:
        return None
    from lesionlens.engines.remote.address import ServerAddress, read_key

    key = None if api_key_file is None else read_key(api_key_file)
    return ServerAddress(url, key, ca, plain_http)
