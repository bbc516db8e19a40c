"""How far editing moved the routing of a mixture of experts, on a fixed set of prompts.

Symbols: S_0 and S_t the k experts that a layer's router chooses for a prompt's last token, before any edit and now.
"""

from functools import partial

import torch

from evaluators.base import Health, Score, Subject, make_score, unedited
from sphere_core.foundation.errors import InputError
from sphere_core.locate.prompts import pad_right, text_ids
from sphere_core.models import EditableModel
from sphere_core.models.experts import routings

__all__ = ["RoutingSimilarity", "set_similarity"]

# Prompts of one forward.
_ROWS = 64


class RoutingSimilarity:
    """Scores |S_0 & S_t| / |S_0 | S_t|, the mean over prompts, for each layer and over all (MoEEdit, arXiv 2602.10965,
    as its release computes it); the unedited routing is read once for each base model."""

    def __init__(self, prompts: tuple[str, ...]) -> None:
        self._prompts = prompts
        self._known: str | None = None
        self._before = torch.zeros(0)

    def score(self, subject: Subject) -> list[Score]:
        """Return the rows, which belong to no site; the model is lent unedited once and comes back as it was.

        Raises InputError for a model without experts.
        """
        model = subject.model
        if not model.family.mixture:
            raise InputError(
                f"the family '{model.family.name}' has no experts to route to",
                where="evaluator 'geometry', routing_prompts",
                remedy="leave 'routing_prompts' out for this model",
            )
        if self._known != model.base_digest:
            with unedited(model):
                self._before = self._chosen(model)
            self._known = model.base_digest
        similar = set_similarity(self._before, self._chosen(model))
        parts = {f"layer-{layer}": float(value) for layer, value in enumerate(similar.mean(dim=1))}
        health = Health(len(self._prompts), 0, 0)
        return [
            make_score(
                "routing_similarity", protocol, value, None, n=len(self._prompts), health=health, higher_is_better=None
            )
            for protocol, value in {"all-layers": float(similar.mean()), **parts}.items()
        ]

    def _chosen(self, model: EditableModel) -> torch.Tensor:
        """Return the experts `[layers, prompts, k]` that are chosen for each prompt's last token, on the host."""
        path = model.family.down_projection
        modules = [layer.get_submodule(path) for layer in model.layers]
        rows = [text_ids(model.tokenizer, prompt) for prompt in self._prompts]
        parts = []
        for start in range(0, len(rows), _ROWS):
            ids, mask = pad_right(rows[start : start + _ROWS], fill=0, device=model.device)
            last = torch.arange(len(ids), device=mask.device) * ids.shape[1] + mask.sum(dim=1) - 1
            run = partial(model.decoder, input_ids=ids, attention_mask=mask, use_cache=False)
            with torch.no_grad():
                found = routings(modules, run)
            parts.append(torch.stack([routing.of(last).experts.cpu() for routing in found]))
        return torch.cat(parts, dim=1)


def set_similarity(before: torch.Tensor, now: torch.Tensor) -> torch.Tensor:
    """Return |A & B| / |A | B| of sets of k different numbers, `[..., k]`."""
    common = (before[..., :, None] == now[..., None, :]).any(dim=-1).sum(dim=-1)
    return common / (2 * before.shape[-1] - common)
