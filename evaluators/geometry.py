"""Geometry: hyperspherical energy of the edited weights, its drift, and the size of the change."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict

from evaluators.rows import Health, Score, Scored, Subject, collapses, make_score, total_health
from sphere_core.energy import Energy, hyperspherical_energy, relative_drift
from sphere_core.models import EditableModel, Site

__all__ = ["Geometry", "GeometrySettings"]

_VERSION = 1
_PROTOCOL = "exact"
_METRICS = ("he", "he_mean", "he_drift", "delta_norm", "delta_norm_relative")


class GeometrySettings(BaseModel):
    """Geometry has nothing to set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["geometry"] = "geometry"


@dataclass(frozen=True)
class _SiteFigures:
    values: dict[str, float]
    energy_health: Health
    change_health: Health


class Geometry:
    """Scores each open site of a subject, and their mean (the rows without a site).

    Metrics: `he` (ordered-pair sum), `he_mean`, `he_drift` = (HE - HE_0) / HE_0, signed, `delta_norm` =
    |W - W_0|_F and `delta_norm_relative` = |W - W_0|_F / |W_0|_F, on the fp32 masters with float64 sums. The
    energy of the unedited weight is computed once for each site and base model, known by content.
    """

    kind = "geometry"
    reads_generation = False

    def __init__(self, settings: GeometrySettings) -> None:
        self.settings = settings
        self._base: dict[tuple[str, str], Energy] = {}

    def identity(self) -> dict[str, object]:
        """Everything but the subject that can change a score."""
        return {"kind": self.kind, "version": _VERSION, "settings": self.settings.model_dump(mode="json")}

    def score(self, subject: Subject) -> Scored:
        """Return the geometry rows.

        A site whose weight has a non-finite entry is collapsed, as is the energy of one where more than half
        of the row pairs coincide; a collapsed site takes the mean over sites with it. `nonfinite` counts
        entries, `tied` coinciding row pairs.
        """
        sites = subject.model.sites
        figures = {site.name: self._measure(subject.model, site) for site in sites}
        rows = [row for site in sites for row in _site_rows(site.name, figures[site.name])]
        return Scored(rows + list(_mean_rows(list(figures.values()))))

    def _measure(self, model: EditableModel, site: Site) -> _SiteFigures:
        weight, base = model.weight(site), model.base_weight(site)
        energy, base_energy = hyperspherical_energy(weight), self._base_energy(model, site)
        change = float(torch.linalg.vector_norm(weight.double() - base.double()))
        size = float(torch.linalg.vector_norm(base.double()))
        nonfinite = int((~torch.isfinite(weight)).sum())
        pairs = site.d_out * (site.d_out - 1)
        return _SiteFigures(
            values={
                "he": energy.total,
                "he_mean": energy.mean,
                "he_drift": relative_drift(energy, base_energy),
                "delta_norm": change,
                "delta_norm_relative": change / size if size else math.nan,
            },
            energy_health=Health(pairs, nonfinite, energy.clamped),
            change_health=Health(weight.numel(), nonfinite, 0),
        )

    def _base_energy(self, model: EditableModel, site: Site) -> Energy:
        key = (model.base_digest, site.name)
        if key not in self._base:
            self._base[key] = hyperspherical_energy(model.base_weight(site))
        return self._base[key]


def _health(metric: str, figures: _SiteFigures) -> Health:
    return figures.change_health if metric.startswith("delta") else figures.energy_health


def _site_rows(name: str, figures: _SiteFigures) -> Iterable[Score]:
    for metric in _METRICS:
        health = _health(metric, figures)
        yield make_score(
            metric,
            _PROTOCOL,
            figures.values[metric],
            None,
            n=health.n,
            health=health,
            higher_is_better=None,
            site=name,
        )


def _mean_rows(figures: list[_SiteFigures]) -> Iterable[Score]:
    if not figures:
        return
    for metric in _METRICS:
        parts = [_health(metric, site) for site in figures]
        yield make_score(
            metric,
            _PROTOCOL,
            sum(site.values[metric] for site in figures) / len(figures),
            None,
            n=len(figures),
            health=total_health(parts),
            part_collapsed=any(collapses(part) for part in parts),
            higher_is_better=None,
        )
