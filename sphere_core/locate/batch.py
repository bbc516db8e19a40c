"""A batch of requests in all its contexts, encoded once and read at the subject's last token."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from sphere_core.errors import InputError
from sphere_core.locate.prompts import Contexts, SubjectPrompt, encode_prompt, in_context, pad_right
from sphere_core.models.activations import capture_inputs, capture_outputs
from sphere_core.models.editable import EditableModel
from sphere_core.models.sites import Site
from sphere_core.requests import EditRequest

__all__ = ["LocatedBatch", "locate", "read_keys", "read_outputs"]

# Rows x longest row of one forward. Fixed, because the shape of a forward can change its last bits.
_FORWARD_TOKENS = 16384


@dataclass(frozen=True)
class LocatedBatch:
    """Requests with their encoded prompts: request-major, one prompt a context; the first is the bare prompt."""

    requests: tuple[EditRequest, ...]
    contexts: Contexts
    prompts: tuple[SubjectPrompt, ...]

    @property
    def context_count(self) -> int:
        """Number of templates over all groups."""
        return sum(len(group) for group in self.contexts)

    @property
    def bare(self) -> tuple[SubjectPrompt, ...]:
        """The prompts without context, one a request."""
        return self.prompts[:: self.context_count]


def locate(model: EditableModel, requests: Sequence[EditRequest], contexts: Contexts) -> LocatedBatch:
    """Encode every request in every context; raises InputError where the first template is not '{}'."""
    if not contexts or not contexts[0] or contexts[0][0] != "{}":
        raise InputError(
            "the first context template must be '{}', the bare prompt",
            where="contexts",
            remedy='give template groups such as [["{}"], ["The. {}", "I. {}"]]',
        )
    prompts = tuple(
        encode_prompt(model.tokenizer, in_context(context, request.prompt), request.subject)
        for request in requests
        for group in contexts
        for context in group
    )
    return LocatedBatch(tuple(requests), contexts, prompts)


def read_keys(model: EditableModel, site: Site, batch: LocatedBatch) -> torch.Tensor:
    """Return the keys K `[d_in, n]` of a batch at a site, fp32.

    k = mean over template groups of the mean inside the group of the site's input at the subject's last
    token, so that the bare prompt weighs as much as all sampled templates together (MEMIT's released
    code). Means are taken in float64.
    """
    module = model.network.get_submodule(site.module_path)
    inputs = _at_subject(model, batch.prompts, lambda run: capture_inputs({"k": module}, run)["k"])
    per_request = inputs.double().view(len(batch.requests), batch.context_count, -1)
    means, start = [], 0
    for group in batch.contexts:
        means.append(per_request[:, start : start + len(group)].mean(dim=1))
        start += len(group)
    return torch.stack(means).mean(dim=0).T.float().contiguous()


def read_outputs(model: EditableModel, layer: int, batch: LocatedBatch) -> torch.Tensor:
    """Return a layer's output at the subject's last token of the bare prompts, `[d_out, n]` fp32."""
    module = model.layers[layer]
    outputs = _at_subject(model, batch.bare, lambda run: capture_outputs({"h": module}, run)["h"])
    return outputs.float().T.contiguous()


def _at_subject(
    model: EditableModel,
    prompts: Sequence[SubjectPrompt],
    capture: Callable[[Callable[[], object]], torch.Tensor],
) -> torch.Tensor:
    """Run prompts in parts of bounded size and pick the captured activation at each subject's last token."""
    picked: list[torch.Tensor] = []
    longest = max(len(prompt.ids) for prompt in prompts)
    rows = max(1, _FORWARD_TOKENS // longest)
    for start in range(0, len(prompts), rows):
        part = prompts[start : start + rows]
        ids, mask = pad_right([prompt.ids for prompt in part], fill=0, device=model.device)

        def forward(ids: torch.Tensor = ids, mask: torch.Tensor = mask) -> object:
            return model.decoder(input_ids=ids, attention_mask=mask, use_cache=False)

        with torch.no_grad():
            values = capture(forward)
        index = torch.tensor([prompt.subject_last for prompt in part], device=values.device)
        picked.append(values[torch.arange(len(part), device=values.device), index])
    return torch.cat(picked)
