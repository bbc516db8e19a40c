"""Errors that a forward of the model raises, of the process or of the task, and an install that raises them."""

from collections.abc import Callable

import pytest
import torch

from evaluators.general.guarded_lm import GuardedHFLM

__all__ = ["OF_THE_PROCESS", "OF_THE_TASK", "Failing"]

ACCELERATOR_ERROR = getattr(torch, "AcceleratorError", RuntimeError)
CUBLAS = "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm( handle, opa, opb, m, n, k)`"

# What a forward of the model raises.
OF_THE_PROCESS: dict[str, Callable[[], Exception]] = {
    "cublas": lambda: RuntimeError(CUBLAS),
    "accelerator": lambda: ACCELERATOR_ERROR("CUDA error: an illegal memory access was encountered"),
    "out of memory": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"),
    "host memory": MemoryError,
    "allocator": lambda: RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
}
OF_THE_TASK: dict[str, Callable[[], Exception]] = {
    "shape": lambda: RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"),
    "value": lambda: ValueError("out of memory, says a text that is no error of memory"),
    "file": lambda: FileNotFoundError("a list of words"),
}


class Failing:
    """Makes the harness's forwards raise from a given one on, so many times; counts the errors."""

    def __init__(self, error: Callable[[], Exception], *, after: int = 0, times: int = 1) -> None:
        self.error, self.left, self.times, self.raised = error, after, times, 0

    def install(self, monkeypatch: pytest.MonkeyPatch) -> "Failing":
        forward = GuardedHFLM._model_call

        def fail(lm: GuardedHFLM, *arguments, **options) -> torch.Tensor:
            if self.left:
                self.left -= 1
            elif self.raised < self.times:
                self.raised += 1
                raise self.error()
            return forward(lm, *arguments, **options)

        monkeypatch.setattr(GuardedHFLM, "_model_call", fail)
        return self
