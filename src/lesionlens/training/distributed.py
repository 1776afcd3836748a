"""Several processes that train one network, as torchrun starts them, or this one alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from lesionlens.base.errors import ConfigError, ResourceError
from lesionlens.engines import device as devices

_BACKENDS = {"cuda": "nccl", "xpu": "xccl"}  # by which accelerators of one kind talk to one another
_PATIENCE = timedelta(hours=2)
"""How long the others wait for one that validates or prepares real cases."""


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """Who this process is among those that train one network."""

    device: torch.device
    """Where it computes."""
    rank: int = 0
    size: int = 1
    """Its number, from 0, and how many there are."""

    @property
    def leads(self) -> bool:
        """Whether it is the one that writes and speaks."""
        return self.rank == 0

    def any(self, mine: bool) -> bool:
        """Whether it is so for any process; all must ask, and all get the same answer."""
        return self._largest(float(mine)) > 0

    def _largest(self, value: float) -> float:
        if self.size == 1:
            return value
        known = torch.tensor([value], dtype=torch.float64, device=self.device)
        distributed.all_reduce(known, distributed.ReduceOp.MAX)
        return float(known)

    def share(self, network: nn.Module) -> nn.Module:
        """Return what a step calls: all begin with the same weights and average gradients."""
        if self.size == 1:
            return network
        own = None if self.device.type == "cpu" else [self.device.index]
        return DistributedDataParallel(network, device_ids=own, find_unused_parameters=True)

    def check_step(self, step: int) -> None:
        """Make sure that all continue from the same step.

        Raises
        ------
        ResourceError
            They do not.
        """
        last, first = self._largest(step), -self._largest(-step)
        if first != last:
            raise ResourceError(
                found=f"processes at step {first:.0f} and at step {last:.0f}",
                expected="one checkpoint for all",
                next_step="Give --out a folder that all machines share",
            )

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """Let the first process do something that leaves files, then the others, who find them."""
        if self.size > 1 and not self.leads:
            distributed.barrier()
        yield
        if self.size > 1 and self.leads:
            distributed.barrier()


def _own_device(wish: str, local: int) -> torch.device:
    """Give each process of a machine a device of its own."""
    kind, _, number = wish.strip().lower().partition(":")
    if number or kind == "mps":
        raise ConfigError(
            found=f"several processes and the one device {wish}",
            expected=f"cpu, or {' or '.join(_BACKENDS)}, of which each process takes one",
            next_step="Leave the number out, as in --device cuda, or start without torchrun",
        )
    place = devices.choose(wish)
    if place.type == "cpu":
        return place
    there = devices.accelerators()
    if local >= len(there):
        raise ResourceError(
            found=f"{len(there)} {place.type.upper()} devices for process {local + 1} here",
            expected="one for each process",
            next_step="Start fewer: torchrun --nproc-per-node",
        )
    torch.get_device_module(place).set_device(local)
    return there[local]


@contextmanager
def joined(device: str) -> Iterator[ProcessGroup]:
    """Join the processes that torchrun started; without it, a group of one.

    Parameters
    ----------
    device : str
        As `engines.device.choose` reads it; of several processes each takes its own.

    Raises
    ------
    ConfigError, ResourceError
        A device cannot be had, or this torch cannot talk to other processes.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ProcessGroup(devices.choose(device))
        return
    place = _own_device(device, int(os.environ["LOCAL_RANK"]))
    if not distributed.is_available():
        raise ResourceError(
            found="a torch without torch.distributed",
            expected="one that can talk to other processes",
            next_step="Start without torchrun, or install another build of torch",
        )
    distributed.init_process_group(_BACKENDS.get(place.type, "gloo"), timeout=_PATIENCE)
    try:
        yield ProcessGroup(place, int(os.environ["RANK"]), size)
    finally:
        distributed.destroy_process_group()
