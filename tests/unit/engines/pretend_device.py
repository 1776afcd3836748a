"""A device that is not there: tensors that claim to lie on it, computed on the CPU.

Where a real device would refuse, so does this one: operands on different devices, memory read
without `.cpu()`, float64 on Apple's GPU. So code can be walked with real values for devices that a
machine lacks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

_MIXES = {"_has_compatible_shallow_copy_type", "copy_", "__getitem__", "__setitem__", "index", "to"}
"""Functions that take tensors on the CPU beside others, as on a real device."""


class Pretended(torch.Tensor):
    """A tensor that claims to lie on another device than its values do."""

    @staticmethod
    def __new__(cls, values, device):
        if device.type == "mps" and values.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            values.shape,
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            requires_grad=values.requires_grad,
        )
        made.values_on_cpu, made.claimed = values.detach(), device
        return made

    @property
    def device(self):
        return self.claimed

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        del types
        kwargs = dict(kwargs or {})
        flat, _ = tree_flatten((args, kwargs))
        tensors = [t for t in flat if isinstance(t, torch.Tensor)]
        device = next(t.device for t in tensors if isinstance(t, cls))
        name = func.overloadpacket.__name__
        if name == "_local_scalar_dense":
            return func(*tree_map(_plain, args))
        out = func(*tree_map(_plain, args), **tree_map(_plain, kwargs))
        if name.endswith("_") and isinstance(args[0], cls):  # in place
            return args[0]
        return tree_map(lambda t: _claimed(t, device), out)


def _plain(value):
    return value.values_on_cpu if isinstance(value, Pretended) else value


def _claimed(value, device):
    fits = isinstance(value, torch.Tensor) and not isinstance(value, Pretended)
    return Pretended(value, device) if fits and device.type != "cpu" else value


def _check_together(name, given):
    """Refuse tensors on different devices; single numbers may lie on the CPU."""
    places = {t.device for t in given if isinstance(t, torch.Tensor) and t.dim()}
    if len(places) > 1:
        raise RuntimeError(f"{name}: operands on {', '.join(sorted(map(str, places)))}")


class _Factories(TorchFunctionMode):
    """Answers what asks for the device, before torch finds that it is not there."""

    def __init__(self, device):
        super().__init__()
        self._device = device

    def _is_it(self, found):
        if not isinstance(found, str | torch.device):
            return False
        return torch.device(found).type == self._device.type

    def __torch_function__(self, func, types, args=(), kwargs=None):
        del types
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name in ("to", "cpu", "numpy") and isinstance(args[0], torch.Tensor):
            return self._moved(name, func, args, kwargs)
        if name not in _MIXES:
            _check_together(name, tree_flatten((args, kwargs))[0])
        if name == "tolist":  # a copy to the host, which every device allows
            return _plain(args[0]).tolist()
        if name == "new_tensor":
            return _claimed(func(_plain(args[0]), *args[1:], **kwargs), args[0].device)
        if self._is_it(kwargs.get("device")):
            kwargs["device"] = "cpu"
            return _claimed(func(*args, **kwargs), self._device)
        return func(*args, **kwargs)

    def _moved(self, name, func, args, kwargs):
        values, *rest = [given for given in args if given is not None and given is not False]
        requested = kwargs.pop("device", None)
        for given in tuple(rest):
            if isinstance(given, str | torch.device):
                requested = given
                rest.remove(given)
            elif isinstance(given, torch.Tensor):
                requested = given.device
                rest.remove(given)
        if name == "numpy":
            if isinstance(values, Pretended):
                raise TypeError(f"can't convert {values.device} device type tensor to numpy")
            return func(*args)
        if name == "cpu" or (requested is not None and torch.device(requested).type == "cpu"):
            values = values.values_on_cpu if isinstance(values, Pretended) else values
            return values.to(*rest, **kwargs) if rest or kwargs else values
        if self._is_it(requested) and not isinstance(values, Pretended):
            values = values.to(*rest, **kwargs) if rest or kwargs else values
            return _claimed(values, self._device)
        return func(values, *rest, **kwargs) if rest or kwargs else values


@contextmanager
def pretended(device: torch.device) -> Iterator[None]:
    """Pretend, within the block, that a device is there."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    inference_mode = torch.inference_mode  # its tensors cannot be wrapped
    torch.inference_mode = torch.no_grad
    try:
        with _Factories(device):
            yield
    finally:
        torch.inference_mode = inference_mode
        torch.__future__.set_overwrite_module_params_on_conversion(before)
