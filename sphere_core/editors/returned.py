"""What an editor's or a regularizer's code may return, and what it must leave as it was given.

Checked at every call, from shapes and types alone: no value is read, so that no device is waited for. A fault is given
with the file and line of the code, and what to write instead.
"""

from collections.abc import Callable, Mapping

import torch

from sphere_core.checkpoints import EditorState
from sphere_core.foundation.errors import InputError
from sphere_core.models.site_write import SiteWrite
from sphere_core.numerics.linalg import DenseUpdate, LowRankUpdate

__all__ = ["Given", "refuse_faulty_state", "refuse_faulty_update"]

_PRECISE = (torch.float32, torch.float64)


class Given:
    """Tensors that a call is given, and their versions before it."""

    def __init__(self, code: Callable[..., object], write: SiteWrite, update: object, state: EditorState) -> None:
        """Note the versions of keys, residuals, weights, the update and the state's tensors."""
        self._code = code
        parts = {"write.keys": write.keys, "write.residuals": write.residuals}
        parts |= {"write.weight": write.weight, "write.base": write.base, **_tensors(update)}
        parts |= {f"state.tensors['{name}']": tensor for name, tensor in state.tensors.items()}
        self._parts = [(name, tensor, tensor._version) for name, tensor in parts.items() if not tensor.is_inference()]

    def refuse_changes(self) -> None:
        """Raise InputError if one of them has been written to since."""
        for name, tensor, version in self._parts:
            if tensor._version != version:
                remedy = "write to a copy: tensor.clone(), or operations without a trailing underscore"
                raise _fault(self._code, f"changes {name} in place", remedy)


def refuse_faulty_update(update: object, write: SiteWrite, code: Callable[..., object]) -> None:
    """Raise InputError unless `update` is one, of the weight's shape and device, in float32 or float64, without graph.

    `code` is what has returned it.
    """
    wanted = "return DenseUpdate(matrix) or LowRankUpdate(left, right), from sphere_core.numerics.linalg"
    if not isinstance(update, DenseUpdate | LowRankUpdate):
        raise _fault(code, f"returns {_kind(update)}, not an update", wanted)
    parts = _tensors(update)
    if isinstance(update, DenseUpdate):
        shape = tuple(update.matrix.shape)
    else:
        fits = update.left.ndim == update.right.ndim == 2 and update.left.shape[1] == update.right.shape[1]
        shape = (update.left.shape[0], update.right.shape[0]) if fits else ()
    if shape != tuple(write.weight.shape):
        found = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in parts.items())
        raise _fault(
            code,
            f"returns an update of another shape than its weight's {list(write.weight.shape)}: {found}",
            "an update is [d_out, d_in], left [d_out, n] and right [d_in, n], on every family",
        )
    for name, tensor in parts.items():
        if tensor.dtype not in _PRECISE:
            raise _fault(code, f"returns {name} in {str(tensor.dtype).removeprefix('torch.')}", "return it in float64")
        if tensor.device != write.weight.device:
            remedy = "return it where write.weight is: tensor.to(write.weight.device)"
            raise _fault(code, f"returns {name} on the device {tensor.device}, not {write.weight.device}", remedy)
        if tensor.requires_grad:
            raise _fault(code, f"returns {name} with its graph of gradients", "return it detached: tensor.detach()")


def refuse_faulty_state(state: object, code: Callable[..., object]) -> None:
    """Raise InputError unless `state` is an EditorState of tensors and plain scalars, as checkpoints store it."""
    wanted = "return EditorState(tensors={name: tensor}, scalars={name: number or text}), of sphere_core.checkpoints"
    if not isinstance(state, EditorState):
        raise _fault(code, f"returns {_kind(state)}, not a state", wanted)
    _require_kinds(state.tensors, torch.Tensor, "tensors", code, wanted)
    _require_kinds(state.scalars, (bool, int, float, str), "scalars", code, wanted)


def _require_kinds(
    part: Mapping[str, object],
    kind: type | tuple[type, ...],
    what: str,
    code: Callable[..., object],
    remedy: str,
) -> None:
    for name, value in part.items():
        if not isinstance(value, kind):
            raise _fault(code, f"returns a state whose {what} hold {_kind(value)}, '{name}'", remedy)


def _tensors(update: object) -> dict[str, torch.Tensor]:
    if isinstance(update, DenseUpdate):
        return {"update.matrix": update.matrix}
    if isinstance(update, LowRankUpdate):
        return {"update.left": update.left, "update.right": update.right}
    return {}


def _fault(code: Callable[..., object], what: str, remedy: str) -> InputError:
    lines = getattr(getattr(code, "__func__", code), "__code__", None)
    name = getattr(code, "__qualname__", type(code).__name__)
    where = name if lines is None else f"{lines.co_filename}, line {lines.co_firstlineno}"
    return InputError(f"{name} {what}", where=where, remedy=remedy)


def _kind(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
