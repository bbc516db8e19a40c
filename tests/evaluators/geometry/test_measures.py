"""Further figures of geometry against loops and whole decompositions, and what they leave as it was."""

import math

import pytest
import torch
from eval_parts import LAYERS, tiny_llama

from evaluators.base import Score, Subject
from evaluators.geometry.evaluator import Geometry, GeometrySettings
from evaluators.geometry.measures import COSINE_BINS, cosine_shares
from sphere_core.models import EditableModel
from sphere_core.numerics.spectrum import dominant_rank

ALL = GeometrySettings(bound=False, spectra=False, measures=("concentration", "gain", "cosines"))


def rows_of(model: EditableModel, settings: GeometrySettings = ALL) -> dict[tuple[str, str, str | None], Score]:
    return {(row.metric, row.protocol, row.site): row for row in Geometry(settings).score(Subject(model, (), 1)).rows}


def edited() -> EditableModel:
    model = tiny_llama()
    for layer in LAYERS:
        site = model.open_sites([layer])[0]
        generator = torch.Generator().manual_seed(layer)
        change = torch.randn(site.d_out, 3, generator=generator) @ torch.randn(3, site.d_in, generator=generator)
        model.set_weight(site, model.weight(site) + 0.05 * change)
    return model


def test_figures_against_whole_decompositions_and_loops() -> None:
    model = edited()
    rows = rows_of(model)
    for site in model.sites:
        weight, base = model.weight(site).double(), model.base_weight(site).double()
        change = torch.linalg.svdvals(weight - base)
        expected = float(change[0] ** 2 / (change**2).sum())
        assert rows["delta_concentration", "exact", site.name].value == pytest.approx(expected, rel=1e-9)
        now, before = torch.linalg.svdvals(weight), torch.linalg.svdvals(base)
        rank = dominant_rank(before, 0.1, "sum")
        top = rows["singular_value_gain_top", "sum-0.1", site.name]
        assert (top.value, top.n) == (pytest.approx(float((now / before)[:rank].mean()), rel=1e-6), rank)
        rest = rows["singular_value_gain_rest", "sum-0.1", site.name]
        assert (rest.value, rest.n) == (pytest.approx(float((now / before)[rank:].mean()), rel=1e-5), len(now) - rank)
        counts, total = [0] * 20, 0.0
        for i in range(len(weight)):
            for j in range(i):
                cosine = float(torch.nn.functional.cosine_similarity(weight[i], weight[j], dim=0))
                counts[min(math.floor((cosine + 1) * 10), 19)] += 1
                total += abs(cosine)
        pairs = len(weight) * (len(weight) - 1) // 2
        for name, count in zip(COSINE_BINS, counts, strict=True):
            assert rows["row_cosine", name, site.name].value == pytest.approx(count / pairs, abs=1e-12)
        assert rows["row_cosine_magnitude", "exact", site.name].value == pytest.approx(total / pairs, rel=1e-9)
    assert rows["delta_concentration", "exact", None].n == len(LAYERS)


def test_rows_that_point_the_same_or_the_opposite_way_fall_into_the_outer_bins() -> None:
    directions = torch.tensor([[1.0, 1.0], [2.0, 2.0], [-1.0, -1.0]]).repeat(300, 1)
    shares, magnitude = cosine_shares(directions)
    assert shares[0] + shares[-1] == pytest.approx(1)
    assert shares[0] == pytest.approx(2 * 300 * 600 / (900 * 899) * 1.0)
    assert magnitude == pytest.approx(1)
    assert (COSINE_BINS[0], COSINE_BINS[10], COSINE_BINS[-1]) == ("[-1,-0.9)", "[0,0.1)", "[0.9,1]")


def test_the_unedited_model_has_a_gain_of_one_and_no_concentration() -> None:
    rows = rows_of(tiny_llama(), ALL)
    assert not [key for key in rows if key[0] == "delta_concentration"]
    gains = [row.value for key, row in rows.items() if key[0].startswith("singular_value_gain")]
    assert gains == pytest.approx([1.0] * len(gains), abs=1e-9)


def test_a_weight_that_is_not_finite_is_collapsed_in_all_of_them() -> None:
    model = edited()
    site = model.sites[0]
    model.set_weight(site, model.weight(site).clone().fill_(torch.nan))
    statuses = {row.status for key, row in rows_of(model).items() if key[2] in (site.name, None)}
    assert statuses == {"collapsed"}


def test_left_out_they_change_neither_the_identity_nor_the_rows() -> None:
    plain = GeometrySettings()
    assert "measures" not in plain.identity()["settings"]  # type: ignore[operator]
    assert GeometrySettings(measures=("gain",)).identity() != plain.identity()
    assert not [key for key in rows_of(edited(), plain) if key[0].startswith(("row_cosine", "singular_value_gain"))]


def test_figures_of_the_solver_are_rows_where_a_sweep_asks_for_them() -> None:
    model = tiny_llama()
    sites = model.open_sites([0, 1])
    scalars = {"solve/0/residual": 1e-12, "solve/0/condition": 8.0, "solve/1/condition": 2.0, "rule/0/z": 3.0}
    subject = Subject(model, (), 4, scalars=scalars)
    rows = Geometry(GeometrySettings(solver=True, bound=False, spectra=False, previous=False)).score(subject).rows
    found = {(row.metric, row.site): row.value for row in rows if row.metric.startswith("solve_")}
    assert found == {
        ("solve_residual", sites[0].name): 1e-12,
        ("solve_condition", sites[0].name): 8.0,
        ("solve_condition", sites[1].name): 2.0,
        ("solve_residual", None): 1e-12,
        ("solve_condition", None): 5.0,
    }
    plain = GeometrySettings(bound=False, spectra=False, previous=False)
    assert not any(row.metric.startswith("solve_") for row in Geometry(plain).score(subject).rows)
    assert "solver" not in plain.identity()["settings"]
