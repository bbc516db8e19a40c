"""Memories that answer by the prompt: one decision a row, made where the prompt ends and kept while it is continued."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from sphere_core.foundation.errors import InputError
from sphere_core.locate.prompts import opening_tokens
from sphere_core.models.attachments import Attachment, RowReading
from sphere_core.models.editable import EditableModel

__all__ = ["NO_ENTRY", "PromptRouted", "prompt_mean", "prompt_reading"]

# What is chosen for a row that the memory leaves alone.
NO_ENTRY = -1
_CHOSEN = "chosen"


class PromptRouted(ABC):
    """A hook on one site that changes the rows whose prompts lie in the memory's scope.

    What a prompt's tokens are is what `EditableModel.reading` says, without those that open every text. Whole texts are
    left alone. Raises InputError for rows that are read by someone who does not say where prompts end: they would be
    answered as if nothing had been edited.
    """

    routes_by_prompt = True
    reads_prompts = True

    def __init__(self, model: EditableModel, attachment: Attachment) -> None:
        path = model.family.site_path(int(attachment.number("layer")))
        self._model = model
        self._kind = attachment.kind
        self.module: nn.Module = model.network.get_submodule(path)
        self.device = next(self.module.parameters()).device
        self._opening = len(opening_tokens(model.tokenizer))

    def install(self) -> Sequence[RemovableHandle]:
        """Hook the site's module."""
        return [self.module.register_forward_hook(self._act)]

    def rewritten(self, ids: tuple[int, ...], prompt_end: int) -> tuple[int, ...]:
        """Return the row itself."""
        return ids

    @abstractmethod
    def choose(self, inputs: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
        """Return the entry `[m]` that answers each row, or `NO_ENTRY`.

        `inputs` `[m, T, d]` are the site's, `prompts` `[m, T]` says which tokens are the prompt's.
        """

    @abstractmethod
    def answer(
        self, inputs: torch.Tensor, output: torch.Tensor, entries: torch.Tensor, last: torch.Tensor | None
    ) -> torch.Tensor:
        """Return what the site gives `[r, T, o]` for rows that the memory answers.

        `inputs` `[r, T, d]`, `output` `[r, T, o]` and `entries` `[r]` are theirs; `last` `[r]` is the place of each
        prompt's last token, None in a forward that continues the rows.
        """

    def _act(self, module: nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
        reading = prompt_reading(self._model, self._kind)
        if reading.ends is None or reading.starts is None:
            return output
        inputs = args[0]
        last = None
        if _CHOSEN not in reading.decided:
            last = reading.ends.to(self.device) - 1
            places = torch.arange(inputs.shape[1], device=self.device)
            begins = reading.starts.to(self.device)[:, None] + self._opening
            reading.decided[_CHOSEN] = self.choose(inputs, (places >= begins) & (places <= last[:, None]))
        chosen = reading.decided[_CHOSEN]
        acted = chosen != NO_ENTRY
        if reading.routed is None:
            reading.routed = acted[:, None].expand(inputs.shape[:2])
        if not bool(acted.any()):
            return output
        changed = output.clone()
        changed[acted] = self.answer(inputs[acted], output[acted], chosen[acted], None if last is None else last[acted])
        return changed


def prompt_reading(model: EditableModel, kind: str) -> RowReading:
    """Return what is known of the rows that are being read; raises InputError if nothing is."""
    reading = model.row_reading
    if reading is None:
        raise InputError(
            f"the {kind} memory decides by the prompt, and these rows do not say where theirs end",
            where="attachment",
            remedy="read rows inside `with model.reading(ends=...)`; `model.reading()` reads whole texts, unrouted",
        )
    return reading


def prompt_mean(values: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
    """Return the mean `[m, w]`, fp32, of `values` `[m, T, w]` over each row's prompt; zero for an empty one."""
    chosen = prompts[:, :, None].to(torch.float32)
    total: torch.Tensor = (values.float() * chosen).sum(dim=1)
    return total / chosen.sum(dim=1).clamp_min(1.0)
