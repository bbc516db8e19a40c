"""What ghost devices did: kernels, waits of the host, bytes that crossed, and the lines of the project behind them."""

import sys
import threading
from collections import Counter
from dataclasses import dataclass, field

import torch
from repository import REPOSITORY

__all__ = ["HOST", "Counts"]

HOST = torch.device("cpu")
_PACKAGES = ("sphere_core", "evaluators", "workflows")


@dataclass
class Counts:
    """What the devices did since `clear`; `waits_at` and `bytes_at` say which line of the project is behind it.

    `by_thread` are kernels by the thread that launched them: each thread has a stream of its own.
    """

    kernels: int = 0
    waits: int = 0
    to_host: int = 0
    to_device: int = 0
    between: int = 0
    by_kernel: Counter[str] = field(default_factory=Counter)
    by_thread: Counter[int] = field(default_factory=Counter)
    waits_at: Counter[str] = field(default_factory=Counter)
    bytes_at: Counter[str] = field(default_factory=Counter)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def clear(self) -> None:
        """Return to zero."""
        self.__dict__.update(Counts().__dict__)

    def run(self, name: str, kernels: int = 1) -> None:
        """Count the kernels of an operation."""
        with self.lock:
            self.kernels += kernels
            self.by_kernel[name] += kernels
            self.by_thread[threading.get_ident()] += kernels

    def wait(self) -> None:
        """Count one wait of the host for the device."""
        with self.lock:
            self.waits += 1
            self.waits_at[_line()] += 1

    def move(self, source: torch.device, target: torch.device, tensor: torch.Tensor) -> None:
        """Count a copy; one to the host is waited for."""
        size = tensor.numel() * tensor.element_size()
        with self.lock:
            if source == HOST:
                self.to_device += size
            elif target == HOST:
                self.to_host += size
                self.wait()
            else:
                self.between += size
            self.bytes_at[_line()] += size


def _line() -> str:
    """Return the nearest line of the project that is on the stack."""
    frame = sys._getframe(2)
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith(tuple(f"{REPOSITORY}/{name}/" for name in _PACKAGES)):
            return f"{path.removeprefix(f'{REPOSITORY}/')}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"
