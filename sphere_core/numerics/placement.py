"""Where large constants live: memory of a device, a constant that is moved once, and where a decomposition runs."""

from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar

import psutil
import torch

__all__ = [
    "Resident",
    "all_finite",
    "decomposes_within",
    "decomposition_device",
    "device_name",
    "finite_anywhere",
    "free_memory",
    "has_room",
    "same_bits",
    "total_memory",
]

# Matrices of its input's size that a symmetric eigendecomposition holds, and the share of a device that
# working memory and constants of a score may take.
_EIGEN_COPIES = 5
_ROOM_SHARE = 0.25

_HOST = torch.device("cpu")


class _Movable(Protocol):
    def to(self, device: torch.device, /) -> "_Movable": ...


T = TypeVar("T", bound=_Movable)


class Resident(Generic[T]):
    """A constant of the trajectory that moves to a device when it is first used there, and stays."""

    def __init__(self, value: T) -> None:
        self._value = value
        self._place: torch.device | None = None

    def at(self, device: torch.device) -> T:
        """Return the constant on a device; copies only where it was last used on another one."""
        if self._place != device:
            self._value = self._value.to(device)  # type: ignore[assignment]
            self._place = device
        return self._value


def all_finite(*tensors: torch.Tensor) -> bool:
    """Return whether every entry of every tensor, all on one device, is finite; waits once for the device."""
    checks = [torch.isfinite(tensor).all() for tensor in tensors]
    whole = checks[0]
    for check in checks[1:]:
        whole = whole & check
    return bool(whole)


def finite_anywhere(tensors: Iterable[torch.Tensor]) -> bool:
    """Return whether every entry of tensors on any devices is finite; waits once for each device."""
    by_device: dict[torch.device, list[torch.Tensor]] = {}
    for tensor in tensors:
        by_device.setdefault(tensor.device, []).append(tensor)
    return all([all_finite(*held) for held in by_device.values()])


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Return whether two tensors of one shape, dtype and device hold the same bits, also if they are not numbers."""
    whole = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[one.element_size()]
    return torch.equal(one.detach().view(whole), other.detach().view(whole))


def free_memory(device: torch.device) -> int:
    """Return the free bytes of a device, or of the host."""
    if device.type == "cpu":
        return int(psutil.virtual_memory().available)
    return int(torch.get_device_module(device).mem_get_info(device)[0])


def total_memory(device: torch.device) -> int:
    """Return all bytes of a device, or of the host."""
    if device.type == "cpu":
        return int(psutil.virtual_memory().total)
    return int(torch.get_device_module(device).mem_get_info(device)[1])


def device_name(device: torch.device) -> str:
    """Return the kind of a device: bits of a decomposition are the same on one kind only."""
    return "cpu" if device.type == "cpu" else str(torch.get_device_module(device).get_device_name(device))


def decomposition_device(device: torch.device, width: int) -> torch.device:
    """Return where a float64 `[width, width]` matrix is decomposed for a model on `device`: there, or on the host.

    There where it has room for the working memory.
    """
    return device if has_room(device, _eigen_bytes(width)) else _HOST


def decomposes_within(width: int, memory: float) -> bool:
    """Return whether an accelerator with `memory` bytes in all decomposes such a matrix itself, by the same rule."""
    return _eigen_bytes(width) <= _ROOM_SHARE * memory


def _eigen_bytes(width: int) -> int:
    return 8 * _EIGEN_COPIES * width**2


def has_room(device: torch.device, size: int) -> bool:
    """Return whether an accelerator has room for `size` bytes besides activations: at most a quarter of its memory.

    Memory in use plays no part, so that the choice, and with it the bits, is the same in every run on one kind of
    device.
    """
    return device.type != "cpu" and size <= _ROOM_SHARE * total_memory(device)
