"""TCP ports: free ones for programs that need a fixed port, and closed ones."""

import atexit
import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

_BELOW_EPHEMERAL = range(20000, 32768)
_reservations = ExitStack()
atexit.register(_reservations.close)


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that stays free until a program listens at it.

    The kernel can assign a port that it chose to any other connection once it is closed, so these
    lie outside the kernel's range. The UDP port of the same number, held until this process
    ends, prevents other test processes from choosing it.
    """
    for port in random.sample(_BELOW_EPHEMERAL, len(_BELOW_EPHEMERAL)):
        with ExitStack() as attempt:
            reservation = attempt.enter_context(socket.socket(type=socket.SOCK_DGRAM))
            probe = attempt.enter_context(socket.socket())
            try:
                reservation.bind(("127.0.0.1", port))
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            probe.close()
            _reservations.push(attempt.pop_all())
            return port
    raise RuntimeError("no free port")


@contextmanager
def closed_port() -> Iterator[int]:
    """Hold a TCP port of 127.0.0.1 at which every connection is refused."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        yield int(bound.getsockname()[1])
