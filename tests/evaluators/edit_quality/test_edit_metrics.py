"""Edit-quality rows as pure functions of a probe table."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from eval_parts import by_name

from evaluators.edit_quality.encoding import Pair
from evaluators.edit_quality.pair_scores import PairScores
from evaluators.edit_quality.probes import ProbeTable
from evaluators.edit_quality.rows import edit_scores
from evaluators.statistics import harmonic_mean

ROLES = ("rewrite", "paraphrase", "neighborhood")


def test_equal_logits_tie_whatever_the_targets_length() -> None:
    """log V averaged over 1 and over 3 tokens differs by rounding, which must not decide a comparison."""
    flat = np.log(800.0)
    nll = np.array([flat, np.nextafter(flat, 0)])
    table = table_of([("rewrite", 1, 0), ("rewrite", 0, 1)], nll)
    row = by_name(edit_scores(table, cohort=None, protocol="correct"))["efficacy", "probability", None]
    assert (row.status, row.tied) == ("collapsed", 2)


def table_of(probes: list[tuple[str, int, int]], nll: np.ndarray, **columns: np.ndarray) -> ProbeTable:
    """One probe an edit; `probes` are (role, target, contrast)."""
    count = len(nll)
    scores = PairScores(
        nll_mean=nll,
        nll_sum=nll,
        tokens=np.ones(count, dtype=int),
        exact=np.zeros(count, dtype=bool),
        token_accuracy=np.zeros(count),
        finite=np.isfinite(nll),
        tied=np.zeros(count, dtype=bool),
        predicted=np.zeros(count, dtype=int),
    )
    return ProbeTable(
        edit=np.arange(1, len(probes) + 1),
        probe=np.zeros(len(probes), dtype=int),
        role=np.array([role for role, _, _ in probes], dtype=object),
        target=np.array([target for _, target, _ in probes]),
        contrast=np.array([contrast for _, _, contrast in probes]),
        unit=np.arange(len(probes)),
        pairs=tuple(Pair(f"prompt {place}", "target") for place in range(count)),
        scores=replace(scores, **columns),
    )


def test_health_is_counted_where_it_belongs() -> None:
    nll = np.array([1.0, 2.0, 3.0, np.nan])
    probes = [("rewrite", 0, 1), ("rewrite", 1, 2), ("rewrite", 0, 0), ("neighborhood", 0, 3)]
    rows = by_name(edit_scores(table_of(probes, nll), cohort=None, protocol="correct"))
    efficacy = rows["efficacy", "probability", None]
    assert (efficacy.status, efficacy.n, efficacy.nonfinite, efficacy.tied) == ("ok", 3, 0, 1)
    assert efficacy.value == pytest.approx(2 / 3)
    specificity = rows["specificity", "probability", None]
    assert (specificity.status, specificity.value, specificity.nonfinite) == ("collapsed", None, 1)
    # The argmax protocol looks at the target alone.
    assert rows["specificity", "argmax", None].nonfinite == 0


def test_half_tied_is_still_a_score_and_more_is_not() -> None:
    nll = np.array([1.0, 2.0])
    half = [("rewrite", 0, 1), ("rewrite", 0, 0)]
    for probes, status in ((half, "ok"), ([*half, ("rewrite", 1, 1)], "collapsed")):
        assert edit_scores(table_of(probes, nll), cohort=None, protocol="correct")[0].status == status


def test_a_score_with_a_collapsed_part_is_collapsed() -> None:
    nll = np.array([1.0, 2.0, np.nan])
    roles = [(role, 0, 1) for role in ROLES for _ in range(4)]
    rows = by_name(edit_scores(table_of(roles, nll), cohort=None, protocol="correct"))
    assert rows["score", "probability", None].value == 1.0
    rows = by_name(edit_scores(table_of([*roles, ("neighborhood", 0, 2)], nll), cohort=None, protocol="correct"))
    assert rows["efficacy", "probability", None].value == 1.0
    assert rows["score", "probability", None].status == "collapsed"
    tied = [(role, 0, 0 if role == "rewrite" else 1) for role in ROLES for _ in range(4)]
    rows = by_name(edit_scores(table_of(tied, nll), cohort=None, protocol="correct"))
    assert rows["specificity", "probability", None].value == 1.0
    score = rows["score", "probability", None]
    assert (score.status, score.tied, score.nonfinite) == ("collapsed", 4, 0)


def test_averages_are_taken_inside_a_record_first() -> None:
    nll = np.array([1.0, 2.0])
    table = table_of([("paraphrase", 0, 1)] * 3 + [("paraphrase", 1, 0)], nll)
    table = replace(table, edit=np.array([1, 1, 1, 2]))
    row = edit_scores(table, cohort=None, protocol="correct")[0]
    assert (row.value, row.n) == (0.5, 2)
    assert row.stderr == pytest.approx(np.std([1, 0], ddof=1) / np.sqrt(2))


def test_harmonic_score_and_its_jackknife() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(5)
    nll = np.array([1.0, 2.0])
    probes, edits, values = [], [], {role: np.zeros(30) for role in ROLES}
    for edit, role in product(range(30), ROLES):
        won = rng.random(2) < 0.7
        values[role][edit] = won.mean()
        probes += [(role, 0, 1) if hit else (role, 1, 0) for hit in won]
        edits += [edit + 1] * 2
    table = replace(table_of(probes, nll), edit=np.array(edits))
    row = by_name(edit_scores(table, cohort=None, protocol="correct"))["score", "probability", None]
    assert row.value == pytest.approx(stats.hmean([values[role].mean() for role in ROLES]), abs=1e-12)
    without = [stats.hmean([np.delete(values[role], i).mean() for role in ROLES]) for i in range(30)]
    assert row.stderr == pytest.approx(np.sqrt(29 / 30 * ((without - np.mean(without)) ** 2).sum()), rel=1e-9)
    assert harmonic_mean(np.array([0.0, 1.0, 1.0])) == 0.0
