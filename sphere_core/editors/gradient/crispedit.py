"""CrispEdit (arXiv 2602.15823): fine-tuning whose gradients keep only directions of low curvature.

For each site, K-FAC's view of the loss's curvature: A = E[k k^T] `[d, d]` of its inputs, S = E[g g^T] `[o, o]` of the
gradients with respect to its outputs; A = U_i diag(a) U_i^T, S = U_o diag(s) U_o^T. At every step the gradient Q
`[o, d]` becomes

    Q' = U_o ((U_o^T Q U_i) o M) U_i^T,    M_ij = 1 where s_i a_j < c

and Adam sees Q'. c is the smallest of the products that hold the share `energy` of their sum, largest first. A and S
are means over the corpus and over all earlier edits: after a batch, inputs and gradients at the positions that predict
its target tokens are added, on the model as it then is. With S = I this is AlphaEdit's projection of the gradient.

As in the released code (f0ab701, its sequential form): the strict inequality, a token-mean loss, targets with their
space, the weights of corpus and edits by their numbers of tokens. Departs from it: Adam starts again in every batch,
where the release carries its moments on through the new filter; requests are not shuffled; A and S are float64, and so
are their eigenvectors, used in fp32 for the products (the release: fp32, used in the network's dtype); special tokens
count in the corpus; and A counts the last token of a text, which predicts nothing, as second moments do here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from sphere_core.checkpoints import EditorState
from sphere_core.editors.gradient.fine_tuning import FineTuningEditor, GradientFilter
from sphere_core.editors.gradient.tracing import traced
from sphere_core.locate.templates import Contexts
from sphere_core.models.editable import EditableModel
from sphere_core.models.sites import Site
from sphere_core.numerics.linalg import symmetric_eigen
from sphere_core.numerics.placement import Resident, all_finite
from sphere_core.numerics.tensor_file import SYMMETRIC
from sphere_core.requests import EditRequest

__all__ = ["CrispEditEditor", "Curvature", "LowCurvature", "curvature_cut"]

_INPUTS, _OUTPUTS = f"inputs{SYMMETRIC}", f"outputs{SYMMETRIC}"


@dataclass(frozen=True)
class Curvature:
    """A `[d, d]` and S `[o, o]` of the corpus, float64, and the number of tokens that they are means over."""

    inputs: Resident[torch.Tensor]
    outputs: Resident[torch.Tensor]
    count: int


@dataclass(frozen=True)
class LowCurvature:
    """U_i `[d, d]`, U_o `[o, o]` and M `[o, d]`, fp32."""

    inputs: torch.Tensor
    outputs: torch.Tensor
    mask: torch.Tensor

    @classmethod
    def of(cls, inputs: torch.Tensor, outputs: torch.Tensor, energy: float) -> "LowCurvature":
        """Return the filter of A, S and the share of the curvature's sum that is protected; float64 decompositions."""
        a, u_in = symmetric_eigen(inputs)
        s, u_out = symmetric_eigen(outputs)
        # What rounding leaves below zero holds no energy.
        products = torch.outer(s.clamp_min(0), a.clamp_min(0))
        return cls(u_in.float(), u_out.float(), (products < curvature_cut(products, energy)).float())

    def apply(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return Q' of Q `[o, d]`, fp32."""
        turned = self.outputs.T @ gradient @ self.inputs
        return self.outputs @ (turned * self.mask) @ self.inputs.T


def curvature_cut(products: torch.Tensor, energy: float) -> torch.Tensor:
    """Return c: the smallest of the largest products whose share of the whole sum reaches `energy`."""
    ordered = products.flatten().sort(descending=True).values
    shares = ordered.cumsum(0) / ordered.sum()
    place = int((shares < energy * (1 - 1e-12)).sum())
    return ordered[min(place, len(ordered) - 1)]


@dataclass(frozen=True)
class CrispEditEditor:
    """State per site: sums of k k^T and g g^T over earlier edits `[d, d]`, `[o, o]`, float64, and their tokens.

    `history_weight` weighs the edits against the corpus; with 0 nothing is kept, and the filter stays that of the
    corpus.
    """

    tuning: FineTuningEditor
    curvature: Mapping[int, Curvature]
    energy: float
    history_weight: float
    _corpus: dict[int, LowCurvature] = field(default_factory=dict, init=False)

    def edit(
        self, model: EditableModel, requests: Sequence[EditRequest], contexts: Contexts, state: EditorState
    ) -> EditorState:
        """Train on one batch through the filter and add its curvature to the state."""
        sites = model.open_sites(self.tuning.settings.places)
        with model.clock.stage("solve"):
            filters = {site.label: self._filter(site, state, model.weight(site).device) for site in sites}
        state = self.tuning.tuned(model, requests, state, _applying(filters))
        if not self.history_weight:
            return state
        with model.clock.stage("history"):
            return self._remembered(model, sites, requests, state)

    def read_out(self, model: EditableModel) -> dict[str, torch.Tensor] | None:
        """Return None: what is scored is what was edited."""
        return None

    def _filter(self, site: Site, state: EditorState, device: torch.device) -> LowCurvature:
        corpus, part = self.curvature[site.layer], state.part(f"curvature/{site.label}")
        inputs, outputs = corpus.inputs.at(device), corpus.outputs.at(device)
        if not part.tensors:
            if site.layer not in self._corpus:
                self._corpus[site.layer] = LowCurvature.of(inputs, outputs, self.energy)
            return self._corpus[site.layer]
        tokens = self.history_weight * float(part.scalars["tokens"])
        total = corpus.count + tokens
        added_in, added_out = (self.history_weight * part.tensors[name].to(inputs) for name in (_INPUTS, _OUTPUTS))
        return LowCurvature.of(
            (corpus.count * inputs + added_in) / total, (corpus.count * outputs + added_out) / total, self.energy
        )

    def _remembered(
        self, model: EditableModel, sites: Sequence[Site], requests: Sequence[EditRequest], state: EditorState
    ) -> EditorState:
        for site, rows in self._traces(model, sites, requests).items():
            # A collapsed model is a result; its state is not used again.
            if not all_finite(rows):
                continue
            owner = f"curvature/{site.label}"
            part = state.part(owner)
            inputs, outputs = rows[:, : site.d_in], rows[:, site.d_in :]
            tensors = {_INPUTS: _gram(inputs), _OUTPUTS: _gram(outputs)}
            sums = {
                name: added + part.tensors[name].to(added) if part.tensors else added for name, added in tensors.items()
            }
            tokens = int(part.scalars.get("tokens", 0)) + len(rows)
            state = state.with_part(owner, EditorState(sums, {"tokens": tokens}))
        return state

    def _traces(
        self, model: EditableModel, sites: Sequence[Site], requests: Sequence[EditRequest]
    ) -> dict[Site, torch.Tensor]:
        size = self.tuning.settings.batch_size
        parts = [traced(model, sites, requests[at : at + size], "sum") for at in range(0, len(requests), size)]
        return {site: torch.cat([part[site] for part in parts]) for site in sites}


def _applying(filters: Mapping[str, LowCurvature]) -> GradientFilter:
    return lambda site, gradient: filters[site.label].apply(gradient)


def _gram(rows: torch.Tensor) -> torch.Tensor:
    """Return X^T X of rows X, symmetric to the last bit: files hold one triangle."""
    product = rows.T @ rows
    return (product + product.T) / 2
