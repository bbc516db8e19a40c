"""GRACE (arXiv 2211.11031): a codebook of keys with a radius each; near a key the site gives that key's value instead.

At one site with W `[o, d]`: keys k_i `[d]`, values v_i `[o]`, radii e_i and labels. With q `[d]` the site's input at
the last token of a prompt, and j the key nearest to it,

    y = v_j   if |q - k_j| <= e_j,   else y = W q          (at that token only)

An edit with query q and label t, j the nearest key at distance D:

    D > e_j + e_0            a new key q, radius e_0
    else, another label      a new key q, radius D / 2; e_j becomes D / 2 - 1e-5
    else, the same label     e_j becomes max(e_j, D)

and then v of the key that answers q is found by Adam on the NLL of the target, in the bare prompt, from a random start
(`cold`) or from W q (`warm`). Labels are the target's tokens. What q is never depends on the codebook, so that only the
layers behind the site are run at each step.

Departures from EasyEdit's code (14cea82), which the papers' tables use: the query is the last token of the prompt that
is read, where that code keeps the place of the last edit, so that other prompts are looked up elsewhere; labels are
compared token by token, not by the mean of their ids; distances are computed without a matrix product, whose rounding
exceeds a halved radius; an edit whose key is there already (D = 0) takes its place, where halving would switch both
off. As there, an edit of the same label that widens a key trains its value further.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from sphere_core.checkpoints import EditorState
from sphere_core.editors.memory.facts import fact_names, rows_left
from sphere_core.editors.memory.routing import NO_ENTRY, PromptRouted
from sphere_core.editors.memory.target_rows import TargetRows, target_rows
from sphere_core.locate.templates import Contexts
from sphere_core.models.attachments import Attachment, stable_number
from sphere_core.models.editable import EditableModel
from sphere_core.requests import EditRequest

__all__ = ["KIND", "Grace", "GraceEditor", "GraceSettings"]

KIND = "grace"
_BARE: Contexts = (("{}",),)
# By how much less than half the distance the earlier of two keys reaches (the release).
_GAP = 1e-5
# Columns of the codebook.
_KEYS, _VALUES, _RADII, _LABELS = "keys", "values", "radii", "labels"


@dataclass(frozen=True)
class GraceSettings:
    """Layer of the site, e_0, Adam's rate and steps, how values start, and the seed of random starts."""

    layer: int
    radius: float
    lr: float
    steps: int
    start: Literal["cold", "warm"]
    seed: int


class Grace(PromptRouted):
    """The codebook at work; distances are fp32 whatever the model's dtype."""

    def __init__(self, model: EditableModel, attachment: Attachment) -> None:
        super().__init__(model, attachment)
        tensors = {name: tensor.to(self.device) for name, tensor in attachment.tensors.items()}
        self._keys, self._values, self._radii = (tensors[name] for name in (_KEYS, _VALUES, _RADII))

    def choose(self, inputs: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
        """Return the key nearest to each prompt's last token, where it reaches that far."""
        places = torch.arange(prompts.shape[1], device=prompts.device)
        last = (places * prompts).amax(dim=1)
        queries = inputs[torch.arange(len(inputs), device=last.device), last].float()
        distance, nearest = _nearest(queries, self._keys)
        return torch.where((distance <= self._radii[nearest]) & prompts.any(dim=1), nearest, NO_ENTRY)

    def answer(
        self, inputs: torch.Tensor, output: torch.Tensor, entries: torch.Tensor, last: torch.Tensor | None
    ) -> torch.Tensor:
        """Return the output with the key's value at the prompt's last token."""
        if last is None:
            return output
        changed = output.clone()
        changed[torch.arange(len(last), device=last.device), last] = self._values[entries].to(output.dtype)
        return changed


@dataclass(frozen=True)
class GraceEditor:
    """Writes requests one by one into the codebook; contexts are not used.

    A key that an edit of another prompt has widened stays that of the request that made it.
    """

    settings: GraceSettings

    def edit(
        self, model: EditableModel, requests: Sequence[EditRequest], contexts: Contexts, state: EditorState
    ) -> EditorState:
        """Write a batch, a request at a time."""
        before = model.attachment
        codebook: Mapping[str, torch.Tensor] = {} if before is None else before.tensors
        with model.detached(), model.clock.stage("memory"):
            for done, request in enumerate(requests, 1):
                rows = target_rows(model, request, _BARE, self.settings.layer, from_last=True)
                codebook = self._written(codebook, rows, request)
                model.progress.report("memory", done, len(requests), "requests")
        model.attach(Attachment(KIND, codebook, {"layer": self.settings.layer}))
        return state

    def read_out(self, model: EditableModel) -> dict[str, torch.Tensor] | None:
        """Return None: what is installed is scored."""
        return None

    def _written(
        self, codebook: Mapping[str, torch.Tensor], rows: TargetRows, request: EditRequest
    ) -> dict[str, torch.Tensor]:
        """Return the codebook after one edit."""
        query, settings = rows.inputs[:1, 0].float(), self.settings
        label = torch.tensor([stable_number(",".join(map(str, rows.targets)))], device=query.device)
        own = {
            _KEYS: query,
            _VALUES: self._start(rows, request)[None],
            _RADII: query.new_full((1,), settings.radius),
            _LABELS: label,
            **fact_names([request], query.device),
        }
        known = {name: tensor.to(query.device) for name, tensor in codebook.items()}
        left = rows_left(known, [request]) if known else known
        place, whole = _placed(left, own)
        value = self._trained(rows, whole[_VALUES][place])
        return {**whole, _VALUES: whole[_VALUES].index_copy(0, torch.tensor([place], device=value.device), value[None])}

    def _start(self, rows: TargetRows, request: EditRequest) -> torch.Tensor:
        given = rows.outputs[0, 0].float()
        if self.settings.start == "warm":
            return given
        generator = torch.Generator().manual_seed(stable_number(f"{self.settings.seed}:{request.case_id}"))
        return torch.rand(given.shape, generator=generator).to(given.device)

    def _trained(self, rows: TargetRows, start: torch.Tensor) -> torch.Tensor:
        """Return the value `[o]` that Adam finds from `start` on."""
        given = rows.outputs.float()
        value = start.clone().requires_grad_(True)
        optimizer = torch.optim.Adam([value], lr=self.settings.lr, foreach=False)
        for _ in range(self.settings.steps):
            change = torch.cat([(value - given[0, 0])[None, None], torch.zeros_like(given[:, 1:])], dim=1)
            (value.grad,) = torch.autograd.grad(rows.loss(change), value)
            optimizer.step()
        return value.detach()


def _placed(
    codebook: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]
) -> tuple[int, dict[str, torch.Tensor]]:
    """Return the place of the key that answers a new edit, and the codebook with its radii as they are then.

    `own` is the row that the edit would have by itself; an empty codebook has no tensors, or no rows.
    """
    if not codebook or len(codebook[_KEYS]) == 0:
        return 0, dict(own)
    distance, nearest = _nearest(own[_KEYS], codebook[_KEYS])
    place, gap = int(nearest), float(distance)
    radii = codebook[_RADII].clone()
    radius = float(radii[place])
    added = dict(own)
    if gap <= radius + float(own[_RADII]):
        if bool(codebook[_LABELS][place] == own[_LABELS][0]):
            radii[place] = max(radius, gap)
            return place, {**codebook, _RADII: radii}
        if gap == 0:
            where = torch.tensor([place], device=radii.device)
            return place, {name: codebook[name].index_copy(0, where, own[name]) for name in own}
        radii[place] = gap / 2 - _GAP
        added[_RADII] = torch.full_like(own[_RADII], gap / 2)
    whole = {name: torch.cat([tensor, added[name]]) for name, tensor in {**codebook, _RADII: radii}.items()}
    return len(radii), whole


def _nearest(queries: torch.Tensor, keys: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each query's distance to its nearest key, and which key it is, `[m]`."""
    distances = torch.cdist(queries, keys, compute_mode="donot_use_mm_for_euclid_dist")
    return distances.min(dim=1)
