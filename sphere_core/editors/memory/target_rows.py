"""One request as training rows: its target behind its prompt in every context, and the layers after the memory.

Nothing before the memory's site depends on what the memory holds: one forward of the unedited model records what the
site reads and gives, and what the layers behind it need. Only those are run again at every step.

Symbols: m rows, one per context, T tokens, S tokens from each row's start on, d and o the site's sides, h width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sphere_core.locate.prompts import in_context, opening_tokens, pad_right, target_ids, text_ids
from sphere_core.locate.templates import Contexts
from sphere_core.models.editable import EditableModel
from sphere_core.models.layer_calls import gather_positions
from sphere_core.models.suffix import Tail, record_tail
from sphere_core.models.suffix_cut import positions_from
from sphere_core.models.whole_rows import WholeRows
from sphere_core.requests import EditRequest

__all__ = ["TargetRows", "target_rows"]


@dataclass(frozen=True)
class TargetRows:
    """Rows of a request; the first has the bare prompt.

    `inputs` `[m, S, d]` and `outputs` `[m, S, o]` are the site's, in the network's dtype; `prompts` `[m, S]` says which
    tokens are the prompt's, those that open every text left out; `targets` are the target's ids. `rows` and `positions`
    name, for every target token of every row, where it is scored among `[m, S]`, `ids` which it is.
    """

    model: EditableModel
    inputs: torch.Tensor
    outputs: torch.Tensor
    prompts: torch.Tensor
    targets: tuple[int, ...]
    tail: Tail | WholeRows
    norm: nn.Module | None
    rows: torch.Tensor
    positions: torch.Tensor
    ids: torch.Tensor

    def loss(self, change: torch.Tensor) -> torch.Tensor:
        """Return the mean over rows of the mean NLL of the target, fp32 with gradient, if the site gives `change`
        `[m, S, o]` more from each row's start on."""
        hidden = self.tail.hidden
        gained = change
        if self.norm is not None:
            given = self.outputs.float()
            gained = self.norm(given + change) - self.norm(given)
        out = self.tail.run((hidden.float() + gained.to(hidden.device)).to(hidden))
        scored = out[self.rows.to(out.device), self.positions.to(out.device)]
        logs = self.model.logits(scored).log_softmax(dim=-1)
        loss: torch.Tensor = -logs.gather(1, self.ids.to(logs.device)[:, None]).mean()
        return loss


def target_rows(
    model: EditableModel, request: EditRequest, contexts: Contexts, layer: int, *, from_last: bool = False
) -> TargetRows:
    """Encode a request in every context and run the model once; nothing may be attached to it.

    `from_last`: rows start at the prompt's last token, before which nothing may then change; otherwise at their first.
    """
    targets = target_ids(model.tokenizer, request)
    encoded = [
        text_ids(model.tokenizer, in_context(context, request.question)) for group in contexts for context in group
    ]
    ids, mask = pad_right([(*prompt, *targets[:-1]) for prompt in encoded], fill=0, device=model.device)
    starts = [len(prompt) - 1 if from_last else 0 for prompt in encoded]
    module = model.network.get_submodule(model.family.site_path(layer))
    seen: list[torch.Tensor] = []

    def note(_: nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> None:
        seen.extend([args[0].detach(), output.detach()])

    handle = module.register_forward_hook(note)
    try:
        tail = record_tail(model, layer, ids, mask, torch.tensor(starts))
    finally:
        handle.remove()
    norm = model.family.output_norm_path(layer)
    places = positions_from(torch.tensor(starts), tail.hidden.shape[1], ids.shape[1])
    opening, ends = len(opening_tokens(model.tokenizer)), torch.tensor([len(prompt) for prompt in encoded])
    return TargetRows(
        model=model,
        inputs=gather_positions(seen[0], places),
        outputs=gather_positions(seen[1], places),
        prompts=((places >= opening) & (places < ends[:, None])).to(seen[0].device),
        targets=targets,
        tail=tail,
        norm=None if norm is None else model.network.get_submodule(norm),
        **_scored(encoded, starts, targets, tail.hidden.device),
    )


def _scored(
    encoded: Sequence[Sequence[int]], starts: Sequence[int], targets: Sequence[int], device: torch.device
) -> dict[str, torch.Tensor]:
    """Return row, position and id of every target token of every row."""
    entries = [
        (row, len(prompt) - 1 - start + place, token)
        for row, (prompt, start) in enumerate(zip(encoded, starts, strict=True))
        for place, token in enumerate(targets)
    ]
    columns = torch.tensor(entries, device=device).T
    return dict(zip(("rows", "positions", "ids"), columns, strict=True))
