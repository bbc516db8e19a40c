"""Geometry: hyperspherical energy of the edited weights, what changed, and what the change did to their spectra."""

from collections.abc import Iterator

import torch

from evaluators.base import Health, MissingPrevious, Score, Scored, Subject, collapses, make_score, total_health
from evaluators.geometry.hidden_states import HiddenStates
from evaluators.geometry.routing import RoutingSimilarity
from evaluators.geometry.settings import GeometrySettings
from evaluators.geometry.site import (
    BaseSite,
    Figures,
    Groups,
    fail_step,
    measure_base,
    measure_site,
    put_retrieval,
    put_solve,
    put_step,
)
from sphere_core.hyperparameters.places import DOWN
from sphere_core.models import Site
from sphere_core.numerics.energy import Energy, hyperspherical_energy
from sphere_core.numerics.placement import has_room
from sphere_core.solver.retrieval import factor_at, retrieval_sharpness
from sphere_core.solver.solution import figures_at

__all__ = ["Geometry", "GeometrySettings"]

_ENERGY_METRICS = ("he", "he_mean", "he_drift", "he_step", "output_change_bound", "output_change_ratio")


class Geometry:
    """Scores each open site of a subject, and their mean (the rows without a site). docs/evaluation.md lists the rows.

    All figures come from the fp32 masters, in float64. Those of the unedited weight are computed once for each site
    and base model, known by content; only one base model's are kept.
    """

    kind = "geometry"
    reads_generation = False

    def __init__(self, settings: GeometrySettings) -> None:
        self.settings = settings
        self.reads_previous = settings.reads_previous
        self.reads_moments = settings.reads_moments
        self.reads_state = settings.retrieval
        self._groups = Groups(
            bound=settings.bound,
            spectra=settings.spectra,
            subspace_threshold=settings.subspace_threshold,
            subspace_energy=settings.subspace_energy,
            principal_ratio=settings.principal_ratio,
            measures=frozenset(settings.measures),
        )
        self._hidden = HiddenStates(settings.hidden_prompts)
        self._routing = RoutingSimilarity(settings.routing_prompts)
        self._base_digest: str | None = None
        self._bases: dict[str, BaseSite] = {}
        self._given: dict[str, torch.Tensor | None] = {}
        self._last: dict[str, tuple[torch.Tensor, Energy]] = {}

    def identity(self) -> dict[str, object]:
        """Everything but the subject that can change a score."""
        return self.settings.identity()

    def score(self, subject: Subject) -> Scored:
        """Return the geometry rows.

        A site whose weight has a non-finite entry is collapsed in every row, one where more than half of the row pairs
        coincide in those of its energy; a collapsed site takes the mean over sites with it. `nonfinite` counts
        entries, `tied` coinciding row pairs. Where the checkpoint before is gone, the rows against it have failed.
        """
        if self._base_digest != subject.model.base_digest:
            self._base_digest = subject.model.base_digest
            self._bases, self._last = {}, {}
        sites = subject.model.sites
        figures: dict[str, Figures] = {}
        for site in sites:
            figures[site.name] = self._measure(subject, site)
            subject.model.progress.report("geometry", len(figures), len(sites), "sites")
        rows = [row for site in sites for row in _site_rows(site.name, figures[site.name])]
        rows += _mean_rows(list(figures.values()))
        rows += self._hidden.score(subject) if self.settings.hidden_prompts else []
        rows += self._routing.score(subject) if self.settings.routing_prompts else []
        return Scored(rows)

    def _measure(self, subject: Subject, site: Site) -> Figures:
        model = subject.model
        weight, base_weight = model.weight(site), model.base_weight(site)
        base = self._base(subject, site)
        before = self._before(subject, site, base)
        energy = hyperspherical_energy(weight)
        self._last[site.name] = (weight, energy)
        figures = measure_site(weight, base_weight, base, energy, self._groups)
        if isinstance(before, MissingPrevious):
            fail_step(figures, before.reason)
        elif before is not None:
            put_step(figures, weight, before[0], energy, before[1])
        if self.settings.solver:
            put_solve(figures, figures_at(subject.scalars, site.label))
        if self.settings.retrieval and (factor := factor_at(subject.state, site.label)) is not None:
            put_retrieval(figures, retrieval_sharpness(factor.to(weight.device)))
        return figures

    def _base(self, subject: Subject, site: Site) -> BaseSite:
        # Of experts there are moments apart, and none between them.
        has_moment = subject.moments and self.reads_moments and site.module == DOWN and not site.experts
        moment = subject.moments.by_layer.get(site.layer) if subject.moments and has_moment else None
        known = self._bases.get(site.name)
        # Moments are handed on as the same object: comparing gigabytes at every checkpoint would cost seconds.
        if known is None or self._given[site.name] is not moment:
            weight = subject.model.base_weight(site)
            # Where the device has room for all of them they stay there from checkpoint to checkpoint.
            room = moment is not None and has_room(weight.device, 8 * moment.numel() * len(subject.model.sites))
            placed = moment.to(weight.device) if moment is not None and room else moment
            known = measure_base(weight, placed, self._groups)
            self._bases[site.name], self._given[site.name] = known, moment
        return known

    def _before(
        self, subject: Subject, site: Site, base: BaseSite
    ) -> tuple[torch.Tensor, Energy] | MissingPrevious | None:
        """Return the previous weight and its energy: those of the unedited model before the first checkpoint."""
        if not self.settings.previous:
            return None
        if isinstance(subject.previous, MissingPrevious):
            return subject.previous
        if subject.previous is None or site.name not in subject.previous.weights:
            return subject.model.base_weight(site), base.energy
        weight = site.canonical(subject.previous.weights[site.name]).to(subject.model.weight(site))
        last = self._last.get(site.name)
        if last is not None and torch.equal(last[0], weight):
            return last
        return weight, hyperspherical_energy(weight)


def _health(metric: str, figures: Figures) -> Health:
    return figures.energy_health if metric in _ENERGY_METRICS else figures.change_health


def _site_rows(name: str, figures: Figures) -> Iterator[Score]:
    for (metric, protocol), value in figures.values.items():
        yield make_score(
            metric,
            protocol,
            value,
            None,
            n=figures.counts[metric, protocol],
            health=_health(metric, figures),
            higher_is_better=None,
            site=name,
        )
    for (metric, protocol), reason in figures.failed.items():
        yield _failed(metric, protocol, reason, site=name)


def _mean_rows(figures: list[Figures]) -> Iterator[Score]:
    """Yield the mean over the sites that have a figure; `n` says how many."""
    for metric, protocol in dict.fromkeys(key for site in figures for key in site.values):
        having = [site for site in figures if (metric, protocol) in site.values]
        parts = [_health(metric, site) for site in having]
        yield make_score(
            metric,
            protocol,
            sum(site.values[metric, protocol] for site in having) / len(having),
            None,
            n=len(having),
            health=total_health(parts),
            part_collapsed=any(collapses(part) for part in parts),
            higher_is_better=None,
        )
    failed = {key: reason for site in figures for key, reason in site.failed.items()}
    for (metric, protocol), reason in failed.items():
        yield _failed(metric, protocol, reason, site=None)


def _failed(metric: str, protocol: str, reason: str, *, site: str | None) -> Score:
    return Score(metric, protocol, None, None, 0, 0, 0, "failed", None, site=site, reason=reason)
