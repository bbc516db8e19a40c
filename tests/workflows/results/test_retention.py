"""What became of every edit, against loops over the same answers."""

import csv
import io
import shutil
import uuid
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from retention_parts import BATCH, CHECKPOINTS, Answers, answered_sweep, asked, probes_table, publish_probes, rows_of
from store_parts import QUALITY, put_checkpoint, put_scores, trajectory
from typer.testing import CliRunner

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from workflows.commands.retention import app
from workflows.results.sql.sweep_roots import SweepRoot
from workflows.results.tables.retention import retention_sql, retention_table
from workflows.store.layout import details_path, scored_name
from workflows.store.plan import SweepPlan


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Storage, SweepPlan, Answers]:
    return answered_sweep(tmp_path_factory.mktemp("sweep"))


def written(edit: int) -> int:
    return -(-edit // BATCH) * BATCH


def wilson(p: float, n: int) -> tuple[float, float]:
    """The roots of (p - q)^2 = z^2 q (1 - q) / n in q."""
    z2 = 1.959964**2
    low, high = sorted(np.roots([1 + z2 / n, -(2 * p + z2 / n), p * p]).real)
    return max(low, 0), min(high, 1)


def of_method(plan: SweepPlan, method: str) -> list[str]:
    return [t.id for t in plan.trajectories if t.title == method]


def test_curves_cohorts_and_ages(sweep: tuple[Storage, SweepPlan, Answers]) -> None:
    _, plan, answers = sweep

    def check(rows: list[dict], belongs) -> None:
        assert rows
        for row in rows:
            right = [
                good
                for key in of_method(plan, row["method"])
                for edit, good, _ in answers[key, row["edits"]]
                if belongs(row, edit)
            ]
            assert (row["n"], row["seeds"]) == (len(right), 2)
            assert row["rate"] == pytest.approx(np.mean(right))
            assert (row["low"], row["high"]) == pytest.approx(wilson(float(np.mean(right)), len(right)))

    check(rows_of(sweep, "curve"), lambda row, edit: True)

    def in_cohort(row: dict, edit: int) -> bool:
        kind, _, size = row["cohort"].partition(" ")
        return kind == "all" or (edit <= int(size) if kind == "first" else edit > row["edits"] - int(size))

    rows = rows_of(sweep, "cohorts", cohort=3)
    assert {row["cohort"] for row in rows} == {"all", "first 3", "latest 3"}
    check(rows, in_cohort)
    rows = rows_of(sweep, "ages", batches=2)
    assert {row["age_from"] for row in rows} == {0, 4, 8, 12}
    check(rows, lambda row, edit: row["age_from"] <= row["edits"] - written(edit) <= row["age_to"])


def test_every_edit_has_its_facts(sweep: tuple[Storage, SweepPlan, Answers]) -> None:
    _, plan, answers = sweep
    rows = rows_of(sweep, "edits")
    assert len(rows) == 4 * 14
    for row in rows:
        key = next(t.id for t in plan.trajectories if (t.title, t.seed) == (row["method"], row["seed"]))
        told = {
            edits: (good, margin)
            for edits in CHECKPOINTS
            for edit, good, margin in answers[key, edits]
            if edit == row["edit"]
        }
        first = min(edits for edits in CHECKPOINTS if edits >= written(row["edit"]))
        assert (row["installed_at"], row["installed"]) == (first, told[first][0])
        assert row["strength"] == pytest.approx(told[first][1], abs=1e-6)
        lost = [edits for edits, (good, _) in told.items() if not good and edits > first]
        assert row["first_lost"] == (min(lost, default=None) if told[first][0] else None)
        assert row["kept"] == (told[14][0] if 14 in told else None)
        assert row["case_id"] == f"case {row['edit']}"
    assert [row["kept"] for row in rows if row["edit"] == 3] == [None] * 4
    assert len(rows_of(sweep, "survival")) == sum(map(len, answers.values()))


def test_summary_areas_and_order(sweep: tuple[Storage, SweepPlan, Answers]) -> None:
    _, plan, answers = sweep
    edits = rows_of(sweep, "edits")
    areas = {(row["method"], row["cohort"]): row for row in rows_of(sweep, "auc")}
    for row in rows_of(sweep, "summary"):
        mine = [edit for edit in edits if edit["method"] == row["method"]]
        installed = [edit for edit in mine if edit["installed"] and edit["kept"] is not None]
        lost = sum(not edit["kept"] for edit in installed)
        assert row["forgotten"] == pytest.approx(lost / len(installed))
        assert (row["low"], row["high"]) == pytest.approx(wilson(lost / len(installed), len(installed)))
        ever = [edit for edit in mine if edit["first_lost"] is not None]
        assert row["monotone"] == pytest.approx(np.mean([edit["last_right"] < edit["first_lost"] for edit in ever]))
        asked_last = [edit for edit in mine if edit["kept"] is not None]
        finals = [np.mean([edit["kept"] for edit in asked_last if edit["seed"] == seed]) for seed in (0, 1)]
        assert row["final"] == pytest.approx(np.mean(finals))
        assert row["final_sd"] == pytest.approx(np.std(finals, ddof=1))
        ours = [area["auc"] for (method, _), area in areas.items() if method == row["method"]]
        assert row["auc"] == pytest.approx(np.mean([auc for auc in ours if auc is not None]))
    for (method, cohort), area in areas.items():
        curves = [
            [
                (edits, np.mean([good for edit, good, _ in answers[key, edits] if cohort - 4 < edit <= cohort]))
                for edits in CHECKPOINTS
                if edits >= cohort
            ]
            for key in of_method(plan, method)
        ]
        if cohort < 14:
            times = [edits for edits, _ in curves[0]]
            means = [np.trapezoid([rate for _, rate in curve], times) / (times[-1] - times[0]) for curve in curves]
            assert area["auc"] == pytest.approx(np.mean(means))
        else:
            assert area["auc"] is None
    assert [(row["method"], row["stream_order"], row["seeds"]) for row in rows_of(sweep, "order")] == [
        ("memit", "shuffled", 2),
        ("alphaedit", "canonical", 2),
    ]


def test_the_other_measure_asks_who_won(sweep: tuple[Storage, SweepPlan, Answers]) -> None:
    _, plan, answers = sweep
    row = rows_of(sweep, "curve", measure="probability")[-1]
    margins = [margin for key in of_method(plan, row["method"]) for _, _, margin in answers[key, 14]]
    assert row["rate"] == pytest.approx(np.mean([margin > 0 for margin in margins]))
    assert row["margin"] == pytest.approx(np.mean(margins), abs=1e-6)


@pytest.mark.parametrize("dead", [{"finite": False}, {"tied": True}], ids=["not finite", "all logits equal"])
def test_a_collapsed_trajectory_takes_the_numbers_away(dead: dict[str, bool]) -> None:
    storage = Storage(f"memory://{uuid.uuid4().hex}/sweep")
    plans = [trajectory("memit", seed, edits=8, wanted=(4, 8)) for seed in (0, 1)]
    for plan, whole in zip(plans, (True, False), strict=True):
        for edits in (4, 8):
            put_checkpoint(storage, plan, edits)
            told = [(edit, edits == 4 or whole, 1.0) for edit in range(1, edits + 1)]
            publish_probes(storage, plan, edits, probes_table(told, **({} if whole or edits == 4 else dead)))
            put_scores(storage, plan, edits, 0.5, 0.5)
    sweep = (storage, SweepPlan(name="s", trajectories=tuple(plans), bases=(), recipes=()), {})
    curve = [(row["rate"], row["high"], row["collapsed"]) for row in rows_of(sweep, "curve")]
    assert curve == [(1.0, 1.0, 0), (None, None, 1)]
    assert [row["rate"] for row in rows_of(sweep, "cohorts") if row["edits"] == 8] == [None] * 3
    (row,) = rows_of(sweep, "summary")
    assert row["collapsed"] == 1
    assert {row[name] for name in ("immediate", "final", "forgotten", "low", "monotone", "auc")} == {None}
    (row,) = rows_of(sweep, "order")
    assert (row["immediate"], row["final"], row["collapsed"]) == (None, None, 1)
    early, late = rows_of(sweep, "auc")
    assert (early["immediate"], early["final"]) == (1.0, None)
    assert (late["immediate"], late["final"]) == (None, None)
    assert {row["case_id"] for row in rows_of(sweep, "edits")} == {None}


def test_what_is_not_stored_is_named(sweep: tuple[Storage, SweepPlan, Answers], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no paraphrase probe") as raised:
        rows_of(sweep, "curve", role="paraphrase")
    assert "rewrite under correct" in raised.value.remedy
    empty = SweepPlan(name="s", trajectories=sweep[1].trajectories, bases=(), recipes=())
    with pytest.raises(InputError, match="no scored probes"):
        retention_table([SweepRoot.of(Storage(tmp_path), empty)], asked("curve"))


def test_the_printed_query_runs_as_it_stands(sweep: tuple[Storage, SweepPlan, Answers]) -> None:
    storage, plan, _ = sweep
    subjects = [scored_name(t.id, edits) for t in plan.trajectories for edits in CHECKPOINTS]
    paths = [storage.local_path(details_path("probes", subject, QUALITY.id)) for subject in subjects]
    files = "[" + ", ".join(f"'{path}'" for path in paths) + "]"
    with duckdb.connect() as connection:
        columns = {
            "model": "model",
            "dataset": "dataset",
            "stream_order": "order",
            "method": "title",
            "stream": "dataset",
        }
        columns |= {
            "stream": "dataset",
            "seed": "seed",
            "batch_size": "batch_size",
            "planned_edits": "edits",
            "trajectory_id": "id",
        }
        records = [
            {"place": place, **{name: getattr(t, source) for name, source in columns.items()}}
            for place, t in enumerate(plan.trajectories)
        ]
        connection.register("trajectories", pa.Table.from_pylist(records))
        found = connection.execute(retention_sql(asked("curve")).replace("PROBES", files)).fetchall()
    assert len(found) == 2 * len(CHECKPOINTS)


def test_the_command_prints_and_writes(sweep: tuple[Storage, SweepPlan, Answers], tmp_path: Path) -> None:
    root, runner = str(sweep[0].local_path()), CliRunner()
    shown = runner.invoke(app, [root, "survival"]).stdout
    assert shown.startswith("m; facts") or "| stream" in shown
    # In a pipe nothing is cut.
    assert len(shown.splitlines()) > 80
    out = tmp_path / "edits.csv"
    assert runner.invoke(app, [root, "edits", "--format", "csv", "--out", str(out)]).exit_code == 0
    assert len(list(csv.DictReader(io.StringIO(out.read_text())))) == 4 * 14
    assert runner.invoke(app, [root, "auc", "--sql"]).stdout == retention_sql(asked("auc"))
    with pytest.raises(InputError, match="needs a file"):
        runner.invoke(app, [root, "--format", "parquet"], catch_exceptions=False)


def test_a_trajectory_of_two_roots_counts_once(tmp_path: Path) -> None:
    """Seeds of one method that two roots hold are pooled, as if one root held them."""
    storage, plan, _ = answered_sweep(tmp_path / "a")
    whole = retention_table([SweepRoot.of(storage, plan)], asked("summary"))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    half = plan.model_copy(update={"trajectories": plan.trajectories[1:]})
    roots = [SweepRoot.of(storage, plan), SweepRoot.of(Storage(tmp_path / "b"), half)]
    assert retention_table(roots, asked("summary")).equals(whole)
    # Each root holds what the other lacks.
    first = plan.model_copy(update={"trajectories": plan.trajectories[:1]})
    roots = [SweepRoot.of(storage, first), SweepRoot.of(Storage(tmp_path / "b"), half)]
    assert retention_table(roots, asked("summary")).equals(whole)
