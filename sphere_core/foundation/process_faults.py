"""Errors that are the fault of a process rather than of its trajectory: a broken accelerator, lack of memory."""

import gc

import torch

__all__ = ["free_memory", "is_broken_accelerator", "is_out_of_memory"]

# What torch up to 2.7 raises as a plain RuntimeError; later releases have a class for it.
_BROKEN = ("CUDA error:", "HIP error:", "CUBLAS_STATUS_", "CUSOLVER_STATUS_", "cuDNN error:", "XPU error:")
_EXHAUSTED = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "can't allocate memory", "not enough memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error, or its cause, is a lack of memory on the accelerator or the host."""
    return any(
        isinstance(one, torch.OutOfMemoryError | MemoryError)
        or (isinstance(one, RuntimeError) and any(text in str(one) for text in _EXHAUSTED))
        for one in _causes(error)
    )


def is_broken_accelerator(error: BaseException) -> bool:
    """Return whether an error, or its cause, is an accelerator failure: later results of this process are invalid."""
    failure = getattr(torch, "AcceleratorError", None)
    return not is_out_of_memory(error) and any(
        (failure is not None and isinstance(one, failure))
        or (isinstance(one, RuntimeError) and any(text in str(one) for text in _BROKEN))
        for one in _causes(error)
    )


def free_memory() -> None:
    """Release unreferenced memory on the host and on the accelerator."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in found:
        found.append(one)
        one = one.__cause__ or one.__context__
    return found
