"""Samples of the edits so far: seeded, in proportion to age, and honest about their spread."""

import numpy as np
import pytest
from eval_parts import by_name, golden_requests, tiny_llama

from evaluators.base import Subject
from evaluators.edit_quality.evaluator import EditQuality, EditQualitySettings
from evaluators.edit_quality.sample import EditSample, sample_edits


def drawn(edits: int, size: int, seed: int) -> EditSample:
    sample = sample_edits(edits, size, seed)
    assert sample is not None
    return sample


def test_a_sample_is_seeded_and_in_proportion_to_age() -> None:
    sample = drawn(1000, 100, seed=3)
    assert sample.places == drawn(1000, 100, seed=3).places
    assert sample.places != drawn(1000, 100, seed=4).places
    assert len(set(sample.places)) == 100
    assert sorted(sample.places) == list(sample.places)
    assert np.histogram(sample.places, bins=10, range=(0.5, 1000.5))[0].tolist() == [10] * 10
    assert sample_edits(100, 100, seed=3) is None


@pytest.mark.parametrize(("edits", "size"), [(7, 1), (7, 2), (11, 10), (23, 9), (101, 37)])
def test_weights_sum_to_one_whatever_the_rounding(edits: int, size: int) -> None:
    sample = drawn(edits, size, seed=0)
    places = np.array(sample.places)
    assert len(places) == size
    assert places.min() >= 1
    assert places.max() <= edits
    assert sample.weights(places).sum() == pytest.approx(1)
    assert sample.weights(places[: max(1, size // 2)]).sum() == pytest.approx(1)


def test_old_choices_are_kept_at_the_next_checkpoint() -> None:
    before, after = (set(drawn(edits, 200, seed=1).places) for edits in (1000, 1100))
    assert len(before & after) > 140


def test_the_interval_covers_the_score_of_all_edits() -> None:
    """Success falls with age, as forgetting makes it; 95 % intervals over 300 seeds."""
    rng = np.random.default_rng(0)
    values = (rng.random(2000) < np.linspace(0.1, 0.95, 2000)).astype(float)
    covered, stratified, plain = 0, [], []
    for seed in range(300):
        sample = drawn(2000, 200, seed)
        places = np.array(sample.places)
        chosen = values[places - 1]
        estimate, spread = sample.weights(places) @ chosen, sample.stderr(places, chosen)
        assert spread is not None
        covered += abs(estimate - values.mean()) <= 1.96 * spread
        stratified.append(spread)
        plain.append(chosen.std(ddof=1) / np.sqrt(200))
    assert covered >= 280
    assert np.mean(stratified) < 0.9 * np.mean(plain)


def test_a_sampled_checkpoint_asks_those_edits_alone() -> None:
    requests, model = golden_requests(), tiny_llama()
    whole = EditQuality(EditQualitySettings()).score(Subject(model, requests, edits=24))
    part = EditQuality(EditQualitySettings(sample=10, seed=5)).score(Subject(model, requests, edits=24))
    sample = drawn(24, 10, seed=5)
    probes = part.tables["probes"].to_pylist()
    assert {row["edit"] for row in probes} == set(sample.places)
    known = {(row["edit"], row["probe"]): row for row in whole.tables["probes"].to_pylist()}
    for row in probes:
        expected = known[row["edit"], row["probe"]]
        assert row["nll_mean"] == pytest.approx(expected["nll_mean"], abs=1e-5)
        assert row["correct"] == expected["correct"]
    assert by_name(part.rows)["efficacy", "argmax", None].n == 10
