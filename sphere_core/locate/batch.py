"""A batch of requests in all its contexts, encoded once and read at the subject's last token."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from sphere_core.foundation.errors import InputError
from sphere_core.locate.prompts import SubjectPrompt, encode_prompt, in_context, pad_right
from sphere_core.locate.templates import Contexts
from sphere_core.models.editable import EditableModel
from sphere_core.models.layer_walk import Walk, start_walk
from sphere_core.models.sites import Site
from sphere_core.requests import EditRequest

__all__ = ["BatchWalk", "LocatedBatch", "locate"]

# Rows x longest row of one forward. Fixed, because the shape of a forward can change its last bits.
_FORWARD_TOKENS = 16384


@dataclass(frozen=True)
class LocatedBatch:
    """Requests with their encoded prompts: request-major, one prompt per context; the first is the bare prompt."""

    requests: tuple[EditRequest, ...]
    contexts: Contexts
    prompts: tuple[SubjectPrompt, ...]

    @property
    def context_count(self) -> int:
        """Number of templates over all groups."""
        return sum(len(group) for group in self.contexts)

    @property
    def bare(self) -> tuple[SubjectPrompt, ...]:
        """The prompts without context, one per request."""
        return self.prompts[:: self.context_count]

    def some(self, indices: Sequence[int]) -> "LocatedBatch":
        """Return the batch of some of the requests."""
        count = self.context_count
        prompts = tuple(prompt for index in indices for prompt in self.prompts[index * count : (index + 1) * count])
        return LocatedBatch(tuple(self.requests[index] for index in indices), self.contexts, prompts)


def locate(model: EditableModel, requests: Sequence[EditRequest], contexts: Contexts) -> LocatedBatch:
    """Encode every request in every context; raises InputError if the first template is not '{}'."""
    if not contexts or not contexts[0] or contexts[0][0] != "{}":
        raise InputError(
            "the first context template must be '{}', the bare prompt",
            where="contexts",
            remedy='give template groups such as [["{}"], ["The. {}", "I. {}"]]',
        )
    with model.clock.stage("encode"):
        prompts = tuple(
            encode_prompt(model.tokenizer, in_context(context, request.prompt), request.subject)
            for request in requests
            for group in contexts
            for context in group
        )
    return LocatedBatch(tuple(requests), contexts, prompts)


class BatchWalk:
    """A batch on its way through the edited layers: keys of each site in turn, and residual inputs, by one forward.

    Sites are visited in ascending order; a site's weight may be written after its keys are read, and what is read
    later sees it. Prompts are cut after the subject's last token, on which neither keys nor outputs depend.
    """

    def __init__(self, model: EditableModel, batch: LocatedBatch, sites: Sequence[Site]) -> None:
        self._model = model
        self._batch = batch
        rows = [prompt.ids[: prompt.subject_last + 1] for prompt in batch.prompts]
        per_forward = max(1, _FORWARD_TOKENS // max(len(row) for row in rows))
        layers = [site.layer for site in sites]
        with self._timed():
            parts = [
                pad_right(rows[start : start + per_forward], fill=0, device=model.device)
                for start in range(0, len(rows), per_forward)
            ]
            self._walk: Walk = start_walk(model, parts, min(layers), max(layers))

    def keys(self, site: Site) -> torch.Tensor:
        """Return the keys K `[d_in, n]` of the batch at a site, fp32.

        k = mean over template groups of the mean inside the group of the site's input at the subject's last
        token, so that the bare prompt weighs as much as all sampled templates together (MEMIT's released
        code). Means are taken in float64.
        """
        batch = self._batch
        with self._timed():
            inputs = self._walk.inputs(site).double()
            per_request = inputs.view(len(batch.requests), batch.context_count, -1)
            means, start = [], 0
            for group in batch.contexts:
                means.append(per_request[:, start : start + len(group)].mean(dim=1))
                start += len(group)
            return torch.stack(means).mean(dim=0).T.float().contiguous()

    def site_outputs(self, site: Site) -> torch.Tensor:
        """Return the site's own output (bias included) at the subject's last token of the bare prompts, `[o, n]`
        fp32."""
        with self._timed(), torch.no_grad():
            return self._walk.site_outputs(site, self._bare).float().T.contiguous()

    def contributions(self, site: Site) -> torch.Tensor:
        """Return what the site adds to the residual stream there, `[o, n]` fp32: its output, or the
        output of the norm behind it."""
        outputs, norm = self.site_outputs(site), self._model.output_norm(site)
        return outputs if norm is None else norm.apply(outputs).float()

    def site_residuals(self, site: Site, change: torch.Tensor) -> torch.Tensor:
        """Return R `[o, n]`: what the site's own output must gain so that the layer's output gains `change` `[o, n]`.

        They are the same if the site adds to the residual stream directly; see `OutputNorm` for a norm in between.
        """
        norm = self._model.output_norm(site)
        if norm is None:
            return change
        return norm.residuals(self.site_outputs(site), change).to(change)

    def mean_inputs(self, site: Site) -> torch.Tensor:
        """Return the site's input averaged over all templates alike, `[d_in, n]` fp32: the key of ROME."""
        with self._timed():
            inputs = self._walk.inputs(site).double().view(len(self._batch.requests), self._batch.context_count, -1)
            return inputs.mean(dim=1).T.float().contiguous()

    def bare_inputs(self, site: Site) -> torch.Tensor:
        """Return the site's input at the subject's last token of the bare prompts, `[d_in, n]` fp32."""
        with self._timed():
            return self._walk.inputs(site)[:: self._batch.context_count].float().T.contiguous()

    def outputs(self, site: Site | None = None) -> torch.Tensor:
        """Return the output of a site's layer (None: the last edited one) at the subject's last token of the bare
        prompts, `[h, n]` fp32."""
        with self._timed():
            return self._walk.outputs(self._bare, None if site is None else site.layer).float().T.contiguous()

    def replayed(self, values: torch.Tensor) -> dict[int, torch.Tensor]:
        """Return every layer's output `[h, n]` fp32 at the subject's last token of the bare prompts, when the first
        edited layer's output there is `values` `[h, n]`. Call it before a key is read."""
        with self._timed():
            return {
                layer: outputs.float().T.contiguous()
                for layer, outputs in self._walk.replayed(self._bare, values.T.contiguous()).items()
            }

    @property
    def _bare(self) -> torch.Tensor:
        return torch.arange(0, len(self._batch.prompts), self._batch.context_count)

    def _timed(self) -> AbstractContextManager[None]:
        return self._model.clock.stage("keys")
