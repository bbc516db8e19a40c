"""A ghost accelerator: tensors that say they live on a device of their own and are computed on the CPU.

Inside `ghost()` two devices exist, `DEVICES`. As on CUDA, an operation on tensors of two devices is refused, a tensor
of no dimension and an index may lie on the host, and a host value is had by waiting for the device. Counted are
kernels, waits of the host, and bytes that cross between host and device, with the line of the project behind each wait
and transfer. What is no view and no allocation counts as one kernel; attention counts as one forward and three
backward, as its fused kernels do.

The wrapper's own C++ device is `meta:0` or `meta:1`, whose backward pass runs in the calling thread; a function mode
takes the ghost's device to it, a dispatch mode does the work.
"""

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from ghost_counts import HOST, Counts
from ghost_operations import INDEXING, about, mapped, tensors_of
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["DEVICES", "MEMORY", "Counts", "GhostTensor", "ghost"]

_TYPE = "privateuseone"
DEVICES = (torch.device(_TYPE, 0), torch.device(_TYPE, 1))
MEMORY = 2**34


class GhostTensor(torch.Tensor):
    """A tensor of one ghost device; `value` holds its numbers."""

    value: torch.Tensor
    counts: Counts

    @staticmethod
    def __new__(cls, value: torch.Tensor, index: int, counts: Counts) -> "GhostTensor":
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            value.shape,
            strides=value.stride(),
            storage_offset=value.storage_offset(),
            dtype=value.dtype,
            device=torch.device("meta", index),
        )
        made.value, made.counts, made.index = value, counts, index
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @property
    def device(self) -> torch.device:
        return DEVICES[self.index]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        counts = next(t.counts for t in tensors_of((args, kwargs)) if isinstance(t, GhostTensor))
        return _run(func, args, kwargs or {}, counts)

    def __repr__(self, **_: Any) -> str:
        return f"ghost({self.value!r}, device={self.device})"


class _Dispatch(TorchDispatchMode):
    """Runs every operation on the numbers behind, and sees to it that devices are not mixed."""

    def __init__(self, counts: Counts) -> None:
        super().__init__()
        self.counts = counts

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {}, self.counts)


class _Function(TorchFunctionMode):
    """Takes ghost devices to those of the wrappers, and handles what reads numbers without an operation."""

    def __init__(self, counts: Counts) -> None:
        super().__init__()
        self.counts = counts

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.device:
            return func(*args, **(kwargs or {}))
        args, kwargs = mapped(_carrier, args), mapped(_carrier, kwargs) if kwargs else {}
        name = getattr(func, "__name__", "")
        # Pages are locked by a driver, which is not here.
        kwargs.pop("pin_memory", None)
        first = args[0] if args else None
        if name in ("tensor", "as_tensor", "new_tensor"):
            device = kwargs.pop("device", first.device if name == "new_tensor" else None)
            made = torch.tensor(args[1], **kwargs) if name == "new_tensor" else func(*args, **kwargs)
            return made if device is None else made.to(_carrier(torch.device(device)))
        if isinstance(first, GhostTensor):
            if name in ("__getitem__", "__setitem__"):
                args = (first, _indices(args[1], first.device), *args[2:])
            if name == "tolist":
                return first.cpu().tolist()
            if name in ("numpy", "__array__"):
                raise TypeError(f"can't convert {first.device} device type tensor to numpy: copy it to the host first")
            if func is scaled_dot_product_attention:
                return _attention(*args, **kwargs)
        return func(*args, **kwargs)


class _Attention(torch.autograd.Function):
    """Attention as the fused kernels of a device do it: one operation each way, nothing in between in memory."""

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any, mask: Any, options: dict[str, Any]) -> Any:
        ctx.save_for_backward(query, key, value, mask)
        ctx.options = options
        parts = [part if part is None else part.value for part in (query, key, value, mask)]
        query.counts.run("attention")
        with torch._C._DisableTorchDispatch():
            return GhostTensor(scaled_dot_product_attention(*parts, **options), query.index, query.counts)

    @staticmethod
    def backward(ctx: Any, slope: Any) -> Any:
        query, key, value, mask = ctx.saved_tensors
        query.counts.run("attention backward", 3)
        with torch._C._DisableTorchDispatch(), torch.enable_grad():
            parts = [part.value.detach().requires_grad_(True) for part in (query, key, value)]
            out = scaled_dot_product_attention(*parts, None if mask is None else mask.value, **ctx.options)
            slopes = torch.autograd.grad(out, parts, slope.value)
        return (*(GhostTensor(part, query.index, query.counts) for part in slopes), None, None)


def _attention(query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0, **options: Any) -> Any:
    _require_one_device("attention", [part for part in (query, key, value, attn_mask) if part is not None])
    return _Attention.apply(query, key, value, attn_mask, {"dropout_p": dropout_p, **options})


def _run(func: Any, args: Any, kwargs: dict[str, Any], counts: Counts) -> Any:
    """Run one operation on the numbers behind its arguments and wrap what comes out."""
    it = about(func)
    tensors: list[torch.Tensor] = []
    plain_args = _plain(args, tensors)
    plain_kwargs = _plain(kwargs, tensors) if kwargs else {}
    ghosts = [tensor for tensor in tensors if isinstance(tensor, GhostTensor)]
    asked = None if kwargs.get("device") is None else _shown(kwargs["device"])
    place = ghosts[0].device if ghosts else HOST
    if it.copies:
        source = args[1] if it.name != "_to_copy" else args[0]
        place = args[0].device if asked is None else asked
        if source.device != place:
            counts.move(source.device, place, source)
    elif asked is not None and (asked.type == _TYPE or asked == HOST):
        place = asked
    if not it.copies and len(tensors) > 1:
        _require_one_device(it.name, tensors, counts)
    if asked is not None and asked.type == _TYPE:
        plain_kwargs["device"] = HOST
    on_ghost = place.type == _TYPE
    if on_ghost:
        if it.waits or (it.indexes and any(index.dtype is torch.bool for index in tensors_of(args[1]))):
            counts.wait()
        if it.launches:
            counts.run(it.name)
    with torch._C._DisableTorchDispatch():
        out = func(*plain_args, **plain_kwargs)
    known = {id(tensor.value if isinstance(tensor, GhostTensor) else tensor): tensor for tensor in tensors}

    def wrap(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or id(value) in known:
            return known.get(id(value), value)
        return GhostTensor(value, place.index, counts) if on_ghost else value

    return wrap(out) if isinstance(out, torch.Tensor) else mapped(wrap, out)


def _plain(tree: Any, found: list[torch.Tensor]) -> Any:
    """Return a tree with numbers in the place of ghosts, and append its tensors to a list."""
    kind = type(tree)
    if kind is tuple or kind is list:
        return kind([_plain(part, found) for part in tree])
    if kind is dict:
        return {name: _plain(part, found) for name, part in tree.items()}
    if isinstance(tree, torch.Tensor):
        found.append(tree)
        return tree.value if isinstance(tree, GhostTensor) else tree
    return tree


def _require_one_device(name: str, tensors: list[torch.Tensor], counts: Counts | None = None) -> None:
    """Raise as a device does where operands lie on two; on the host may lie single numbers, and indices."""
    ghosts = [tensor for tensor in tensors if isinstance(tensor, GhostTensor)]
    for tensor in tensors if ghosts else []:
        if tensor.device == ghosts[0].device or (tensor.device == HOST and tensor.ndim == 0):
            continue
        if name in INDEXING and tensor.device == HOST and tensor is not tensors[0] and tensor.dtype is torch.long:
            if counts is not None:
                counts.move(HOST, ghosts[0].device, tensor)
            continue
        both = f"{ghosts[0].device} and {tensor.device}"
        raise RuntimeError(f"Expected all tensors to be on the same device, but found two devices, {both} ({name})")


def _carrier(value: Any) -> Any:
    """Return the wrapper's device for a ghost device or its name, and anything else as it is."""
    if isinstance(value, str) and value.startswith(_TYPE):
        value = torch.device(value)
    return torch.device("meta", value.index or 0) if isinstance(value, torch.device) and value.type == _TYPE else value


def _indices(index: Any, device: torch.device) -> Any:
    """Return an index whose lists are tensors on the device, as they are made into."""
    if isinstance(index, tuple):
        return tuple(_indices(part, device) for part in index)
    return torch.tensor(index).to(_carrier(device)) if isinstance(index, list) else index


def _shown(device: Any) -> torch.device:
    found = torch.device(device)
    return DEVICES[found.index] if found.type == "meta" and found.index is not None else found


class _Event:
    """A mark on this thread's stream: in kernels run there so far, a second each. Waiting for it is counted."""

    def __init__(self, counts: Counts, enable_timing: bool = False) -> None:
        self._counts, self._timed = counts, enable_timing
        self._at: int | None = None

    def record(self) -> None:
        self._at = self._counts.by_thread[threading.get_ident()]

    def synchronize(self) -> None:
        self._counts.wait()

    def elapsed_time(self, end: "_Event") -> float:
        assert self._timed
        assert self._at is not None
        assert end._at is not None
        return 1000.0 * (end._at - self._at)


@contextmanager
def ghost(*, memory: int = MEMORY) -> Iterator[Counts]:
    """Have two ghost devices with so many free bytes each, and count what they do."""
    counts = Counts()
    module = SimpleNamespace(
        mem_get_info=lambda _=None: (memory, memory),
        device_count=lambda: len(DEVICES),
        get_device_name=lambda _=None: "ghost",
        get_rng_state=lambda _=None: torch.get_rng_state(),
        set_rng_state=lambda state, _=None: None,
        manual_seed_all=lambda seed: None,
        _is_in_bad_fork=lambda: False,
        get_amp_supported_dtype=lambda: [torch.bfloat16],
        Event=functools.partial(_Event, counts),
        reset_peak_memory_stats=lambda _=None: None,
        max_memory_allocated=lambda _=None: 0,
    )
    ordinary = torch.get_device_module

    def device_module(device: Any = None) -> Any:
        return module if device is not None and torch.device(device).type == _TYPE else ordinary(device)

    named = patch(f"torch.{_TYPE}", module, create=True)
    idle = patch("torch.accelerator.synchronize", lambda _=None: None)
    with named, idle, patch("torch.get_device_module", device_module), _Function(counts), _Dispatch(counts):
        yield counts
