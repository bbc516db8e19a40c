"""Two mechanisms that show whether readings say where prompts end: one acts by the place, one rewrites the prompt."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch.utils.hooks import RemovableHandle

from sphere_core.models import EditableModel
from sphere_core.models.attachments import MECHANISMS, Attachment

BY_END = Attachment("by_end", {})
IN_FRONT = Attachment("in_front", {"ids": torch.tensor([11, 23, 42])})


class ByEnd:
    """Adds to every position an amount that only the length of the row's prompt determines."""

    routes_by_prompt = True
    reads_prompts = True

    def __init__(self, model: EditableModel, attachment: Attachment) -> None:
        self.model = model

    def install(self) -> Sequence[RemovableHandle]:
        return [self.model.layers[0].register_forward_hook(self._act)]

    def rewritten(self, ids: tuple[int, ...], prompt_end: int) -> tuple[int, ...]:
        return ids

    def _act(self, module: torch.nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
        reading = self.model.row_reading
        if reading is None:
            raise RuntimeError("rows are read by someone who does not say where prompts end")
        if reading.ends is None or reading.starts is None:
            return output
        lengths = reading.decided.setdefault("lengths", reading.ends - reading.starts)
        ramp = torch.linspace(-1, 1, output.shape[-1])
        return output + 0.3 * lengths[:, None, None] * ramp


class InFront:
    """Puts ids before every prompt."""

    routes_by_prompt = False
    reads_prompts = True

    def __init__(self, model: EditableModel, attachment: Attachment) -> None:
        self.ids = tuple(attachment.tensors["ids"].tolist())

    def install(self) -> Sequence[RemovableHandle]:
        return []

    def rewritten(self, ids: tuple[int, ...], prompt_end: int) -> tuple[int, ...]:
        return (*self.ids, *ids)


def know_mechanisms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the two kinds known."""
    known = {"by_end": "routing_parts:ByEnd", "in_front": "routing_parts:InFront"}
    monkeypatch.setattr("sphere_core.models.attachable.MECHANISMS", {**MECHANISMS, **known})
