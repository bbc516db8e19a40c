"""What the solver returns beside an update: figures against slow dense forms, in every form, and what it refuses."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from method_parts import editor, moments, run, values
from site_parts import normal
from tiny_models import tiny_model

from sphere_core.checkpoints import EditorState
from sphere_core.foundation.errors import InputError
from sphere_core.hyperparameters import build_hyperparameters
from sphere_core.methods import resolve_method
from sphere_core.moments.null_space import projector_subspace
from sphere_core.numerics.linalg import Subspace
from sphere_core.solver import (
    HostPrior,
    KeyHistory,
    MomentPrior,
    NullSpacePrior,
    Prior,
    least_squares_solution,
    least_squares_update,
)
from sphere_core.solver.forms import CARRIED, DENSE, MEMORY, REDUCED, chosen_form
from sphere_core.solver.solution import figures_at, with_figures

WIDTH = 12
EYE = torch.eye(WIDTH, dtype=torch.float64)


def prior_of(kind: str, seed: int) -> tuple[Prior, torch.Tensor, torch.Tensor]:
    """Return a prior, its projector P and its precision Pi inside P."""
    samples = normal(seed, WIDTH, 3 * WIDTH)
    second = samples @ samples.T / samples.shape[1]
    if kind != "null space":
        prior = MomentPrior(second, weight=3.0, ridge=0.1, width=WIDTH)
        return HostPrior(prior) if kind == "host" else prior, EYE, 3.0 * second + 0.1 * EYE
    vectors = torch.linalg.eigh(second).eigenvectors
    space = Subspace(vectors[:, 5:], complement=True)
    return NullSpacePrior(space, 0.7), vectors[:, :5] @ vectors[:, :5].T, 0.7 * EYE


def histories(prior: Prior, keys: torch.Tensor, weight: float) -> dict[str, KeyHistory]:
    """The same earlier keys in each form that can hold them."""
    columns = KeyHistory().append(keys)
    found = {DENSE: KeyHistory(gram=keys.double() @ keys.double().T)}
    if columns.gram is None:
        found[MEMORY] = columns
        found[CARRIED] = KeyHistory().append(keys, prior=prior, weight=weight, reduces=False)
    if 2 * keys.shape[1] >= WIDTH:
        found[REDUCED] = KeyHistory().append(keys, prior=prior, weight=weight)
    return found


@given(
    seed=st.integers(0, 99),
    kind=st.sampled_from(["moment", "host", "null space"]),
    earlier=st.integers(1, 14),
    count=st.integers(1, 4),
    weight=st.sampled_from([1.0, 0.25]),
)
@settings(max_examples=40)
def test_figures_are_those_of_the_dense_system_in_every_form(
    seed: int, kind: str, earlier: int, count: int, weight: float
) -> None:
    prior, projector, precision = prior_of(kind, seed)
    before, keys, residuals = normal(seed + 1, WIDTH, earlier), normal(seed + 2, WIDTH, count), normal(seed, 3, count)
    past = precision + weight * projector @ before @ before.T @ projector
    covariance = projector @ torch.linalg.inv(past) @ projector
    core = torch.eye(count, dtype=torch.float64) + keys.T @ covariance @ keys
    change = residuals @ torch.linalg.solve(past + projector @ keys @ keys.T @ projector, projector @ keys).T
    for form, history in histories(prior, before, weight).items():
        solution = least_squares_solution(prior, history, keys, residuals, history_weight=weight)
        assert solution.form == (DENSE if form == MEMORY and earlier + count >= WIDTH else form)
        assert torch.equal(
            solution.update.dense(),
            least_squares_update(prior, history, keys, residuals, history_weight=weight).dense(),
        )
        figures = solution.figures
        assert figures is not None
        assert float(figures.residual) < 1e-10
        assert float(figures.condition) == pytest.approx(float(torch.linalg.eigvalsh(core)[-1]), rel=1e-7)
        assert float(figures.condition) >= float(torch.linalg.cond(core)) * (1 - 1e-7)
        missing = torch.linalg.vector_norm(residuals - change @ keys) / torch.linalg.vector_norm(residuals)
        assert float(figures.shortfall) == pytest.approx(float(missing), rel=1e-7)


def test_with_an_error_fed_back_the_residual_is_that_of_the_whole_right_hand_side() -> None:
    prior, _, precision = prior_of("moment", 1)
    keys, residuals, correction = normal(2, WIDTH, 3), normal(3, 4, 3), normal(4, 4, WIDTH)
    plain = least_squares_solution(prior, KeyHistory(), keys, residuals)
    solution = least_squares_solution(prior, KeyHistory(), keys, residuals, correction)
    slow = torch.linalg.solve(precision + keys @ keys.T, (residuals @ keys.T + correction).T).T
    assert torch.allclose(solution.update.dense(), slow, atol=1e-10)
    assert (plain.form, solution.form) == (MEMORY, DENSE)
    assert plain.figures is not None
    assert solution.figures is not None
    assert float(solution.figures.residual) < 1e-12
    assert float(solution.figures.condition) == pytest.approx(float(plain.figures.condition))
    missing = torch.linalg.vector_norm(residuals - slow @ keys) / torch.linalg.vector_norm(residuals)
    assert float(solution.figures.shortfall) == pytest.approx(float(missing))


def test_the_residual_shows_that_digits_are_lost() -> None:
    """A prior that is nearly flat in some directions: fewer digits are right, and the residual says so."""
    found = []
    for smallest in (1.0, 1e-12):
        scale = torch.logspace(0, math.log10(smallest), WIDTH, dtype=torch.float64)
        turn = torch.linalg.qr(normal(5, WIDTH, WIDTH)).Q
        prior = MomentPrior(turn @ (scale[:, None] * turn.T), weight=1.0, ridge=0.0, width=WIDTH)
        figures = least_squares_solution(prior, KeyHistory(), normal(6, WIDTH, 3), normal(7, 2, 3)).figures
        assert figures is not None
        found.append(figures)
    assert float(found[0].residual) < 1e-14
    assert float(found[1].residual) > 1e3 * float(found[0].residual)
    assert float(found[1].condition) > 1e6 * float(found[0].condition)


def test_what_is_not_finite_has_no_figures_and_no_stale_ones_stay() -> None:
    prior, _, _ = prior_of("moment", 1)
    keys = normal(2, WIDTH, 2)
    good = least_squares_solution(prior, KeyHistory(), keys, normal(3, 4, 2))
    bad = least_squares_solution(prior, KeyHistory(), keys * math.nan, normal(3, 4, 2))
    assert good.figures is not None
    assert bad.figures is None
    assert bad.update.dense().isnan().all()
    state = with_figures(EditorState(), "0", good.figures)
    assert set(figures_at(state.scalars, "0")) == {"residual", "condition", "shortfall"}
    assert figures_at({f"editor/{name}": value for name, value in state.scalars.items()}, "0")
    assert figures_at(state.scalars, "10") == {}
    assert with_figures(state, "0", None).scalars == {}


def test_a_second_moment_that_is_singular_is_refused_by_name() -> None:
    samples = normal(1, WIDTH, WIDTH - 2).float().double()
    rank_deficient = samples @ samples.T
    by_rounding = rank_deficient + 1e-17 * torch.linalg.matrix_norm(rank_deficient, 2) * EYE
    for moment in (rank_deficient - 1e-9 * EYE, by_rounding):
        prior = MomentPrior(moment, weight=1.0, ridge=0.0, width=WIDTH)
        with pytest.raises(InputError, match=r"the second moment C0 is (not positive definite|singular in float64)"):
            least_squares_update(prior, KeyHistory(), normal(2, WIDTH, 2), normal(3, 3, 2))
        with_ridge = MomentPrior(moment, weight=1.0, ridge=1e-3, width=WIDTH)
        assert least_squares_update(with_ridge, KeyHistory(), normal(2, WIDTH, 2), normal(3, 3, 2)).is_finite()


@pytest.mark.parametrize("method", ["alphaedit", "evoedit"])
def test_a_null_space_without_a_direction_is_refused_by_name(method: str) -> None:
    model = tiny_model("llama")
    given = {name: value for name, value in values(method).items() if name != "nullspace_share"}
    hyperparameters = build_hyperparameters({**given, "nullspace_threshold": 1e-20}, where="test")
    with pytest.raises(InputError, match="no eigenvalue of C0 is below the threshold"):
        resolve_method(method).build(hyperparameters, moments(model))
    with pytest.raises(InputError, match="the projector is empty"):
        projector_subspace(torch.zeros(4, 4), where="test")


SOLVED = ["memit", "memit_seq", "encore", "alphaedit", "evoedit", "lyaplock", "nse", "memit_seq+rect+error_feedback"]


@pytest.mark.parametrize("method", [*SOLVED, "alphaedit+gate", "rome+simie", "emmet"])
def test_every_closed_form_row_keeps_the_figures_of_its_latest_solve(method: str) -> None:
    model = tiny_model("llama")
    last = run(method, model, count=4)[-1]
    for layer in values(method)["layers"]:
        figures = figures_at(last.state.scalars, str(layer))
        if method == "rome+simie":
            assert figures == {}
            continue
        assert set(figures) == {"residual", "condition", "shortfall"}
        assert 0 <= figures["residual"] < 1e-6
        assert figures["condition"] >= 1
        assert figures["shortfall"] >= 0


def test_an_equality_has_no_figures() -> None:
    model = tiny_model("llama")
    assert figures_at(run("emmet", model, count=1)[-1].state.scalars, "1") == {}
    assert not editor("rome", model).read_out(model)


def test_the_form_depends_on_sizes_alone() -> None:
    plain = {"carried": False, "reduced": False, "corrected": False}
    assert chosen_form(width=12, count=3, kept=8, **plain) == MEMORY
    assert chosen_form(width=12, count=4, kept=8, **plain) == DENSE
    assert chosen_form(width=12, count=1, kept=None, **plain) == DENSE
    assert chosen_form(width=12, count=1, kept=0, **{**plain, "reduced": True}) == REDUCED
    assert chosen_form(width=12, count=1, kept=4, **{**plain, "carried": True}) == CARRIED
    assert chosen_form(width=12, count=1, kept=4, **{**plain, "carried": True, "corrected": True}) == DENSE
