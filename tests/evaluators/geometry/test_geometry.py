"""Geometry of the edited sites: energies, drifts and norms, and weights that are no longer numbers."""

import math

import pytest
import torch
from eval_parts import BREAKERS, LAYERS, by_name, equal_logits, infinite_head, nan_head_row, tiny_gpt2, tiny_llama

import evaluators.geometry.site
from evaluators.base import Score, Subject
from evaluators.geometry.evaluator import Geometry, GeometrySettings
from sphere_core.foundation.fingerprint import canonical_json
from sphere_core.models import EditableModel
from sphere_core.numerics.energy import hyperspherical_energy

METRICS = ("he", "he_mean", "he_drift", "delta_norm", "delta_norm_relative")


def score(model: EditableModel, evaluator: Geometry | None = None) -> dict[tuple[str, str | None], Score]:
    rows = (evaluator or Geometry(GeometrySettings())).score(Subject(model, (), edits=1)).rows
    return {(metric, site): row for (metric, _, site), row in by_name(rows).items()}


def rescale_and_turn(model: EditableModel, layer: int) -> torch.Tensor:
    """Change one site by a known amount and return the change."""
    site = model.open_sites([layer])[0]
    generator = torch.Generator().manual_seed(layer)
    change = 0.1 * torch.randn(site.d_out, site.d_in, generator=generator)
    model.set_weight(site, model.weight(site) + change)
    return model.weight(site).double() - model.base_weight(site).double()


def test_the_unedited_model_has_not_moved() -> None:
    model = tiny_llama()
    rows = score(model)
    assert {row.status for row in rows.values()} == {"ok"}
    for site in model.open_sites(LAYERS):
        assert rows["he", site.name].value == hyperspherical_energy(model.base_weight(site)).total
        for metric in ("he_drift", "delta_norm", "delta_norm_relative", "he_step", "step_norm", "delta_spectral_norm"):
            assert rows[metric, site.name].value == 0.0
        for metric in ("output_change", "output_change_bound"):
            assert rows[metric, site.name].value == 0.0
        for metric in ("subspace_similarity_left", "subspace_similarity_right", "singular_vector_similarity"):
            assert rows[metric, site.name].value == pytest.approx(1, abs=1e-9)
    # Nothing has changed: a share, a rank or a ratio of the change would be 0 / 0.
    absent = {"principal_share", "delta_effective_rank", "delta_stable_rank", "output_change_ratio"}
    assert not absent & {metric for metric, _ in rows}


def test_figures_of_a_known_change() -> None:
    model = tiny_llama()
    change = rescale_and_turn(model, 1)
    rows = score(model)
    site = model.open_sites([1])[0]
    base, now = (hyperspherical_energy(w) for w in (model.base_weight(site), model.weight(site)))
    assert rows["he_drift", site.name].value == pytest.approx((now.total - base.total) / base.total, rel=1e-12)
    assert rows["he_drift", site.name].value != 0
    assert rows["he_mean", site.name].value == pytest.approx(now.total / (64 * 63), rel=1e-12)
    assert rows["delta_norm", site.name].value == pytest.approx(float(change.norm()), rel=1e-12)
    relative = float(change.norm()) / float(model.base_weight(site).double().norm())
    assert rows["delta_norm_relative", site.name].value == pytest.approx(relative, rel=1e-12)
    others = [rows["delta_norm", other.name].value for other in model.open_sites(LAYERS) if other != site]
    assert others == [0.0, 0.0]
    for metric in METRICS:
        mean = sum(rows[metric, other.name].value for other in model.open_sites(LAYERS)) / len(LAYERS)
        assert rows[metric, None].value == pytest.approx(mean, rel=1e-12)
        assert rows[metric, None].n == len(LAYERS)


def test_drift_keeps_its_sign() -> None:
    """Rows pushed towards one direction raise the energy; rows spread apart lower it."""
    model = tiny_llama()
    site = model.open_sites([0])[0]
    weight = model.base_weight(site)
    model.set_weight(site, weight + 0.2 * weight.norm(dim=1).mean() * torch.ones(site.d_in) / math.sqrt(site.d_in))
    assert score(model)["he_drift", site.name].value > 0
    spread, _ = torch.linalg.qr(torch.randn(site.d_in, site.d_in, generator=torch.Generator().manual_seed(0)))
    model.set_weight(site, spread[: site.d_out])
    assert score(model)["he_drift", site.name].value < 0


def test_storage_plays_no_part() -> None:
    """GPT-2 stores the transpose; the figures are those of `[d_out, d_in]`."""
    model = tiny_gpt2(tiny_llama().tokenizer)
    rescale_and_turn(model, 2)
    site = model.open_sites([2])[0]
    assert site.transposed
    stored = model.edited_weights()[site.name]
    assert score(model)["he", site.name].value == hyperspherical_energy(stored.T).total


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number_is_collapsed(bad: float) -> None:
    model = tiny_llama()
    site = model.open_sites([1])[0]
    weight = model.weight(site).clone()
    weight[3, 5:8] = bad
    model.set_weight(site, weight)
    for (_, name), row in score(model).items():
        if name in (site.name, None):
            assert (row.status, row.value, row.nonfinite) == ("collapsed", None, 3)
        else:
            assert (row.status, row.nonfinite) == ("ok", 0)


def test_rows_that_coincide_are_collapsed() -> None:
    model = tiny_llama()
    site = model.open_sites([1])[0]
    model.set_weight(site, torch.ones_like(model.weight(site)))
    rows = score(model)
    for metric in ("he", "he_mean", "he_drift"):
        for name in (site.name, None):
            assert (rows[metric, name].status, rows[metric, name].tied) == ("collapsed", 64 * 63)
    # The size of the change is still a number.
    assert rows["delta_norm", site.name].status == "ok"


@pytest.mark.parametrize("break_model", BREAKERS, ids=lambda breaker: breaker.__name__)
def test_no_broken_model_crashes_it(break_model) -> None:
    """A broken head is no matter of the sites: the figures are those of the sites it has."""
    model, whole = tiny_llama(), score(tiny_llama())
    break_model(model)
    rows = score(model)
    if break_model in (equal_logits, infinite_head, nan_head_row):
        assert rows == whole
    else:
        assert rows["he", None].status == "collapsed"


def test_the_base_is_measured_once_and_never_mistaken(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []

    def counted(weight: torch.Tensor) -> object:
        measured.append(weight)
        return hyperspherical_energy(weight)

    monkeypatch.setattr(evaluators.geometry.site, "hyperspherical_energy", counted)
    warm, model, other = Geometry(GeometrySettings()), tiny_llama(), tiny_gpt2(tiny_llama().tokenizer)
    score(model, warm)
    rescale_and_turn(model, 0)
    changed = score(model, warm)
    assert len(measured) == len(LAYERS)
    assert changed == score(model)
    rescale_and_turn(other, 0)
    assert score(other, warm) == score(other)
    # Same names of sites, another base.
    network = tiny_llama().network
    for parameter in network.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    namesake = EditableModel(network, model.tokenizer, model.family, base_digest="another")
    namesake.open_sites(LAYERS)
    assert score(namesake, warm) == score(namesake)


def test_identity_is_canonical() -> None:
    assert '"kind":"geometry"' in canonical_json(Geometry(GeometrySettings()).identity())
