"""`sphere correlate` on rows whose correlations are known: from row files to tables and a figure."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest
from scipy.stats import spearmanr
from store_parts import put_checkpoint
from typer.testing import CliRunner

from evaluators.base import Health, Score, make_score
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from workflows.commands.correlate import app
from workflows.replicas.row_writer import SubjectColumns, encode_rows
from workflows.results.figures.correlation import correlation_figure
from workflows.results.formats.correlation_view import bound_arrow, correlations_answer, correlations_markdown
from workflows.results.sql.connect import connect
from workflows.results.tables.correlation import (
    ALL_METHODS,
    WITHIN_METHODS,
    bound_rows,
    correlations,
    later_scores,
    observations,
    scores_in,
    with_published,
)
from workflows.store.plan import Evaluation, PublishedEntry, SweepPlan, TrajectoryPlan

EDITS = (10, 20, 30, 40)
SEEDS = range(5)
POOLED = (ALL_METHODS, WITHIN_METHODS)
GEOMETRY, QUALITY = Evaluation(kind="geometry", id="a" * 12), Evaluation(kind="edit_quality", id="b" * 12)
HEALTH = Health(10, 0, 0)


def trajectory(method: str, seed: int) -> TrajectoryPlan:
    return TrajectoryPlan(
        id=f"{method}{seed}".ljust(16, "x"),
        model="m",
        model_digest="d" * 64,
        dtype="float32",
        title=method,
        method=method,
        editor=method,
        regularizer=None,
        dataset="data",
        order="canonical",
        seed=seed,
        batch_size=10,
        edits=EDITS[-1],
        stream_digest="s" * 64,
        wanted=EDITS,
        moments=None,
        evaluations=(GEOMETRY, QUALITY),
    )


def plain(metric: str, protocol: str, value: float, site: str | None = None) -> Score:
    return make_score(metric, protocol, value, None, n=1, health=HEALTH, higher_is_better=None, site=site)


def figures(method: str, seed: int, edits: int) -> tuple[float, float]:
    """A drift whose sign differs between the two sites, and an efficacy that falls with its size."""
    drift = edits * (1 + seed % 3) / (1000 if method == "slow" else 200) + seed / 5000
    return drift, 1 - drift - 0.001 * ((seed * 7 + edits) % 5)


def geometry_rows(method: str, seed: int, edits: int) -> list[Score]:
    drift, _ = figures(method, seed, edits)
    rows = [plain("he_drift", "exact", sign * drift, site) for sign, site in ((-1.5, "one"), (0.5, "two"))]
    rows += [plain("delta_norm", "exact", edits + (seed * edits) % 7, site) for site in ("one", "two")]
    for protocol, ratio in (("orthonormal", 0.5 if edits == 40 else 4.0), ("moments", 2.0)):
        rows += [plain("output_change_ratio", protocol, ratio + place, f"{place}") for place in range(2)]
    return rows


def write(root: Path, plan: TrajectoryPlan, edits: int, evaluation: Evaluation, scores: list[Score]) -> None:
    shared = SubjectColumns(
        trajectory_id=plan.id,
        model=plan.model,
        model_digest=plan.model_digest,
        dtype=plan.dtype,
        method=plan.method,
        editor=plan.editor,
        regularizer=None,
        dataset=plan.dataset,
        stream_order=plan.order,
        seed=plan.seed,
        batch_size=10,
        edits=edits,
        stream_digest=plan.stream_digest,
        weights_digest="w",
        evaluator=evaluation.kind,
        evaluation_id=evaluation.id,
    )
    Storage(root).write_bytes(plan.rows_path(edits, evaluation), encode_rows(shared, scores))
    put_checkpoint(Storage(root), plan, edits)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    plans = tuple(trajectory(method, seed) for method in ("slow", "fast") for seed in SEEDS)
    sweep = SweepPlan(name="known", trajectories=plans, bases=(), recipes=())
    Storage(folder).write_bytes("plan.json", sweep.model_dump_json().encode())
    for plan in plans:
        for edits in EDITS:
            _, efficacy = figures(plan.title, plan.seed, edits)
            write(folder, plan, edits, GEOMETRY, geometry_rows(plan.title, plan.seed, edits))
            # Seed 4 of the fast method ends collapsed: its efficacy would be chance, and is no number.
            lost = plan.title == "fast" and plan.seed == 4 and edits == 40
            health = Health(10, 1, 0) if lost else HEALTH
            quality = [
                make_score(metric, protocol, efficacy, None, n=10, health=health, higher_is_better=True)
                for metric, protocol in (("efficacy", "argmax"), ("efficacy", "probability"))
            ]
            constant = make_score("specificity", "argmax", 0.5, None, n=10, health=HEALTH, higher_is_better=True)
            write(folder, plan, edits, QUALITY, [*quality, constant])
    return folder


@pytest.fixture(scope="module")
def views(root: Path) -> Iterator[tuple[duckdb.DuckDBPyConnection, SweepPlan]]:
    plan = SweepPlan.model_validate_json((root / "plan.json").read_text())
    with connect(Storage(root), plan, views=("rows",)) as connection:
        yield connection, plan


def test_what_is_correlated(views: tuple) -> None:
    found = observations(*views)
    assert len(found) == 2 * len(SEEDS) * len(EDITS)
    for checkpoint in found:
        drift, _ = figures(checkpoint.method, int(checkpoint.trajectory[4]), checkpoint.edits)
        # The mean over sites of absolute values, not the absolute value of the mean.
        assert checkpoint.values["he_drift"] == pytest.approx(drift)
        assert {"output_change_ratio/moments", "output_change_ratio/orthonormal"} <= set(checkpoint.values)
    assert scores_in(found, []) == ["efficacy (argmax)", "specificity (argmax)"]
    assert scores_in(found, ["efficacy"]) == ["efficacy (argmax)", "efficacy (probability)"]
    # A metric of several words, as rows and as tables spell it.
    spelt = [replace(found[0], values={"byte perplexity (wiki, lm_eval-0.4)": 2.0})]
    assert scores_in(spelt, ["byte_perplexity"]) == scores_in(spelt, ["byte perplexity"]) == list(spelt[0].values)
    with pytest.raises(InputError, match="efficacy"):
        scores_in(found, ["eficacy"])
    with pytest.raises(InputError, match="he_drift"):
        correlations(found, ["he_drif"], ["efficacy (argmax)"], resamples=100, seed=0)


def test_within_methods_and_pooled(views: tuple) -> None:
    found = observations(*views)
    results = correlations(found, ["he_drift"], ["efficacy (argmax)", "specificity (argmax)"], resamples=300, seed=0)
    assert [(row.score.split()[0], row.method) for row in results] == [
        (score, method) for score in ("efficacy", "specificity") for method in ("slow", "fast", *POOLED)
    ]
    for row in results[:4]:
        chosen = [c for c in found if row.method in (c.method, *POOLED)]
        kept = [c for c in chosen if c.values["efficacy (argmax)"] is not None]
        assert (row.checkpoints, row.collapsed) == (len(kept), len(chosen) - len(kept))
        assert row.collapsed == (0 if row.method == "slow" else 1)
        pairs = [(c.values["he_drift"], c.values["efficacy (argmax)"]) for c in kept]
        if row.method != WITHIN_METHODS:
            assert row.spearman.value == pytest.approx(spearmanr(*zip(*pairs, strict=True)).statistic)
        assert row.spearman.low <= row.spearman.value <= row.spearman.high
        assert row.partial.value is not None
        assert row.trajectories == len(SEEDS) * (2 if row.method in POOLED else 1)
    assert {row.spearman.note for row in results[4:]} == {"a constant"}
    # Every method has the same sign, and so has what is left when methods may not differ.
    by_method = {row.method: row.spearman.value for row in results[:4]}
    low, high = sorted((by_method["slow"], by_method["fast"]))
    assert low - 0.05 <= by_method[WITHIN_METHODS] <= high + 0.05


def test_the_size_of_the_change_given_itself_is_nothing(views: tuple) -> None:
    (row,) = correlations(
        [c for c in observations(*views) if c.method == "slow"],
        ["delta_norm"],
        ["efficacy (argmax)"],
        resamples=100,
        seed=0,
    )
    assert row.spearman.value is not None
    assert (row.partial.value, row.partial.note) == (None, "determined by what is held fixed")


def test_the_bounds_ratio(views: tuple) -> None:
    rows = {(row.method, row.edits, row.protocol): row for row in bound_rows(views[0])}
    assert len(rows) == 2 * len(EDITS) * 2
    early, late = rows["slow", 10, "orthonormal"], rows["slow", 40, "orthonormal"]
    assert (early.n, early.smallest, early.median, early.largest, early.below_one) == (10, 4, 4.5, 5, 0)
    assert (late.n, late.smallest, late.below_one) == (10, 0.5, 5)


def test_the_command(root: Path, views: tuple, tmp_path: Path) -> None:
    def call(*arguments: str) -> str:
        done = CliRunner().invoke(app, [str(root), "--resamples", "100", *arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    path = tmp_path / "figure.svg"
    text = call("--figure", str(path))
    assert "| efficacy (argmax)" in text
    assert "n/a (a constant)" in text
    assert "5 of 10" in text
    drawn = path.read_text(encoding="utf-8")
    for words in ("efficacy (argmax)", "fast", "orthonormal inputs"):
        assert words in drawn
    record = json.loads(call("--format", "json"))
    assert len(record["correlations"]) == 8
    assert len(record["bound"]) == 16
    lines = list(csv.DictReader(io.StringIO(call("--format", "csv"))))
    assert float(lines[0]["spearman"]) == record["correlations"][0]["spearman"]["value"]
    assert bound_arrow(bound_rows(views[0])).num_rows == 16


def test_a_lag_pairs_a_figure_with_the_score_of_a_later_checkpoint(root: Path, views: tuple) -> None:
    found = later_scores(observations(*views), 20)
    assert {one.edits for one in found} == {10, 20}
    for row in correlations(found, ["he_drift"], ["efficacy (argmax)"], resamples=100, seed=0):
        if row.method != "slow":
            continue
        pairs = [
            (abs(figures(row.method, seed, edits)[0]), figures(row.method, seed, edits + 20)[1])
            for seed in SEEDS
            for edits in (10, 20)
        ]
        assert row.checkpoints == len(pairs)
        assert row.spearman.value == pytest.approx(spearmanr(*zip(*pairs, strict=True)).statistic)
    lagged = CliRunner().invoke(app, [str(root), "--resamples", "100", "--lag", "20", "--format", "json"])
    assert {row["lag"] for row in json.loads(lagged.output)["correlations"]} == {20}
    text = CliRunner().invoke(app, [str(root), "--resamples", "100", "--lag", "20", "--format", "md"]).output
    assert "efficacy (argmax), 20 edits later" in text
    with pytest.raises(InputError, match="no two checkpoints of a trajectory are 15 edits apart") as raised:
        later_scores(observations(*views), 15)
    assert "10, 20, 30" in str(raised.value)


def test_equal_figures_are_equal_bytes(views: tuple) -> None:
    found = observations(*views)
    correlated = correlations(found, ["he_drift"], ["efficacy (argmax)"], resamples=100, seed=0)
    first, again = (correlation_figure(found, correlated, [], form="svg") for _ in range(2))
    assert first == again
    assert correlation_figure(found, correlated, [], form="png").startswith(b"\x89PNG")


def test_wrong_figures_and_empty_sweeps_are_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        CliRunner().invoke(app, [str(root), "--figure", "drift.jpg"], catch_exceptions=False)
    empty = SweepPlan(name="empty", trajectories=(), bases=(), recipes=())
    Storage(tmp_path).write_bytes("plan.json", empty.model_dump_json().encode())
    with pytest.raises(InputError, match="no checkpoint has rows of geometry"):
        CliRunner().invoke(app, [str(tmp_path)], catch_exceptions=False)


def test_published_correlations_are_beside_ours_and_are_no_scores(views: tuple) -> None:
    _, plan = views
    common = {"source": "a paper", "model": "m", "edits": 40, "metrics": ("efficacy",)}
    correlation = PublishedEntry(
        **common, dataset="data", protocol="argmax", against="he_drift", values={"slow": (-0.96,), "other": (0.5,)}
    )
    elsewhere = PublishedEntry(**common, dataset="else", protocol="argmax", against="he_drift", values={"fast": (0.1,)})
    score = PublishedEntry(**common, dataset="data", protocol="argmax", values={"fast": (0.25,)})
    papers = plan.model_copy(update={"published": (correlation, elsewhere, score)})
    assert papers.published_scores == (score,)
    ours = correlations(observations(*views), ["he_drift"], ["efficacy (argmax)"], resamples=100, seed=0)
    beside = with_published(ours, papers)
    assert {row.method: row.published for row in beside} == {
        "slow": -0.96,
        "fast": None,
        ALL_METHODS: None,
        WITHIN_METHODS: None,
    }
    assert "published ρ" not in correlations_markdown(ours, [])
    lines = correlations_markdown(beside, []).splitlines()
    assert next(line for line in lines if "| slow" in line).count("-0.96") == 1
    answer = correlations_answer(beside, [], flat="correlations")
    assert answer.table.column("published").to_pylist() == [row.published for row in beside]
