"""NeuralDB (arXiv 2507.18028): every edit is a key and a residual in a table, and no weight changes.

At one site with weight W `[o, d]`, a table of keys k_i `[d]` and residuals r_i `[o]`. For every token with the site's
input k

    y = W k + r_j   if cos(k, k_j) > gamma,   else y = W k,        j = argmax_i cos(k, k_i)

k_i is the input at the subject's last token of the bare prompt, so that the prompt itself is always found; r_i is what
MEMIT's target asks the site's output to gain there, pulled through the norm behind the site where there is one. Both
are of the unedited model: a stream gives the same table in any order and in any batches. What the model answers depends
on single tokens, never on where a prompt ends. No public code exists: the paper's gamma and layer are not known.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from sphere_core.checkpoints import EditorState
from sphere_core.editors.memory.facts import with_facts
from sphere_core.locate.batch import BatchWalk, locate
from sphere_core.locate.targets import TargetSettings, optimise_targets
from sphere_core.locate.templates import Contexts
from sphere_core.models.attachments import Attachment
from sphere_core.models.editable import EditableModel
from sphere_core.requests import EditRequest

__all__ = ["KIND", "NeuralDB", "NeuralDBEditor"]

KIND = "neuraldb"
# Keys that are compared with a batch's tokens at once: bounds the table of cosines.
_KEYS_AT_ONCE = 8192


class NeuralDB:
    """The table at work: a hook on the site. Cosines and the sum W k + r are fp32 whatever the model's dtype."""

    routes_by_prompt = False
    reads_prompts = False

    def __init__(self, model: EditableModel, attachment: Attachment) -> None:
        path = model.family.site_path(int(attachment.number("layer")))
        self._model = model
        self._module: nn.Module = model.network.get_submodule(path)
        self._threshold = attachment.number("threshold")
        device = next(self._module.parameters()).device
        self._units = _unit(attachment.tensors["keys"].to(device))
        self._residuals = attachment.tensors["residuals"].to(device)

    def install(self) -> Sequence[RemovableHandle]:
        """Hook the site's module."""
        return [self._module.register_forward_hook(self._answer)]

    def rewritten(self, ids: tuple[int, ...], prompt_end: int) -> tuple[int, ...]:
        """Return the row itself."""
        return ids

    def _answer(self, module: nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
        cosine, nearest = self._nearest(args[0])
        found = cosine > self._threshold
        reading = self._model.row_reading
        if reading is not None and reading.routed is None:
            reading.routed = found
        if not bool(found.any()):
            return output
        changed = output.clone()
        changed[found] = (output[found].float() + self._residuals[nearest[found]]).to(output.dtype)
        return changed

    def _nearest(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the largest cosine of each token with a key, and which key it is, `[m, T]`; of equals the first."""
        tokens = _unit(inputs.float())
        best = torch.full(tokens.shape[:-1], -2.0, device=tokens.device)
        nearest = torch.zeros(tokens.shape[:-1], dtype=torch.long, device=tokens.device)
        for start in range(0, len(self._units), _KEYS_AT_ONCE):
            cosine, place = (tokens @ self._units[start : start + _KEYS_AT_ONCE].T).max(dim=-1)
            better = cosine > best
            best, nearest = torch.where(better, cosine, best), torch.where(better, place + start, nearest)
        # Rounding may put a cosine above one, and a threshold of one must find nothing.
        return best.clamp(max=1.0), nearest


@dataclass(frozen=True)
class NeuralDBEditor:
    """Adds requests to the table; one that supersedes another, or asks the same prompt, takes its place."""

    settings: TargetSettings
    layer: int
    threshold: float

    def edit(
        self, model: EditableModel, requests: Sequence[EditRequest], contexts: Contexts, state: EditorState
    ) -> EditorState:
        """Add a batch: one target optimisation on the unedited model, and no solve."""
        before = model.attachment
        with model.detached():
            (site,) = model.open_sites([self.layer])
            batch = locate(model, requests, contexts)
            deltas = optimise_targets(model, batch, self.settings).deltas
            walk = BatchWalk(model, batch, [site])
            keys, residuals = walk.bare_inputs(site), walk.site_residuals(site, deltas)
        # All of it stays where the site is.
        added = {"keys": keys.T, "residuals": residuals.float().T}
        tensors = with_facts(before, added, requests)
        model.attach(Attachment(KIND, tensors, {"layer": self.layer, "threshold": self.threshold}))
        return state

    def read_out(self, model: EditableModel) -> dict[str, torch.Tensor] | None:
        """Return None: what is installed is scored."""
        return None


def _unit(rows: torch.Tensor) -> torch.Tensor:
    norms: torch.Tensor = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    return rows / norms.clamp_min(torch.finfo(rows.dtype).tiny)
