"""What is installed on a model beside its weights: a memory or an adapter, as a value with a digest.

An editor that changes no weight changes the model's attachment. The attachment is data; what it does to a forward is
its mechanism, made when the attachment is installed. `EditableModel.attach` is the one place that installs and removes.

A mechanism acts in a module of the network (a hook), or rewrites the rows before the network reads them. One that
decides by the prompt must know where the prompt ends: code that reads rows says so with `EditableModel.reading`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import torch
from torch.utils.hooks import RemovableHandle

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.fingerprint import fingerprint
from sphere_core.numerics.tensor_digest import tensors_digest

__all__ = ["MECHANISMS", "Attachment", "Mechanism", "RowReading", "stable_number"]

# Kinds of attachment, each with the place `module:name` of its mechanism.
MECHANISMS: Mapping[str, str] = {
    "neuraldb": "sphere_core.editors.memory.neuraldb:NeuralDB",
    "grace": "sphere_core.editors.memory.grace:Grace",
    "memoir": "sphere_core.editors.memory.memoir:Memoir",
    "neurons": "sphere_core.editors.memory.neurons:Neurons",
    "retrieve": "sphere_core.editors.memory.retrieve:Retrieval",
    "serac": "sphere_core.editors.memory.serac:Serac",
    "wise": "sphere_core.editors.memory.wise:Wise",
}


@dataclass(frozen=True)
class Attachment:
    """A kind of mechanism, and all that determines what it does: named tensors and scalars. Never written to."""

    kind: str
    tensors: Mapping[str, torch.Tensor]
    scalars: Mapping[str, float | int | str | bool] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """The digest of kind, tensors and scalars."""
        parts = {"kind": self.kind, "tensors": tensors_digest(self.tensors), "scalars": dict(self.scalars)}
        return fingerprint(parts)

    @property
    def size(self) -> int:
        """Bytes of the tensors."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors.values())

    @property
    def finite(self) -> bool:
        """Whether every entry of the floating-point tensors is finite."""
        floats = [tensor for tensor in self.tensors.values() if tensor.is_floating_point()]
        return all(bool(torch.isfinite(tensor).all()) for tensor in floats)

    def number(self, name: str) -> float:
        """Return a numeric scalar; raises InputError if there is none of that name."""
        value = self.scalars.get(name)
        if not isinstance(value, int | float):
            raise InputError(f"the {self.kind} attachment has no number '{name}'", remedy="make the checkpoint again")
        return float(value)


@dataclass
class RowReading:
    """Rows that a forward reads, `[m, T]`: their prompts are the tokens from `starts` to before `ends` `[m]`.

    Both are None for whole texts without a prompt: nothing is routed by prompt there. `routed` `[m, T]` is set by a
    mechanism: the positions whose computation it changed. `decided` holds what it decided of the rows' prompts, for
    later forwards that continue the rows with a cache.
    """

    starts: torch.Tensor | None
    ends: torch.Tensor | None
    routed: torch.Tensor | None = None
    decided: dict[str, torch.Tensor] = field(default_factory=dict)


class Mechanism(Protocol):
    """What an attachment does to a model, made from the two of them."""

    @property
    def routes_by_prompt(self) -> bool:
        """Whether the same ids are computed otherwise if their prompt ends elsewhere; rows are then never shared."""
        ...

    @property
    def reads_prompts(self) -> bool:
        """Whether it needs a prompt to act: by routing or by rewriting. On whole texts it then does nothing."""
        ...

    def install(self) -> Sequence[RemovableHandle]:
        """Register the hooks and return their handles."""
        ...

    def rewritten(self, ids: tuple[int, ...], prompt_end: int) -> tuple[int, ...]:
        """Return a row to read in place of `ids`, whose prompt is `ids[:prompt_end]`; what follows it is kept."""
        ...


def stable_number(text: str) -> int:
    """Return 63 bits of a text's sha256: a name for it that fits an int64 tensor."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1
