"""Rank correlations against scipy's and their plain definition; bootstrap samples against samples written out."""

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr

from workflows.results.tables.rank_correlation import LEAST_UNITS, _bootstrap, _coefficients, rank_correlation


def partial(x: np.ndarray, y: np.ndarray, controls: list[np.ndarray]) -> float:
    """Correlate what least squares on the controls' ranks leaves of the ranks of x and y."""
    design = np.stack([np.ones(len(x)), *[rankdata(control) for control in controls]], axis=1)
    rest = []
    for values in (rankdata(x), rankdata(y)):
        weights, *_ = np.linalg.lstsq(design, values, rcond=None)
        rest.append(values - design @ weights)
    return float(np.corrcoef(*rest)[0, 1])


def data(count: int = 40, *, ties: bool = False) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    rng = np.random.default_rng(7)
    edits, size = rng.integers(1, 6, count) * 100.0, rng.normal(size=count)
    x, y = edits / 300 + rng.normal(size=count), -edits / 200 - size + rng.normal(size=count)
    return (np.round(x), np.round(y), [edits, size]) if ties else (x, y, [edits, size])


def units_of(count: int, each: int = 5) -> list[str]:
    return [f"t{place // each}" for place in range(count)]


@pytest.mark.parametrize("ties", [False, True])
def test_plain_and_partial_coefficients(ties: bool) -> None:
    x, y, controls = data(ties=ties)
    units = units_of(len(x))
    strata = ["one"] * len(x)
    plain = rank_correlation(x, y, [], units, strata, resamples=200, seed=0)
    assert plain.value == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)
    for held in ([controls[0]], controls):
        found = rank_correlation(x, y, held, units, strata, resamples=200, seed=0)
        assert found.value == pytest.approx(partial(x, y, held), abs=1e-10)
        assert found.low < found.value < found.high
    # Controls that say the same twice are held fixed once.
    twice = rank_correlation(x, y, [controls[0], 3 * controls[0]], units, strata, resamples=200, seed=0)
    assert twice.value == pytest.approx(partial(x, y, [controls[0]]), abs=1e-9)


def test_a_bootstrap_sample_is_the_sample_written_out() -> None:
    x, y, controls = data(ties=True)
    units = units_of(len(x))
    drawn = [0, 3, 3, 5, 7, 7, 7, 1]
    rows = np.concatenate([np.flatnonzero(np.array(units) == f"t{unit}") for unit in drawn])
    weights = np.array([[drawn.count(int(unit[1:])) for unit in units]], dtype=float)
    every = [np.arange(len(x))]
    assert _coefficients(np.array([x, y]), weights, every)[0] == pytest.approx(spearmanr(x[rows], y[rows]).statistic)
    expected = partial(x[rows], y[rows], [control[rows] for control in controls])
    assert _coefficients(np.array([x, y, *controls]), weights, every)[0] == pytest.approx(expected)


def test_intervals_resample_trajectories_within_their_method() -> None:
    """Two methods that differ and do not vary: every stratified sample gives the same coefficient."""
    x, y = [1.0, 2.0] * 10, [5.0, 6.0] * 10
    units, strata = [f"{i % 2}-{i}" for i in range(20)], [str(i % 2) for i in range(20)]
    every = [np.arange(20)]
    np.testing.assert_allclose(_bootstrap(np.array([x, y]), units, strata, every, resamples=300, seed=0), 1)
    # Checkpoints of one trajectory repeat one another: forty of five are worth five.
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=5), rng.normal(size=5)
    x, y, strata = np.repeat(a, 8), np.repeat(b, 8), ["m"] * 40
    repeated, alone = (rank_correlation(x, y, [], units_of(40, n), strata, resamples=500, seed=0) for n in (8, 1))
    assert repeated.high - repeated.low > 1.5 * (alone.high - alone.low)


def test_intervals_cover_what_they_should() -> None:
    """Of 200 data sets with rho = 0, between 88 and 99 % have 0 inside."""
    rng = np.random.default_rng(3)
    inside = 0
    for _ in range(200):
        x, y = rng.normal(size=(2, 30))
        found = rank_correlation(x, y, [], units_of(30, 1), ["m"] * 30, resamples=200, seed=1)
        inside += found.low <= 0 <= found.high
    assert 176 <= inside <= 198


def test_equal_seeds_give_equal_intervals() -> None:
    x, y, controls = data()
    one, same, other = (
        rank_correlation(x, y, controls, units_of(40), ["m"] * 40, resamples=500, seed=seed) for seed in (0, 0, 1)
    )
    assert one == same
    assert one != other


def test_what_cannot_be_had_says_why() -> None:
    x, y, _ = data(20)
    many, strata = units_of(20, 2), ["m"] * 20

    def note(*args: object) -> tuple[float | None, str | None]:
        found = rank_correlation(*args, resamples=100, seed=0)
        assert found.low is found.high is None
        return found.value, found.note

    assert note(x[:1], y[:1], [], many[:1], strata[:1]) == (None, "1 checkpoints")
    assert note([], [], [], [], []) == (None, "0 checkpoints")
    assert note(np.ones(20), y, [], many, strata) == (None, "a constant")
    assert note(x, y, [x], many, strata) == (None, "determined by what is held fixed")
    value, why = note(x, y, [], units_of(20, 10), strata)
    assert (value, why) == (pytest.approx(spearmanr(x, y).statistic), "no interval: 2 trajectories")
    assert LEAST_UNITS > 2
    # One trajectory differs from all others: samples without it are constant.
    lone = np.array([1.0] * 18 + [2.0, 3.0])
    assert note(lone, y, [], many, strata)[1] == "no interval: undefined in bootstrap samples"


@pytest.mark.parametrize("sizes", [(30, 30), (40, 16, 25)])
def test_ranked_within_strata_is_its_plain_definition(sizes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(5)
    strata = [f"m{place}" for place, size in enumerate(sizes) for _ in range(size)]
    shift = np.repeat(np.arange(len(sizes)) * 10.0, sizes)
    edits = rng.integers(1, 6, len(strata)) * 100.0
    x = edits / 300 + rng.normal(size=len(strata)) + shift
    y = -edits / 200 + rng.normal(size=len(strata)) - shift
    units = [f"{name}-{place % 5}" for place, name in enumerate(strata)]

    def ranks(values: np.ndarray) -> np.ndarray:
        found = np.empty(len(values))
        for name in set(strata):
            own = np.flatnonzero(np.array(strata) == name)
            found[own] = rankdata(values[own]) / len(own)
            found[own] -= found[own].mean()
        return found

    plain = rank_correlation(x, y, [], units, strata, resamples=200, seed=0, within=True)
    assert plain.value == pytest.approx(np.corrcoef(ranks(x), ranks(y))[0, 1], abs=1e-12)
    slope = ranks(edits) / (ranks(edits) @ ranks(edits))
    rest = [ranks(values) - (slope @ ranks(values)) * ranks(edits) for values in (x, y)]
    held = rank_correlation(x, y, [edits], units, strata, resamples=200, seed=0, within=True)
    assert held.value == pytest.approx(np.corrcoef(*rest)[0, 1], abs=1e-10)
    assert held.low < held.value < held.high


def test_what_only_methods_differ_in_is_gone_within_them() -> None:
    """x and y are unrelated in each of two methods, and both are higher in one of them."""
    rng = np.random.default_rng(9)
    strata = ["low"] * 40 + ["high"] * 40
    x, y = rng.normal(size=(2, 80)) + 10 * (np.array(strata) == "high")
    units = [f"{name}-{place % 8}" for place, name in enumerate(strata)]
    pooled, within = (
        rank_correlation(x, y, [], units, strata, resamples=200, seed=0, within=inside) for inside in (False, True)
    )
    assert pooled.low > 0.5
    assert within.low < 0 < within.high
