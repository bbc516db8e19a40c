"""EBLoRA (arXiv 2602.00722): low-rank changes with equal singular values, orthogonal to the gradients of earlier tasks.

A batch of edits is a task. Per site, with F `[d, p]` the memory of earlier tasks' gradients on the input side,

    dW = c s U V^T,    U^T U = V^T V = I_r,    F^T V = 0

so that all r singular values are |c s|. Start: G `[o, d]` the mean gradient of the batch's loss; U and V its first r
left and right singular vectors after (I - F F^T) on the input side, s a small negative number: against the gradient.
Each step takes g = dL/dx for x = U and V, removes the memory's part of V's, replaces g by g - x (g^T x), and passes it
through Adam; the step of x is divided by sqrt(r / w), replaced in the same way, and x becomes the polar factor of their
sum. s follows AdamW; weight decay of U and V would be undone by the projection. The rate rises linearly over 3 % of the
steps and falls as a cosine. After the task the left singular vectors of (I - F F^T) G^T join F, largest first, until F
spans the share `memory_share` of |G|^2.

From the released code (5585607), which adapts a vision-language model to tasks of thousands of examples. Departs from
it: G is that of the whole batch, at its start, for the first vectors and for the memory (the release: of a fifth of
the data, by a randomised decomposition); r is at most the rank of what the memory leaves of G; targets are teacher-
forced answers; only the edited sites have a change (the release: all seven projections of every layer).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sphere_core.checkpoints import EditorState
from sphere_core.editors.gradient.fine_tuning import weight_gradients
from sphere_core.editors.shaping import Shaping
from sphere_core.hyperparameters.places import Place
from sphere_core.locate.templates import Contexts
from sphere_core.models.editable import EditableModel
from sphere_core.models.site_write import SiteWrite
from sphere_core.models.sites import Site
from sphere_core.numerics.linalg import LowRankUpdate
from sphere_core.numerics.placement import all_finite
from sphere_core.requests import EditRequest

__all__ = ["BalancedFactors", "EbloraEditor", "EbloraSettings", "extended_memory", "first_factors", "rate_at"]

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8
_WARM_UP = 0.03


@dataclass(frozen=True)
class EbloraSettings:
    """Rate and decay of AdamW, epochs, requests a step, r, c, the first s, the share that the memory spans, and w."""

    places: tuple[Place, ...]
    lr: float
    weight_decay: float
    epochs: int
    batch_size: int
    rank: int
    scale: float
    start: float
    memory_share: float
    width: float


@dataclass(frozen=True)
class BalancedFactors:
    """U `[o, r]`, V `[d, r]` and s, float64."""

    left: torch.Tensor
    right: torch.Tensor
    size: torch.Tensor

    def update(self, scale: float) -> LowRankUpdate:
        """Return c s U V^T."""
        return LowRankUpdate(scale * self.size * self.left, self.right)


@dataclass
class _Adam:
    """First and second moments of one variable."""

    first: torch.Tensor
    second: torch.Tensor
    count: int = 0

    @classmethod
    def like(cls, variable: torch.Tensor) -> "_Adam":
        return cls(torch.zeros_like(variable), torch.zeros_like(variable))

    def step(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return the step for a rate of 1, to be subtracted."""
        self.count += 1
        self.first = _BETA1 * self.first + (1 - _BETA1) * gradient
        self.second = _BETA2 * self.second + (1 - _BETA2) * gradient.square()
        first, second = self.first / (1 - _BETA1**self.count), self.second / (1 - _BETA2**self.count)
        return first / (second.sqrt() + _EPSILON)


@dataclass(frozen=True)
class EbloraEditor:
    """State per site: the memory F `[d, p]`, float64; p is at most d, and a full memory leaves nothing to write."""

    settings: EbloraSettings
    shaping: Shaping

    def edit(
        self, model: EditableModel, requests: Sequence[EditRequest], contexts: Contexts, state: EditorState
    ) -> EditorState:
        """Train on one batch of requests, merge, and extend the memory; the regularizers see the batch's change."""
        sites = model.open_sites(self.settings.places)
        before = {site.label: model.weight(site) for site in sites}
        with model.clock.stage("gradients"):
            slopes = dict(zip(sites, self._mean_gradients(model, sites, requests), strict=True))
        memories = {site: state.part(f"memory/{site.label}").tensors.get("basis") for site in sites}
        with model.clock.stage("solve"):
            factors = {
                site: first_factors(slopes[site], memories[site], self.settings.rank, self.settings.start)
                for site in sites
            }
        with model.clock.stage("gradients"):
            factors = self._trained(model, factors, memories, requests, before)
        for site in sites:
            nothing = before[site.label].new_zeros(site.d_in, 0), before[site.label].new_zeros(site.d_out, 0)
            write = SiteWrite(site, *nothing, before[site.label], model.base_weight(site))
            model.set_weight(site, before[site.label])
            with model.clock.stage("regularizer"):
                shaped = self.shaping.apply(factors[site].update(self.settings.scale), write, state)
            model.add(site, shaped)
            with model.clock.stage("history"):
                basis = extended_memory(slopes[site], memories[site], self.settings.memory_share)
            if basis is not None:
                state = state.with_part(f"memory/{site.label}", EditorState({"basis": basis}))
            state = self.shaping.remember(write, state)
        return state

    def read_out(self, model: EditableModel) -> dict[str, torch.Tensor] | None:
        """Return None: what is scored is what was edited."""
        return None

    def _chunks(self, requests: Sequence[EditRequest]) -> list[Sequence[EditRequest]]:
        size = self.settings.batch_size
        return [requests[begin : begin + size] for begin in range(0, len(requests), size)]

    def _mean_gradients(
        self, model: EditableModel, sites: Sequence[Site], requests: Sequence[EditRequest]
    ) -> list[torch.Tensor]:
        """Return G of each site, float64: the gradient of the mean over requests of their mean NLL."""
        totals = [torch.zeros_like(model.weight(site), dtype=torch.float64) for site in sites]
        for chunk in self._chunks(requests):
            _, slopes = weight_gradients(model, sites, chunk, "requests")
            for total, slope in zip(totals, slopes, strict=True):
                total += slope.double() * (len(chunk) / len(requests))
        return totals

    def _trained(
        self,
        model: EditableModel,
        factors: dict[Site, BalancedFactors],
        memories: dict[Site, torch.Tensor | None],
        requests: Sequence[EditRequest],
        before: dict[str, torch.Tensor],
    ) -> dict[Site, BalancedFactors]:
        settings, sites, chunks = self.settings, list(factors), self._chunks(requests)
        adams = {site: tuple(map(_Adam.like, (f.left, f.right, f.size))) for site, f in factors.items()}
        total = settings.epochs * len(chunks)
        for step in range(total):
            for site in sites:
                change = factors[site].update(settings.scale).dense()
                model.set_weight(site, before[site.label] + change.to(before[site.label]))
            _, slopes = weight_gradients(model, sites, chunks[step % len(chunks)], "requests")
            model.progress.report("training", step + 1, total, "steps")
            rate = settings.lr * rate_at(step, total)
            for site, slope in zip(sites, slopes, strict=True):
                factors[site] = self._moved(factors[site], slope.double(), memories[site], adams[site], rate)
        return factors

    def _moved(
        self,
        factors: BalancedFactors,
        slope: torch.Tensor,
        memory: torch.Tensor | None,
        adams: tuple[_Adam, ...],
        rate: float,
    ) -> BalancedFactors:
        """Return the factors after one step, given the gradient Q `[o, d]` of the loss with respect to the weight."""
        left, right, size, scale = factors.left, factors.right, factors.size, self.settings.scale
        if not all_finite(slope):
            nan = torch.full_like(size, torch.nan)
            return BalancedFactors(left, right, nan)
        shrink = math.sqrt(left.shape[1] / self.settings.width) if left.shape[1] else 1.0
        u_slope = _projected(left, scale * size * (slope @ right))
        v_slope = _projected(right, _without(memory, scale * size * (slope.T @ left)))
        s_slope = scale * ((slope @ right) * left).sum()
        u_step = _projected(left, -rate / shrink * adams[0].step(u_slope))
        v_step = _projected(right, _without(memory, -rate / shrink * adams[1].step(v_slope)))
        decayed = size * (1 - rate * self.settings.weight_decay)
        return BalancedFactors(
            _polar(left + u_step),
            _polar(_without(memory, right + v_step)),
            decayed - rate * adams[2].step(s_slope),
        )


def first_factors(slope: torch.Tensor, memory: torch.Tensor | None, rank: int, start: float) -> BalancedFactors:
    """Return the factors that training begins with, from G `[o, d]` float64 and F `[d, p]`.

    Where fewer than `rank` directions of G are left outside F there are that many. Nan if G is not finite.
    """
    size = slope.new_tensor(start)
    if not all_finite(slope):
        return BalancedFactors(slope[:, :1] * torch.nan, slope[:1].T * torch.nan, size * torch.nan)
    right, values, left = torch.linalg.svd(_without(memory, slope.T), full_matrices=False)
    floor = max(slope.shape) * torch.finfo(torch.float64).eps * float(torch.linalg.vector_norm(slope))
    count = min(rank, int((values > floor).sum()))
    return BalancedFactors(left[:count].T.contiguous(), right[:, :count].contiguous(), size)


def extended_memory(slope: torch.Tensor, memory: torch.Tensor | None, share: float) -> torch.Tensor | None:
    """Return F with the directions of G^T `[d, o]` that are missing until it spans `share` of |G|^2.

    F as it is if nothing is missing or G is not finite.
    """
    whole = float(slope.square().sum())
    if not all_finite(slope) or whole == 0:
        return memory
    missing = _without(memory, slope.T)
    vectors, values, _ = torch.linalg.svd(missing, full_matrices=False)
    spanned = (whole - float(missing.square().sum()) + values.square().cumsum(0)) / whole
    if memory is not None and whole - float(missing.square().sum()) >= share * whole:
        return memory
    count = int((spanned < share * (1 - 1e-12)).sum()) + 1
    fresh = vectors[:, :count]
    first: torch.Tensor = fresh.contiguous()
    if memory is None:
        return first
    # Once more against F, so that rounding does not add up over batches.
    basis, _ = torch.linalg.qr(_without(memory, fresh))
    return torch.cat([memory.to(basis), basis], dim=1)


def rate_at(step: int, total: int) -> float:
    """Return the share of the rate at a step from 0: a linear rise over 3 % of the steps, then half a cosine."""
    warm = math.ceil(_WARM_UP * total)
    if step < warm:
        return step / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))


def _projected(point: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    """Return g - x (g^T x), the release's projection, without the symmetric half of the tangent space's."""
    return slope - point @ (slope.T @ point)


def _without(memory: torch.Tensor | None, columns: torch.Tensor) -> torch.Tensor:
    """Return (I - F F^T) X."""
    if memory is None:
        return columns
    basis = memory.to(columns)
    return columns - basis @ (basis.T @ columns)


def _polar(columns: torch.Tensor) -> torch.Tensor:
    """Return the nearest matrix with orthonormal columns."""
    left, _, right = torch.linalg.svd(columns, full_matrices=False)
    nearest: torch.Tensor = left @ right
    return nearest
