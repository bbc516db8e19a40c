"""Leaving the process's random states as they were found."""

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch

__all__ = ["kept_random_state", "seeded"]


@contextlib.contextmanager
def kept_random_state(device: torch.device) -> Iterator[None]:
    """Put back Python's, NumPy's and torch's random states (CPU and `device`) on leaving."""
    python = random.getstate()
    numpy = np.random.get_state()  # noqa: NPY002 - third parties draw from the global state
    accelerators = [] if device.type == "cpu" else [device]
    try:
        with torch.random.fork_rng(devices=accelerators, device_type=device.type):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the three random states inside the block; restore them on leaving."""
    with kept_random_state(device):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        yield
