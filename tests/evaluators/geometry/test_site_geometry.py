"""Every figure of geometry against its plain definition, and what happens where a figure cannot be had."""

import math

import pytest
import torch
from eval_parts import tiny_gpt2, tiny_llama

from evaluators.base import MissingPrevious, Previous, Score, Subject
from evaluators.geometry.evaluator import Geometry, GeometrySettings
from sphere_core.models import EditableModel
from sphere_core.moments.record import SecondMoments
from sphere_core.numerics.energy import energy_gradient, hyperspherical_energy
from sphere_core.numerics.preservation import energy_sensitivity, output_change
from sphere_core.numerics.spectrum import (
    principal_directions,
    singular_subspaces,
    singular_values,
    singular_vector_similarity,
    stable_rank,
)

TOKENS = 400


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def keys_of(model: EditableModel) -> dict[int, torch.Tensor]:
    return {site.layer: random(site.d_in, TOKENS, seed=site.layer) for site in model.sites}


def moments_of(keys: dict[int, torch.Tensor]) -> SecondMoments:
    return SecondMoments({layer: k @ k.T / k.shape[1] for layer, k in keys.items()}, TOKENS, {})


def edit(model: EditableModel, *, size: float = 0.3, seed: int = 5) -> None:
    for site in model.sites:
        model.set_weight(site, model.weight(site) + size * random(site.d_out, site.d_in, seed=seed + site.layer))


def rows_of(subject: Subject, **settings: object) -> dict[tuple[str, str, str | None], Score]:
    found = Geometry(GeometrySettings(**settings)).score(subject).rows
    named = {(row.metric, row.protocol, row.site): row for row in found}
    assert len(named) == len(found)
    return named


@pytest.fixture(scope="module")
def edited() -> tuple[EditableModel, dict, dict]:
    model = tiny_llama()
    edit(model)
    keys = keys_of(model)
    return model, keys, rows_of(Subject(model, (), 1, None, moments_of(keys)))


def test_spectra_are_those_of_the_full_svd(edited: tuple) -> None:
    model, _, rows = edited
    for site in model.sites:
        base, now = model.base_weight(site).double(), model.weight(site).double()
        left0, values0, right0 = torch.linalg.svd(base, full_matrices=False)
        left, values, right = torch.linalg.svd(now, full_matrices=False)
        rank = next(k for k in range(1, len(values0) + 1) if values0[:k].sum() / values0.sum() >= 0.1)
        change = torch.linalg.svdvals(now - base)

        def entropy_rank(s: torch.Tensor) -> float:
            p = s / s.sum()
            return math.exp(-sum(float(x) * math.log(float(x)) for x in p))

        found = {metric: row.value for (metric, _, name), row in rows.items() if name == site.name}
        counts = {metric: row.n for (metric, _, name), row in rows.items() if name == site.name}
        expected = {
            "spectral_norm": float(values[0]),
            "effective_rank": entropy_rank(values),
            "stable_rank": float(values.square().sum() / values[0] ** 2),
            "delta_spectral_norm": float(change[0]),
            "delta_effective_rank": entropy_rank(change),
            "delta_stable_rank": float(change.square().sum() / change[0] ** 2),
            "weight_norm": float(now.norm()),
            "subspace_similarity_left": float((left0[:, :rank].T @ left[:, :rank]).norm() ** 2) / rank,
            "subspace_similarity_right": float((right0[:rank] @ right[:rank].T).norm() ** 2) / rank,
        }
        for metric, value in expected.items():
            assert found[metric] == pytest.approx(value, rel=1e-8), metric
        products = (left0[:, :rank].T @ left[:, :rank]).abs() * (right0[:rank] @ right[:rank].T).abs()
        assert found["singular_vector_similarity"] == pytest.approx(float(products.diag().mean()), rel=1e-6)
        matched = sum(max(float(x) for x in row) for row in products) / rank
        assert found["singular_vector_similarity_matched"] == pytest.approx(matched, rel=1e-6)
        assert counts["subspace_similarity_left"] == rank
        unit = base / base.norm(dim=1, keepdim=True)
        vectors = torch.linalg.eigh(unit.T @ unit)[1]
        kept = principal_directions(base, 0.5).shape[1]
        inside = (now - base) @ vectors[:, -kept:]
        assert found["principal_share"] == pytest.approx(float((inside.norm() / (now - base).norm()) ** 2), rel=1e-9)
        assert counts["principal_share"] == kept


def test_row_norms(edited: tuple) -> None:
    model, _, rows = edited
    for site in model.sites:
        norms = [math.sqrt(sum(float(x) ** 2 for x in row)) for row in model.weight(site)]
        mean = sum(norms) / len(norms)
        deviation = math.sqrt(sum((x - mean) ** 2 for x in norms) / len(norms))
        expected = {"mean": mean, "sd": deviation, "min": min(norms), "max": max(norms), "cv": deviation / mean}
        for name, value in expected.items():
            assert rows[f"row_norm_{name}", "exact", site.name].value == pytest.approx(value, rel=1e-12)


def test_outputs_are_those_of_the_keys_themselves(edited: tuple) -> None:
    model, keys, rows = edited
    for site in model.sites:
        change = model.weight(site).double() - model.base_weight(site).double()
        moved, before = change @ keys[site.layer], model.base_weight(site).double() @ keys[site.layer]
        squared = float(moved.square().sum()) / TOKENS
        assert rows["output_change_squared", "moments", site.name].value == pytest.approx(squared, rel=1e-10)
        assert rows["output_change", "moments", site.name].value == pytest.approx(math.sqrt(squared), rel=1e-10)
        relative = float(moved.norm() / before.norm())
        assert rows["output_change_relative", "moments", site.name].value == pytest.approx(relative, rel=1e-10)
        assert rows["output_change", "orthonormal", site.name].value == pytest.approx(float(change.norm()), rel=1e-12)


def test_the_bound_by_its_definition(edited: tuple) -> None:
    model, keys, rows = edited
    for site in model.sites:
        base, now = model.base_weight(site), model.weight(site)
        drift = abs(hyperspherical_energy(now).total - hyperspherical_energy(base).total)
        moment = keys[site.layer] @ keys[site.layer].T / TOKENS
        values, vectors = torch.linalg.eigh(moment)
        gradient = energy_gradient(base)
        for protocol, norm in {
            "orthonormal": gradient.norm(),
            "moments": (gradient @ vectors * values.rsqrt()).norm(),
        }.items():
            bound = rows["output_change_bound", protocol, site.name].value
            assert bound == pytest.approx(drift / float(norm), rel=1e-8)
            moved = rows["output_change", protocol, site.name].value
            assert rows["output_change_ratio", protocol, site.name].value == pytest.approx(moved / bound, rel=1e-12)


def test_the_bound_holds_and_is_tight() -> None:
    """No small change does better than the bound, and the one along G C0^{-1} meets it."""
    weight, keys = random(24, 10), random(10, 60, seed=1)
    keys[3] *= 7
    moment, gradient = keys @ keys.T / 60, energy_gradient(weight)
    start = hyperspherical_energy(weight).total

    def ratio(change: torch.Tensor) -> float:
        small = 1e-6 * change / change.norm()
        drift = abs(hyperspherical_energy(weight + small).total - start)
        return output_change(small, moment) * energy_sensitivity(gradient, moment) / drift

    assert min(ratio(random(24, 10, seed=seed)) for seed in range(50)) > 1
    assert ratio(torch.linalg.solve(moment, gradient.T).T) == pytest.approx(1, rel=1e-3)
    assert ratio(gradient) > 1.05


def test_a_singular_moment_bounds_nothing() -> None:
    """A change inside the null space of C0 moves the energy and no preserved output."""
    weight, keys = random(24, 10), random(10, 6, seed=1)
    moment = keys @ keys.T / 6
    assert energy_sensitivity(energy_gradient(weight), moment - 1e-9 * torch.eye(10)) == math.inf
    model = tiny_llama()
    edit(model)
    thin = {site.layer: random(site.d_in, 4, seed=1) for site in model.sites}
    singular = {layer: k @ k.T / 4 - 1e-9 * torch.eye(k.shape[0]) for layer, k in thin.items()}
    rows = rows_of(Subject(model, (), 1, None, SecondMoments(singular, 4, {})), spectra=False)
    name = model.sites[0].name
    assert rows["output_change_bound", "moments", name].value == 0
    assert ("output_change_ratio", "moments", name) not in rows
    assert rows["output_change_ratio", "orthonormal", name].value > 0


@pytest.mark.parametrize("make", [tiny_llama, lambda: tiny_gpt2(tiny_llama().tokenizer)])
def test_the_step_from_the_checkpoint_before(make) -> None:
    model = make()
    edit(model)
    stored = {name: weight.clone() for name, weight in model.edited_weights().items()}
    first = {site.name: model.weight(site).clone() for site in model.sites}
    evaluator = Geometry(GeometrySettings(spectra=False, bound=False))
    evaluator.score(Subject(model, (), 1))
    edit(model, seed=9)
    subject = Subject(model, (), 2, Previous(1, stored))
    warm, cold = evaluator.score(subject).rows, rows_of(subject, spectra=False, bound=False)
    assert warm == list(cold.values())
    for site in model.sites:
        before, now = (hyperspherical_energy(w) for w in (first[site.name], model.weight(site)))
        assert cold["he_step", "exact", site.name].value == pytest.approx(now.total / before.total - 1, rel=1e-9)
        length = float((model.weight(site).double() - first[site.name].double()).norm())
        assert cold["step_norm", "exact", site.name].value == pytest.approx(length, rel=1e-12)
    fresh = rows_of(Subject(model, (), 2), spectra=False, bound=False)
    for site in (*[site.name for site in model.sites], None):
        assert fresh["he_step", "exact", site].value == fresh["he_drift", "exact", site].value


def test_a_lost_checkpoint_fails_its_own_rows_only() -> None:
    model = tiny_llama()
    edit(model)
    lost = rows_of(Subject(model, (), 2, MissingPrevious(1, "it is gone")), spectra=False)
    whole = rows_of(Subject(model, (), 2), spectra=False)
    assert set(lost) == set(whole)
    for key, row in lost.items():
        if key[0] in ("he_step", "step_norm"):
            assert (row.status, row.value, row.reason) == ("failed", None, "it is gone")
        else:
            assert row == whole[key]


def test_groups_are_left_out_where_not_asked() -> None:
    model = tiny_llama()
    edit(model)
    subject = Subject(model, (), 1, None, moments_of(keys_of(model)))
    every = {metric for metric, _, _ in rows_of(subject)}
    least = {metric for metric, _, _ in rows_of(subject, previous=False, bound=False, spectra=False)}
    assert {"he", "he_mean", "he_drift", "delta_norm", "row_norm_cv"} <= least
    assert {m for m in every - least if "output" in m} == {m for m in every if "output" in m}
    evaluator = Geometry(GeometrySettings(previous=False, moments=False))
    assert (evaluator.reads_previous, evaluator.reads_moments) == (False, False)
    protocols = {row.protocol for row in evaluator.score(subject).rows if row.metric.startswith("output")}
    assert protocols == {"orthonormal"}


def test_every_row_of_a_weight_that_is_no_number_is_collapsed() -> None:
    model = tiny_llama()
    edit(model)
    subject = Subject(model, (), 1, None, moments_of(keys_of(model)))
    whole, site = rows_of(subject), model.sites[1]
    for bad in (math.nan, math.inf):
        weight = model.base_weight(site).clone()
        weight[2, 3] = bad
        model.set_weight(site, weight)
        rows = rows_of(subject)
        assert set(rows) == set(whole)
        for (_, _, name), row in rows.items():
            assert row.status == ("collapsed" if name in (site.name, None) else "ok")


def test_a_weight_of_zeros_raises_nothing() -> None:
    model = tiny_llama()
    site = model.sites[0]
    model.set_weight(site, torch.zeros_like(model.weight(site)))
    rows = rows_of(Subject(model, (), 1))
    assert rows["spectral_norm", "exact", site.name].value == 0
    assert rows["effective_rank", "exact", site.name].status == "collapsed"
    assert rows["delta_norm_relative", "exact", site.name].value == pytest.approx(1)


@pytest.mark.parametrize("shape", [(12, 40), (40, 12)])
def test_ranks_of_a_low_rank_matrix(shape: tuple[int, int]) -> None:
    """What squaring leaves of the zero singular values does not enter."""
    weight = random(shape[0], 3) @ random(3, shape[1], seed=1)
    values = singular_values(weight)
    assert int((values > 0).sum()) == 3
    torch.testing.assert_close(values[:3], torch.linalg.svdvals(weight)[:3])
    assert 1 <= stable_rank(values) <= 3


def test_singular_vectors_that_change_places() -> None:
    left, right = (torch.linalg.qr(random(9, 3, seed=seed))[0] for seed in (0, 1))
    base = singular_subspaces(left @ torch.diag(torch.tensor([3.0, 2, 1]).double()) @ right.T)
    swapped = singular_subspaces(left @ torch.diag(torch.tensor([2.0, 3, 1]).double()) @ right.T)
    diagonal, matched = singular_vector_similarity(base, swapped)
    assert diagonal == pytest.approx(1 / 3)
    assert matched == pytest.approx(1)
