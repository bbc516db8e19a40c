"""Timings as rows and their table: complete, of this plan alone, and with the records of earlier releases."""

import math
from pathlib import Path

import pytest
from store_parts import GEOMETRY, QUALITY, base, trajectory

from sphere_core.foundation.storage import Storage
from workflows.results.formats.timings_view import timings_answer
from workflows.results.sql.connect import connect
from workflows.results.sql.sweep_roots import SweepRoot
from workflows.results.sql.timing_table import WHOLE
from workflows.results.tables.timings import stage_totals
from workflows.store.layout import base_name, scored_name, timed_work, timing_path
from workflows.store.plan import SweepPlan
from workflows.store.records import EditTiming, ScoreTiming

CARD = {"device": "card", "threads": 1, "versions": {"torch": "2", "python": "3"}}


def sweep(tmp_path: Path) -> tuple[Storage, SweepPlan]:
    first, second = trajectory("memit", 0), trajectory("ft", 0)
    storage = Storage(tmp_path)

    def edit(name: str, edits: int, seconds: float, **stages: object) -> None:
        timing = EditTiming(edits=edits, attempt=1, seconds=seconds, edits_in_lap=4, **stages)
        timing.write(storage, timing_path("edit", scored_name(name, edits)))

    edit(first.id, 4, 8.0, stages={"targets": 6.0, "other": 2.0}, beside={"checkpoint": 9.0}, **CARD)
    edit(first.id, 8, 4.0, stages={"targets": 4.0, "other": 0.0}, **CARD)
    edit(second.id, 4, 1.0)
    edit("another", 4, 99.0)
    scored = ScoreTiming(seconds=7.0, rows=3, stages={"score": 7.0}, **CARD)
    scored.write(storage, timing_path(QUALITY.kind, f"{scored_name(first.id, 4)}-{QUALITY.id}"))
    scored.write(storage, timing_path(QUALITY.kind, f"{base_name(first.model_digest)}-{QUALITY.id}"))
    storage.write_bytes(timing_path(GEOMETRY.kind, f"{scored_name(first.id, 4)}-{GEOMETRY.id}"), b"{")
    return storage, SweepPlan(name="s", trajectories=(first, second), bases=(base(QUALITY, 0),), recipes=())


def test_a_row_for_each_stage_of_this_plan(tmp_path: Path) -> None:
    storage, plan = sweep(tmp_path)
    with connect(storage, plan, views=("stages",)) as connection:
        rows = connection.sql("FROM stages").to_arrow_table().to_pylist()
    assert len(rows) == 3 + 2 + 1 + 2
    assert {row["stage"] for row in rows if row["trajectory_id"] == plan.trajectories[1].id} == {WHOLE}
    assert {(row["edits"], row["model"], row["method"]) for row in rows if row["trajectory_id"] is None} == {
        (0, "m", "(unedited)")
    }
    assert {row["versions"] for row in rows if row["stage"] == "score"} == {"python 3, torch 2"}


def test_the_table_adds_up_and_what_ran_beside_has_no_share(tmp_path: Path) -> None:
    totals = stage_totals(SweepRoot.of(*sweep(tmp_path))).to_pylist()
    shares = {(total["method"], total["work"], total["stage"]): total["share"] for total in totals}
    assert math.isclose(sum(share for share in shares.values() if share), 1)
    assert shares["memit", "edit", "targets"] == 10 / 27
    beside = next(total for total in totals if total["beside"])
    assert (beside["stage"], beside["seconds"], beside["share"]) == ("checkpoint", 9.0, None)
    assert next(total["per_edit"] for total in totals if total["stage"] == "targets") == 10 / 8
    order = [(total["method"], total["work"], total["stage"]) for total in totals]
    assert order == [
        ("(unedited)", "edit_quality", "score"),
        ("memit", "edit", "targets"),
        ("memit", "edit", "other"),
        ("memit", "edit", "checkpoint"),
        ("memit", "edit_quality", "score"),
        ("ft", "edit", WHOLE),
    ]


def test_without_timings_it_says_so(tmp_path: Path) -> None:
    plan = SweepPlan(name="s", trajectories=(trajectory("memit", 0),), bases=(), recipes=())
    answer = timings_answer(stage_totals(SweepRoot.of(Storage(tmp_path), plan)))
    assert answer.table.num_rows == 0
    assert "No timings" in answer.notes[0]


@pytest.mark.parametrize(
    ("stage", "name", "expected"),
    [
        ("edit", scored_name("0f", 40), (None, "0f", 40, None)),
        ("tune", scored_name("0f", 1_000_000), (None, "0f", 1_000_000, None)),
        ("geometry", f"{scored_name('0f', 0)}-ab12", (None, "0f", 0, "ab12")),
        ("general", f"{base_name('c3' * 20)}-ab12", (base_name("c3" * 20), None, 0, "ab12")),
    ],
)
def test_a_path_says_what_it_was_made_of(stage: str, name: str, expected: tuple[object, ...]) -> None:
    found = timed_work(timing_path(stage, name))
    assert found is not None
    assert found.stage == stage
    assert (found.base, found.trajectory_id, found.position, found.evaluation_id) == expected


@pytest.mark.parametrize("path", ["timings/edit/0f.json", "timings/edit/0f-last.json", "rows/edit/0f-000040.json"])
def test_another_path_is_of_no_timing(path: str) -> None:
    assert timed_work(path) is None
