"""What geometry measures of one site: figures of the unedited weight, computed once, and those of an edited one.

Symbols: W the edited and W_0 the unedited weight `[o, d]` (fp32 masters, figures in float64), dW = W - W_0, s singular
values in descending order, C0 the second moment of the site's inputs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from evaluators.base import Health
from evaluators.geometry.measures import COSINE_BINS, concentration, cosine_shares, singular_value_gain
from sphere_core.numerics.energy import Energy, energy_gradient, hyperspherical_energy, relative_drift
from sphere_core.numerics.preservation import energy_sensitivity, output_change
from sphere_core.numerics.spectrum import (
    SingularSubspaces,
    dominant_rank,
    effective_rank,
    principal_directions,
    singular_subspaces,
    singular_values,
    singular_vector_similarity,
    stable_rank,
    subspace_similarity,
)

__all__ = ["BaseSite", "Figures", "Groups", "fail_step", "measure_base", "measure_site", "put_solve", "put_step"]

EXACT, ORTHONORMAL, MOMENTS = "exact", "orthonormal", "moments"
LATEST, ALL_KEYS = "latest batch", "all edits"
_ENERGY = ("he", "he_mean", "he_drift")
_SIZES = ("delta_norm", "delta_norm_relative", "weight_norm")
_ROW_NORMS = ("row_norm_mean", "row_norm_sd", "row_norm_min", "row_norm_max", "row_norm_cv")
_STEP = ("he_step", "step_norm")
_BOUND = ("output_change", "output_change_bound")
_SPECTRA = ("spectral_norm", "effective_rank", "stable_rank", "delta_spectral_norm")
_SPECTRA_RATIOS = ("delta_effective_rank", "delta_stable_rank")
_SUBSPACES = ("subspace_similarity_left", "subspace_similarity_right")
_GAINS = ("singular_value_gain_top", "singular_value_gain_rest")
_VECTORS = ("singular_vector_similarity", "singular_vector_similarity_matched")


@dataclass(frozen=True)
class Groups:
    """Which groups of figures are wanted, and what their subspaces hold; protocols name the latter."""

    bound: bool
    spectra: bool
    subspace_threshold: float
    subspace_energy: Literal["sum", "squares"]
    principal_ratio: float
    measures: frozenset[str] = frozenset()

    @property
    def dominant(self) -> str:
        """Protocol of what is measured in the dominant singular subspaces."""
        return f"{self.subspace_energy}-{self.subspace_threshold:g}"

    @property
    def principal(self) -> str:
        """Protocol of what is measured in SPHERE's principal directions."""
        return f"ratio-{self.principal_ratio:g}"


@dataclass(frozen=True)
class BaseSite:
    """Figures of an unedited weight: its energy E_0, |W_0|_F, |G| and |G C0^{-1/2}|, its dominant directions.

    `moment` is the C0 they were computed with, `output_size` = sqrt(tr(W_0 C0 W_0^T)).
    """

    energy: Energy
    norm: float
    moment: torch.Tensor | None
    sensitivity: dict[str, float]
    output_size: float
    dominant: SingularSubspaces | None
    principal: torch.Tensor | None
    values: torch.Tensor | None = None


@dataclass
class Figures:
    """Figures of one site by (metric, protocol): values, what each averages over, and why some could not be had."""

    energy_health: Health
    change_health: Health
    values: dict[tuple[str, str], float] = field(default_factory=dict)
    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    failed: dict[tuple[str, str], str] = field(default_factory=dict)

    def put(self, names: Sequence[str], protocol: str, values: Sequence[float], *, n: int) -> None:
        """Add figures of one protocol."""
        for name, value in zip(names, values, strict=True):
            self.values[name, protocol] = value
            self.counts[name, protocol] = n

    def fail(self, names: Sequence[str], protocol: str, reason: str) -> None:
        """Note figures that could not be had."""
        self.failed |= {(name, protocol): reason for name in names}


def measure_base(weight: torch.Tensor, moment: torch.Tensor | None, groups: Groups) -> BaseSite:
    """Measure an unedited weight; a weight with a non-finite entry has neither sensitivity nor directions."""
    finite = bool(torch.isfinite(weight).all())
    sensitivity: dict[str, float] = {}
    if groups.bound and finite:
        gradient = energy_gradient(weight)
        sensitivity[ORTHONORMAL] = energy_sensitivity(gradient, None)
        if moment is not None:
            sensitivity[MOMENTS] = energy_sensitivity(gradient, moment)
    dominant = principal = None
    if groups.spectra and finite:
        dominant = singular_subspaces(
            weight, rank_of=lambda values: dominant_rank(values, groups.subspace_threshold, groups.subspace_energy)
        )
        principal = principal_directions(weight, groups.principal_ratio)
    return BaseSite(
        energy=hyperspherical_energy(weight),
        norm=float(torch.linalg.vector_norm(weight.double())),
        moment=moment,
        sensitivity=sensitivity,
        output_size=output_change(weight, moment) if moment is not None else math.nan,
        dominant=dominant,
        principal=principal,
        values=singular_values(weight) if "gain" in groups.measures and finite else None,
    )


def measure_site(
    weight: torch.Tensor, base_weight: torch.Tensor, base: BaseSite, energy: Energy, groups: Groups
) -> Figures:
    """Measure an edited weight, whose energy is given, against its unedited one.

    Ratios whose denominator is zero are left out: those of a change at an unchanged weight, and that of the bound where
    the bound is zero. Where an entry is not finite every figure is nan.
    """
    nonfinite = int((~torch.isfinite(weight)).sum())
    pairs = weight.shape[0] * (weight.shape[0] - 1)
    figures = Figures(Health(pairs, nonfinite, energy.clamped), Health(weight.numel(), nonfinite, 0))
    change = weight.double() - base_weight.double()
    size = float(torch.linalg.vector_norm(change))
    norm = float(torch.linalg.vector_norm(weight.double()))
    relative = size / base.norm if base.norm else math.nan
    figures.put(_ENERGY, EXACT, (energy.total, energy.mean, relative_drift(energy, base.energy)), n=pairs)
    figures.put(_SIZES, EXACT, (size, relative, norm), n=weight.numel())
    figures.put(_ROW_NORMS, EXACT, _row_norms(weight), n=weight.shape[0])
    if groups.bound:
        _put_bound(figures, change, size, abs(energy.total - base.energy.total), base)
    if groups.spectra:
        _put_spectra(figures, weight, change, size, base, groups, finite=nonfinite == 0)
    _put_measures(figures, weight, change, size, base, groups)
    return figures


def put_step(figures: Figures, weight: torch.Tensor, previous: torch.Tensor, energy: Energy, before: Energy) -> None:
    """Add what changed since the checkpoint before: (HE - HE_p) / HE_p and |W - W_p|."""
    step = float(torch.linalg.vector_norm(weight.double() - previous.to(weight.device).double()))
    drift, length = (relative_drift(energy, before),), (step,)
    figures.put(_STEP[:1], EXACT, drift, n=figures.energy_health.n)
    figures.put(_STEP[1:], EXACT, length, n=weight.numel())


def put_solve(figures: Figures, solved: Mapping[str, float]) -> None:
    """Add what the solver said of the latest batch: `solve_residual`, `solve_condition`, `solve_shortfall`."""
    for name, value in solved.items():
        figures.put((f"solve_{name}",), LATEST, (value,), n=1)


def put_retrieval(figures: Figures, sharpness: torch.Tensor) -> None:
    """Add mean and least of the sharpness with which the keys of the N edits retrieve, `[N]`."""
    found = float(sharpness.mean()), float(sharpness.min())
    figures.put(("retrieval_sharpness", "retrieval_sharpness_min"), ALL_KEYS, found, n=len(sharpness))


def fail_step(figures: Figures, reason: str) -> None:
    """Note that the checkpoint before could not be had."""
    figures.fail(_STEP, EXACT, reason)


def _row_norms(weight: torch.Tensor) -> tuple[float, ...]:
    """Mean, standard deviation (over all rows, n), smallest, largest and coefficient of variation of row norms."""
    norms = torch.linalg.vector_norm(weight.double(), dim=1)
    mean, deviation = float(norms.mean()), float(norms.std(correction=0))
    return mean, deviation, float(norms.min()), float(norms.max()), deviation / mean if mean else math.nan


def _put_bound(figures: Figures, change: torch.Tensor, size: float, drift: float, base: BaseSite) -> None:
    """Add the change of preserved outputs, its first-order lower bound and measured / bound, under both inputs."""
    measured = {ORTHONORMAL: size}
    if base.moment is not None:
        measured[MOMENTS] = output_change(change, base.moment)
        squared, relative = measured[MOMENTS] ** 2, _ratio(measured[MOMENTS], base.output_size)
        figures.put(("output_change_squared",), MOMENTS, (squared,), n=change.numel())
        figures.put(("output_change_relative",), MOMENTS, (relative,), n=change.numel())
    for protocol, moved in measured.items():
        bound = _ratio(drift, base.sensitivity.get(protocol, math.nan))
        figures.put(_BOUND, protocol, (moved, bound), n=change.numel())
        if bound != 0:
            figures.put(("output_change_ratio",), protocol, (moved / bound,), n=change.numel())


def _put_spectra(
    figures: Figures,
    weight: torch.Tensor,
    change: torch.Tensor,
    size: float,
    base: BaseSite,
    groups: Groups,
    *,
    finite: bool,
) -> None:
    """Add norms, ranks, similarities to the unedited weight's directions, and the change's share of them."""
    count = min(weight.shape)
    if base.dominant is None or base.principal is None or not finite:
        nan = math.nan
        figures.put((*_SPECTRA, *_SPECTRA_RATIOS), EXACT, (nan,) * 6, n=count)
        figures.put((*_SUBSPACES, *_VECTORS), groups.dominant, (nan,) * 4, n=count)
        figures.put(("principal_share",), groups.principal, (nan,), n=count)
        return
    rank = base.dominant.left.shape[1]
    now = singular_subspaces(weight, rank_of=lambda values: min(rank, len(values)))
    changes = singular_values(change)
    # A weight of zeros has no direction at all.
    values = now.values if len(now.values) else changes.new_zeros(1)
    norms = (float(values[0]), effective_rank(values), stable_rank(values), float(changes[0]))
    figures.put(_SPECTRA, EXACT, norms, n=count)
    sides = ((base.dominant.left, now.left), (base.dominant.right, now.right))
    figures.put(_SUBSPACES, groups.dominant, [subspace_similarity(*side) for side in sides], n=rank)
    figures.put(_VECTORS, groups.dominant, singular_vector_similarity(base.dominant, now), n=rank)
    if size > 0:
        figures.put(_SPECTRA_RATIOS, EXACT, (effective_rank(changes), stable_rank(changes)), n=count)
        inside = float(torch.linalg.vector_norm(change @ base.principal))
        share = (inside / size) ** 2
        figures.put(("principal_share",), groups.principal, (share,), n=base.principal.shape[1])


def _put_measures(
    figures: Figures, weight: torch.Tensor, change: torch.Tensor, size: float, base: BaseSite, groups: Groups
) -> None:
    """Add the further figures that the settings name."""
    if "concentration" in groups.measures and size != 0:
        figures.put(("delta_concentration",), EXACT, (concentration(change),), n=min(weight.shape))
    if "gain" in groups.measures and base.values is not None:
        values = base.values[base.values > 0]
        rank = dominant_rank(values, groups.subspace_threshold, groups.subspace_energy) if len(values) else 0
        gains = singular_value_gain(weight, base.values, rank)
        for name, gain, count in zip(_GAINS, gains, (rank, len(values) - rank), strict=True):
            if count:
                figures.put((name,), groups.dominant, (gain,), n=count)
    if "cosines" in groups.measures:
        shares, mean = cosine_shares(weight)
        pairs = weight.shape[0] * (weight.shape[0] - 1) // 2
        for protocol, share in zip(COSINE_BINS, shares, strict=True):
            figures.put(("row_cosine",), protocol, (share,), n=pairs)
        figures.put(("row_cosine_magnitude",), EXACT, (mean,), n=pairs)


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else math.nan
