"""Errors after which a process, rather than a trajectory, is at fault: a broken accelerator, memory that ran out."""

import gc

import torch

__all__ = ["free_memory", "is_broken_accelerator", "is_out_of_memory"]

# What torch up to 2.7 raises as a plain RuntimeError; later releases have a class for it.
_BROKEN = ("CUDA error:", "HIP error:", "CUBLAS_STATUS_", "CUSOLVER_STATUS_", "cuDNN error:", "XPU error:")
_EXHAUSTED = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "can't allocate memory", "not enough memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error, or what caused it, is memory that ran out, on the accelerator or on the host."""
    return any(
        isinstance(one, torch.OutOfMemoryError | MemoryError)
        or (isinstance(one, RuntimeError) and any(text in str(one) for text in _EXHAUSTED))
        for one in _causes(error)
    )


def is_broken_accelerator(error: BaseException) -> bool:
    """Tell whether an error, or what caused it, is an accelerator's: what this process computes next is worthless."""
    failure = getattr(torch, "AcceleratorError", None)
    return not is_out_of_memory(error) and any(
        (failure is not None and isinstance(one, failure))
        or (isinstance(one, RuntimeError) and any(text in str(one) for text in _BROKEN))
        for one in _causes(error)
    )


def free_memory() -> None:
    """Give back what is no longer referred to, on the host and on the accelerator."""
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
