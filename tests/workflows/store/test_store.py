"""Row files, the state derived from files, and the tables made of them."""

import csv
import io
import json
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from store_parts import GEOMETRY, QUALITY, base, put_checkpoint, put_scores, score, shared, trajectory

from evaluators.base import Score
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from workflows.replicas.row_writer import RowsConflictError, SubjectColumns, encode_rows, publish_rows
from workflows.results.formats.arrow_formats import arrow_csv, arrow_parquet
from workflows.results.formats.results_view import results_arrow, results_markdown
from workflows.results.sql.connect import UNEDITED
from workflows.results.sql.sweep_roots import SweepRoot
from workflows.results.tables.table import column_group, results_table
from workflows.store.layout import (
    PLAN_FILE,
    attempt_path,
    checkpoints_folder,
    error_path,
    lease_path,
    progress_path,
    stopped_path,
)
from workflows.store.lease import LeaseLostError, read_lease, require_lease, take_lease
from workflows.store.plan import SweepPlan, read_plan
from workflows.store.records import Lease
from workflows.store.row_reader import read_rows
from workflows.store.row_schema import ROW_SCHEMA
from workflows.store.state import derive_state


@pytest.fixture(params=["local", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return Storage(tmp_path / "sweep" if request.param == "local" else f"memory://{uuid.uuid4().hex}/sweep")


def test_equal_scores_give_equal_bytes_of_the_declared_schema() -> None:
    plan = trajectory("memit", 0)
    scores = [score("score", "argmax", 0.5), score("general_mean", "lm_eval", None, "suite")]
    data = encode_rows(shared(plan, 4, QUALITY), scores)
    assert data == encode_rows(shared(plan, 4, QUALITY), scores)
    table = pq.read_table(io.BytesIO(data))
    assert table.schema.equals(ROW_SCHEMA)
    assert table.column("status").to_pylist() == ["ok", "collapsed"]
    assert table.column("value").to_pylist() == [0.5, None]
    assert table.column("edits").to_pylist() == [4, 4]


def test_rows_are_published_once_and_other_numbers_raise_the_alarm(storage: Storage) -> None:
    plan = trajectory("memit", 0)
    first = encode_rows(shared(plan, 4, QUALITY), [score("score", "argmax", 0.5)])
    publish_rows(storage, "rows/x.parquet", first)
    publish_rows(storage, "rows/x.parquet", first)
    # The same weights under another name of the model are the same rows; the first name stands.
    renamed = trajectory("memit", 0, model="elsewhere")
    publish_rows(storage, "rows/x.parquet", encode_rows(shared(renamed, 4, QUALITY), [score("score", "argmax", 0.5)]))
    other = encode_rows(shared(plan, 4, QUALITY), [score("score", "argmax", 0.5000001)])
    with pytest.raises(RowsConflictError, match=r"other numbers.*run with --retry-failed"):
        publish_rows(storage, "rows/x.parquet", other)
    assert storage.read_bytes("rows/x.parquet") == first


def test_a_row_cannot_lack_what_every_row_has() -> None:
    plan = trajectory("memit", 0, model="m")
    faulty = shared(plan, 4, QUALITY)
    with pytest.raises((pa.ArrowInvalid, ValueError)):
        encode_rows(
            SubjectColumns(**{**faulty.__dict__, "edits": None}),  # type: ignore[arg-type]
            [score("score", "argmax", 0.5)],
        )


def test_a_later_attempt_fences_an_earlier_one(storage: Storage) -> None:
    first, second = Lease(attempt=1, owner="a:1"), Lease(attempt=2, owner="b:2")
    take_lease(storage, "t", first)
    assert storage.read_bytes(lease_path("t")) == b'{"attempt": 1, "owner": "a:1"}'
    require_lease(storage, "t", first)
    take_lease(storage, "t", second)
    with pytest.raises(LeaseLostError, match="attempt 2 by b:2"):
        require_lease(storage, "t", first)
    with pytest.raises(LeaseLostError):
        take_lease(storage, "t", first)
    with pytest.raises(LeaseLostError):
        take_lease(storage, "t", Lease(attempt=2, owner="c:3"))
    require_lease(storage, "t", second)


@pytest.mark.parametrize("torn", [b"", b'{"attempt": 3, "ow', b"[]", b'{"attempt": null, "owner": "a:1"}', b"\xff"])
def test_a_lease_that_cannot_be_read_is_nobodys(storage: Storage, torn: bytes) -> None:
    held = Lease(attempt=3, owner="a:1")
    take_lease(storage, "t", held)
    for attempt in (1, 2, 3):
        storage.write_bytes(attempt_path("t", attempt), b"{}")
    storage.write_bytes(lease_path("t"), torn)
    with pytest.raises(LeaseLostError, match="attempt 3 by a lease that cannot be read"):
        require_lease(storage, "t", held)
    standing = read_lease(storage, "t")
    assert standing is not None
    following = Lease(attempt=standing.attempt + 1, owner="b:2")
    assert following.attempt == 4
    take_lease(storage, "t", following)
    require_lease(storage, "t", following)
    with pytest.raises(LeaseLostError, match="attempt 4 by b:2"):
        require_lease(storage, "t", held)


def test_a_lease_torn_before_any_attempt_began_counts_as_none(storage: Storage) -> None:
    storage.write_bytes(lease_path("t"), b"")
    take_lease(storage, "t", Lease(attempt=1, owner="a:1"))
    require_lease(storage, "t", Lease(attempt=1, owner="a:1"))


def test_folders_and_verdicts_that_are_none_are_passed_over(storage: Storage) -> None:
    plan = trajectory("memit", 0)
    put_checkpoint(storage, plan, 4)
    for name in ("manifest.json", "weights.safetensors"):
        storage.write_bytes(f"{checkpoints_folder(plan.id)}/000008.old/{name}", b"{}")
    storage.write_bytes(stopped_path(plan.id), b"")
    found = derive_state(storage, SweepPlan(name="s", trajectories=(plan,), bases=(), recipes=())).trajectories[0]
    assert (found.published, found.stopped, found.state) == ((4,), None, "paused")


def test_states_come_from_files(storage: Storage) -> None:
    names = ("planned", "running", "paused", "silent", "edited", "done", "failed", "collapsed")
    plans = {name: trajectory(name, 0) for name in names}
    put_checkpoint(storage, plans["paused"], 4)
    for name, at in (("running", 4e9), ("silent", 1.0)):
        record = {"state": "running", "edits": 2, "edits_per_second": 1.5, "at": at}
        storage.write_bytes(progress_path(plans[name].id), json.dumps(record).encode())
    for name in ("edited", "done"):
        put_checkpoint(storage, plans[name], 4)
        put_checkpoint(storage, plans[name], 8)
        put_scores(storage, plans[name], 4, 0.5, 0.6)
    put_scores(storage, plans["done"], 8, 0.4, 0.5)
    storage.write_bytes(error_path(plans["failed"].id), json.dumps({"error": "E", "message": "m"}).encode())
    put_checkpoint(storage, plans["collapsed"], 4)
    put_checkpoint(storage, plans["collapsed"], 6, collapsed=True)
    for edits in (4, 6):
        put_scores(storage, plans["collapsed"], edits, None, None)
    state = derive_state(storage, SweepPlan(name="s", trajectories=tuple(plans.values()), bases=(), recipes=()))
    found = {t.plan.title: t for t in state.trajectories}
    assert {name: found[name].state for name in names} == {**{n: n for n in names}, "silent": "paused"}
    assert found["edited"].missing == ((8, QUALITY), (8, GEOMETRY))
    assert found["collapsed"].to_score == (4, 6)
    assert found["running"].edits_done == 2
    assert [failure.error for failure in state.failures] == ["E"]
    assert not state.is_complete


@pytest.fixture
def scored(storage: Storage) -> tuple[Storage, SweepPlan]:
    plans = [trajectory(name, seed) for name in ("memit", "alphaedit") for seed in (0, 1)]
    # One seed of alphaedit has collapsed, one of memit has not finished.
    for plan, final in zip(plans, (0.2, None, 0.6, None), strict=True):
        put_checkpoint(storage, plan, 4)
        put_scores(storage, plan, 4, 0.8, 0.9)
        if plan.title == "memit" and plan.seed == 1:
            continue
        put_checkpoint(storage, plan, 8)
        put_scores(storage, plan, 8, final, final)
    bases = [base(QUALITY.model_copy(update={"id": f"b{seed}"}), seed) for seed in (0, 1)]
    bases.append(base(GEOMETRY.model_copy(update={"id": "bg"}), None))
    for plan, value in zip(bases[:2], (0.1, 0.3), strict=True):
        rows = encode_rows(shared(plan, 0, plan.evaluation), [score("score", "argmax", value)])
        publish_rows(storage, plan.rows_path, rows)
    rows = encode_rows(shared(bases[2], 0, bases[2].evaluation), [score("he_drift", "exact", 0.0)])
    publish_rows(storage, bases[2].rows_path, rows)
    plan = SweepPlan(name="s", trajectories=tuple(plans), bases=tuple(bases), recipes=())
    storage.write_bytes(PLAN_FILE, plan.model_dump_json().encode())
    return storage, plan


def test_the_table_means_over_seeds_at_the_end(scored: tuple[Storage, SweepPlan]) -> None:
    table = results_table(SweepRoot.of(*scored), by_edits=False)
    rows = {row.method: row for row in table.rows}
    assert [row.method for row in table.rows] == [UNEDITED, "memit", "alphaedit"]
    assert table.columns == ("score (argmax)", "score (probability)", "HE drift")
    unedited = rows[UNEDITED].cells["score (argmax)"]
    assert (unedited.mean, unedited.n) == (pytest.approx(0.2), 2)
    assert unedited.sd == pytest.approx(0.1414213562)
    assert "score (probability)" not in rows[UNEDITED].cells
    assert (rows["memit"].seeds, rows["memit"].planned) == (1, 2)
    assert rows["memit"].cells["score (argmax)"].text() == "0.200"
    assert rows["alphaedit"].cells["score (argmax)"].text() == "collapsed 1/2"
    assert rows["alphaedit"].cells["HE drift"].mean == pytest.approx(0.08)


def test_every_protocol_has_a_column_and_a_group_of_its_own(storage: Storage) -> None:
    plan = trajectory("memit", 0)
    put_checkpoint(storage, plan, 4)
    put_checkpoint(storage, plan, 8)
    names = ("paper-sphere/probability", "paper-memit/probability", "probability", "greedy/contains")
    scores = [score("efficacy", name, place / 10) for place, name in enumerate(names)]
    scores.append(score("score_arithmetic", "paper-sphere/probability", 0.9))
    publish_rows(storage, plan.rows_path(8, QUALITY), encode_rows(shared(plan, 8, QUALITY), scores))
    table = results_table(
        SweepRoot.of(storage, SweepPlan(name="s", trajectories=(plan,), bases=(), recipes=())), by_edits=False
    )
    assert table.columns == (
        "efficacy (probability)",
        "efficacy (greedy/contains)",
        "efficacy (paper-memit/probability)",
        "efficacy (paper-sphere/probability)",
        "score_arithmetic (paper-sphere/probability)",
    )
    assert [column_group(name) for name in table.columns] == [*names[2:], names[1], names[0], names[0]]
    assert [table.rows[0].cells[name].text() for name in table.columns[:3]] == ["0.200", "0.300", "0.100"]


def test_what_is_missing_is_listed(scored: tuple[Storage, SweepPlan]) -> None:
    storage, plan = scored
    text = results_markdown(results_table(SweepRoot.of(storage, plan), by_edits=False))
    assert "| memit      | 1 of 2 | 0.200" in text
    assert "collapsed 1/2" in text
    assert f"- {plan.trajectories[1].id} m memit seed 1: paused, 4/8 edits" in text


def test_the_table_by_edits_has_every_checkpoint(scored: tuple[Storage, SweepPlan]) -> None:
    table = results_table(SweepRoot.of(*scored), by_edits=True)
    assert [(row.method, row.edits) for row in table.rows] == [
        (UNEDITED, 0),
        ("memit", 4),
        ("memit", 8),
        ("alphaedit", 4),
        ("alphaedit", 8),
    ]
    assert table.rows[1].cells["score (argmax)"].n == 2


def test_csv_and_parquet_hold_the_same_and_no_mean_of_survivors(scored: tuple[Storage, SweepPlan]) -> None:
    table = results_table(SweepRoot.of(*scored), by_edits=False)
    records = list(csv.DictReader(io.StringIO(arrow_csv(results_arrow(table)))))
    assert [record["method"] for record in records] == [UNEDITED, "memit", "alphaedit"]
    assert records[2]["score (argmax) mean"] == ""
    assert records[2]["score (argmax) collapsed"] == "1"
    assert float(records[1]["score (argmax) mean"]) == 0.2
    flat = pq.read_table(io.BytesIO(arrow_parquet(results_arrow(table))))
    assert flat.column_names == list(records[0])
    assert flat.column("score (argmax) mean").to_pylist() == [pytest.approx(0.2), 0.2, None]


@pytest.mark.parametrize(("raised", "told"), [(1, "failed 1/2"), (2, "failed")])
def test_a_failed_score_takes_the_mean_of_its_seeds_away(storage: Storage, raised: int, told: str) -> None:
    plans = tuple(trajectory("memit", seed) for seed in (0, 1))
    failed = Score("score", "argmax", None, None, 10, 0, 0, "failed", True, reason="it raised")
    for plan in plans:
        put_checkpoint(storage, plan, 4)
        put_checkpoint(storage, plan, 8)
        found = failed if plan.seed < raised else score("score", "argmax", 0.9)
        publish_rows(storage, plan.rows_path(8, QUALITY), encode_rows(shared(plan, 8, QUALITY), [found]))
    table = results_table(
        SweepRoot.of(storage, SweepPlan(name="s", trajectories=plans, bases=(), recipes=())), by_edits=False
    )
    cell = table.rows[0].cells["score (argmax)"]
    assert (cell.text(), cell.mean, cell.sd, cell.n) == (told, None, None, 2)
    (record,) = csv.DictReader(io.StringIO(arrow_csv(results_arrow(table))))
    assert (record["score (argmax) mean"], record["score (argmax) failed"]) == ("", str(raised))


def test_rows_of_other_sweeps_stay_out(scored: tuple[Storage, SweepPlan]) -> None:
    storage, plan = scored
    before = read_rows(storage, plan).num_rows
    put_scores(storage, trajectory("other", 0), 8, 0.9, 0.9)
    assert read_rows(storage, plan).num_rows == before


def test_a_folder_without_a_plan_is_refused(storage: Storage) -> None:
    with pytest.raises(InputError, match=r"no plan\.json"):
        read_plan(storage)
