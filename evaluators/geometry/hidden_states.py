"""What editing did to the hidden states of a fixed set of prompts: their shift, and R_k along their principal
directions.

Symbols: n prompts, H_0 and H_t `[n, h]` the output of the last edited layer at each prompt's last token, before any
edit and now; m_0 the mean row of H_0; s_k, v_k singular values and right singular vectors of H_0 - m_0.
"""

import torch

from evaluators.base import Health, Score, Subject, make_score, unedited
from sphere_core.locate.prompts import pad_right, text_ids
from sphere_core.models import EditableModel
from sphere_core.models.layer_walk import start_walk
from sphere_core.numerics.placement import all_finite

__all__ = ["HiddenStates", "shift_figures"]

# Prompts of one forward.
_ROWS = 64
# Directions below this share of the largest singular value are rounding of the states.
_FLOOR = 1e-6
_NAMES = ("hidden_shift", "hidden_cosine", "hidden_mean_shift", "hidden_r_median", "hidden_r_max")


class HiddenStates:
    """Scores the shift of hidden states; the unedited ones are computed once for each base model and layer."""

    def __init__(self, prompts: tuple[str, ...]) -> None:
        self._prompts = prompts
        self._known: tuple[str, int] | None = None
        self._before = torch.zeros(0)

    def score(self, subject: Subject) -> list[Score]:
        """Return the rows, which belong to no site; the model is lent unedited once and comes back as it was."""
        model, layer = subject.model, max(site.layer for site in subject.model.sites)
        if self._known != (model.base_digest, layer):
            with unedited(model):
                self._before = self._states(model, layer)
            self._known = (model.base_digest, layer)
        now = self._states(model, layer)
        broken = int((~torch.isfinite(now)).any(dim=1).sum())
        health = Health(len(now), broken, 0)
        figures = shift_figures(self._before, now)
        return [
            make_score(name, f"layer-{layer}", value, None, n=len(now), health=health, higher_is_better=None)
            for name, value in zip(_NAMES, figures, strict=True)
        ]

    def _states(self, model: EditableModel, layer: int) -> torch.Tensor:
        """Return the states `[n, h]`, float64, on the host."""
        rows = [text_ids(model.tokenizer, prompt) for prompt in self._prompts]
        parts = []
        for start in range(0, len(rows), _ROWS):
            chunk = rows[start : start + _ROWS]
            ids, mask = pad_right(chunk, fill=0, device=model.device)
            with model.reading(ends=mask.sum(dim=1)):
                walk = start_walk(model, [(ids, mask)], layer, layer)
                parts.append(walk.outputs(torch.arange(len(chunk))).double().cpu())
        return torch.cat(parts)


def shift_figures(before: torch.Tensor, now: torch.Tensor) -> tuple[float, float, float, float, float]:
    """Return five figures of H_0 and H_t; nan where they are not finite.

    Mean over prompts of |h_t - h_0| / |h_0|; mean of cos(h_t, h_0); sqrt(n) |mean(h_t - h_0)| / |H_0 - m_0|_F, the
    shift of the centre in units of the spread (AlphaEdit, arXiv 2410.02355, shows it as a picture in its Figs. 5 and
    9); median and largest over k of R_k = sqrt(n) |c_k| / s_k, c_k = v_k . mean(h_t - h_0) (arXiv 2606.00570, known at
    second hand).
    """
    nothing = float("nan")
    if not (all_finite(before) and all_finite(now)):
        return nothing, nothing, nothing, nothing, nothing
    change = now - before
    sizes = torch.linalg.vector_norm(before, dim=1)
    relative = (torch.linalg.vector_norm(change, dim=1) / sizes).mean()
    cosine = torch.nn.functional.cosine_similarity(now, before, dim=1).mean()
    centred = before - before.mean(dim=0)
    _, values, directions = torch.linalg.svd(centred, full_matrices=False)
    kept = values > _FLOOR * values[0]
    scale = len(before) ** 0.5
    mean = change.mean(dim=0)
    ratios = scale * (directions[kept] @ mean).abs() / values[kept]
    centre = scale * torch.linalg.vector_norm(mean) / torch.linalg.vector_norm(centred)
    if not len(ratios):
        return float(relative), float(cosine), nothing, nothing, nothing
    return float(relative), float(cosine), float(centre), float(ratios.median()), float(ratios.max())
