"""The public views: documented columns, unedited values, older files, several roots, the command."""

import io
import json
from pathlib import Path

import duckdb
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import sphere
from store_parts import GEOMETRY, QUALITY, base, put_checkpoint, score, shared, trajectory

import workflows.api as api
from evaluators.base import Score
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from workflows.replicas.row_writer import encode_rows, publish_rows
from workflows.results.sql.connect import connect_roots
from workflows.results.sql.sweep_roots import open_roots
from workflows.results.sql.view_columns import VIEW_COLUMNS
from workflows.store.layout import PLAN_FILE, spec_path, timing_path
from workflows.store.plan import SweepPlan, TrajectoryPlan
from workflows.store.row_reader import read_rows
from workflows.store.row_schema import RENAMED, SCHEMA_VERSION


def site_score(metric: str, value: float, site: str | None) -> Score:
    return Score(metric, "exact", value, None, 1, 0, 0, "ok", False, site, None)


def write_sweep(root: Path, *names: str, value: float = 0.5, seeds: tuple[int, ...] = (0, 1)) -> Storage:
    """Two seeds of each method, scored at their ends by edit quality and by geometry at two sites."""
    storage = Storage(root)
    plans = [trajectory(name, seed, wanted=(8,)) for name in names for seed in seeds]
    bases = [base(QUALITY.model_copy(update={"id": f"b{seed}"}), seed) for seed in seeds]
    bases.append(base(GEOMETRY.model_copy(update={"id": "g"}), None).model_copy(update={"layers": (0, 1)}))
    for one in bases:
        kept = [score("efficacy", "argmax", 0.1 * (one.seed or 0)), score("new", "argmax", 0.5)]
        if one.seed is None:
            kept = [site_score("he", 2.0, "a"), site_score("he", 4.0, "b"), site_score("he", 3.0, None)]
        publish_rows(storage, one.rows_path, encode_rows(shared(one, 0, one.evaluation), kept))
    for plan in plans:
        put_checkpoint(storage, plan, 8)
        put_rows(storage, plan, [score("efficacy", "argmax", value), score("lonely", "argmax", 1.0)])
        figures = [site_score("he", 2.5, "a"), site_score("he", 4.5, "b"), site_score("he", 3.5, None)]
        publish_rows(storage, plan.rows_path(8, GEOMETRY), encode_rows(shared(plan, 8, GEOMETRY), figures))
        spec = {"threads": 2, "moments": {"tokens": 99}, "hyperparameters": {"layers": [0, 1], "strength": 0.25}}
        storage.write_bytes(spec_path(plan.id), json.dumps(spec).encode())
        timing = {"edits": 8, "seconds": 4.0, "edits_in_lap": 8, "device": "cpu", "attempt": 1}
        timing["versions"] = {"sphere": "9.9", "commit": "abc", "torch": "2"}
        storage.write_bytes(timing_path("edit", f"{plan.id}-000008"), json.dumps(timing).encode())
    sweep = SweepPlan(name="s", trajectories=tuple(plans), bases=tuple(bases), recipes=())
    storage.write_bytes(PLAN_FILE, sweep.model_dump_json().encode())
    return storage


def put_rows(storage: Storage, plan: TrajectoryPlan, scores: list[Score]) -> None:
    publish_rows(storage, plan.rows_path(8, QUALITY), encode_rows(shared(plan, 8, QUALITY), scores))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("views") / "it's"
    write_sweep(folder, "memit", "alphaedit")
    return folder


def test_every_view_has_the_columns_that_are_documented(root: Path) -> None:
    with connect_roots(open_roots([str(root)])) as connection:
        for name, view in VIEW_COLUMNS.items():
            found = {row[0]: row[1] for row in connection.sql(f"DESCRIBE {name}").fetchall()}
            assert found == {column: kind for column, (kind, _) in view.columns.items()}
            assert all(meaning for _, meaning in view.columns.values())


def test_no_column_needs_quotes_in_sql() -> None:
    with duckdb.connect() as connection:
        for name, view in VIEW_COLUMNS.items():
            columns = ", ".join(f"1 AS {column}" for column in view.columns)
            connection.execute(f"CREATE VIEW {name} AS SELECT {columns}")
            connection.execute(f"SELECT {', '.join(view.columns)} FROM {name}")


def test_each_score_has_the_unedited_model_of_its_own_stream_beside_it(root: Path) -> None:
    found = api.open_sweep(root=str(root)).sql(
        "SELECT DISTINCT seed, metric, unedited, round(change, 3) AS change FROM scores ORDER BY ALL"
    )
    assert [tuple(row.values()) for row in found.to_pylist()] == [
        (0, "efficacy", 0.0, 0.5),
        (0, "lonely", None, None),
        (1, "efficacy", 0.1, 0.4),
        (1, "lonely", None, None),
    ]


def test_sites_and_their_mean_are_in_views_of_their_own(root: Path) -> None:
    sweep = api.open_sweep(root=str(root))
    sites = sweep.sql("SELECT site, value, unedited, change FROM geometry WHERE method = 'memit' AND seed = 0")
    means = sweep.sql("SELECT value, unedited, change FROM geometry_means WHERE method = 'memit' AND seed = 0")
    assert sorted(map(tuple, (row.values() for row in sites.to_pylist()))) == [("a", 2.5, 2, 0.5), ("b", 4.5, 4, 0.5)]
    assert [tuple(row.values()) for row in means.to_pylist()] == [(3.5, 3.0, 0.5)]


def test_hyperparameters_cost_and_code_are_columns_of_trajectories(root: Path) -> None:
    found = api.open_sweep(root=str(root)).view("trajectories").to_pylist()
    wanted = {"hp_strength": 0.25, "hp_layers": [0, 1], "hp_rect_keep": None, "threads": 2, "moments_tokens": 99}
    wanted |= {"edit_seconds": 4.0, "edits_per_second": 2.0, "device": "cpu", "code_version": "9.9"}
    wanted["code_commit"] = "abc"
    assert len(found) == 4
    assert all({name: row[name] for name in wanted} == wanted for row in found)


def test_files_of_the_schema_before_have_the_columns_of_today(root: Path, tmp_path: Path) -> None:
    storage = write_sweep(tmp_path, "memit", seeds=(0,))
    plan = api.open_sweep(root=str(tmp_path)).plan.trajectories[0]
    path = plan.rows_path(8, QUALITY)
    old = pq.read_table(io.BytesIO(storage.read_bytes(path)))
    old = old.rename_columns([{new: name for name, new in RENAMED.items()}.get(n, n) for n in old.column_names])
    old = old.set_column(0, "schema_version", pa.array([3] * old.num_rows, pa.int32()))
    storage.delete(path)
    assert "order" in old.column_names
    sink = io.BytesIO()
    pq.write_table(old, sink)
    storage.write_bytes(path, sink.getvalue())
    scores = api.open_sweep(root=str(tmp_path)).view("scores").to_pylist()
    assert {(row["stream_order"], row["value"]) for row in scores} == {("shuffled", 0.5), ("shuffled", 1.0)}
    rows = read_rows(storage, api.open_sweep(root=str(tmp_path)).plan)
    assert set(rows["schema_version"].to_pylist()) == {3, SCHEMA_VERSION}
    assert set(rows.filter(pa.compute.is_valid(rows["dataset"]))["stream_order"].to_pylist()) == {"shuffled"}
    # The same numbers again, in the schema of today: nothing to publish and no conflict.
    put_rows(storage, plan, [score("efficacy", "argmax", 0.5), score("lonely", "argmax", 1.0)])
    assert storage.read_bytes(path) == sink.getvalue()


def test_several_roots_are_read_as_one(tmp_path: Path) -> None:
    for name, methods in (("a", ("memit", "alphaedit")), ("b", ("alphaedit", "rect"))):
        write_sweep(tmp_path / name, *methods)
    sweep = api.open_sweep(root=[str(tmp_path / "a"), str(tmp_path / "b")])
    found = sweep.sql("SELECT method, count(*) AS n, min(root) = max(root) AS one FROM scores GROUP BY 1 ORDER BY 1")
    assert [tuple(row.values()) for row in found.to_pylist()] == [(m, 4, True) for m in ("alphaedit", "memit", "rect")]
    assert sweep.view("trajectories").num_rows == 6
    assert sweep.sql("SELECT count(*) FROM timings WHERE stage = 'edit'").to_pylist() == [{"count_star()": 6}]
    # Of the trajectories that both roots have, each table holds one.
    cells = [(row["method"], row["seed"]) for row in sweep.status().to_pylist()]
    assert sorted(cells) == [(method, seed) for method in ("alphaedit", "memit", "rect") for seed in (0, 1)]
    edited = [row for row in sweep.rows().to_pylist() if row["trajectory_id"] is not None and row["metric"] == "lonely"]
    assert len({row["trajectory_id"] for row in edited}) == len(edited) == 6
    methods = [row["method"] for row in sweep.table().to_pylist() if row["method"] != "(unedited)"]
    assert sorted(methods) == ["alphaedit", "memit", "rect"]


def test_roots_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    write_sweep(tmp_path / "a", "memit")
    write_sweep(tmp_path / "b", "memit", value=0.5000001)
    with pytest.raises(InputError, match=r"memit on m, seed 0, efficacy \(argmax\) after 8 edits: 0.5 and 0.5000001"):
        open_roots([str(tmp_path / "a"), str(tmp_path / "b")])
    with pytest.raises(InputError, match="named twice"):
        open_roots([str(tmp_path / "a"), str(tmp_path / "a")])


@pytest.mark.parametrize(
    "text",
    [
        "CREATE TABLE x AS SELECT 1",
        "COPY (SELECT 1) TO 'out.csv'",
        "SELECT 1; SELECT 2",
        "SELECT methd FROM scores",
        "SELEC 1",
        "",
        "SELECT * FROM read_text('pyproject.toml')",
        "ATTACH 'x.db'",
        "SET threads = 4",
        "INSERT INTO trajectories VALUES (1)",
    ],
)
def test_a_query_only_reads(root: Path, text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as raised:
        api.open_sweep(root=str(root)).sql(text)
    assert raised.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_wide_integers_and_times_leave_as_plain_types(root: Path) -> None:
    found = api.open_sweep(root=str(root)).sql(
        "SELECT sum(edits) AS s, DATE '2026-01-02' AS d FROM trajectories, scores"
    )
    assert [str(kind) for kind in found.schema.types] == ["int64", "string"]


def test_the_command_prints_every_format(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = "SELECT method, count(*) AS n FROM scores GROUP BY 1 ORDER BY 1"
    assert sphere(monkeypatch, "sql", root, text, "--format", "csv") == 0
    assert capsys.readouterr().out == "method,n\nalphaedit,4\nmemit,4\n"
    assert sphere(monkeypatch, "sql", root, text, "--json") == 0
    assert json.loads(capsys.readouterr().out)["rows"][1] == {"method": "memit", "n": 4}
    (tmp_path / "q.sql").write_text(text)
    assert sphere(monkeypatch, "sql", root, "--file", tmp_path / "q.sql", "--out", tmp_path / "x.parquet") == 0
    assert pq.read_table(tmp_path / "x.parquet").to_pydict() == {"method": ["alphaedit", "memit"], "n": [4, 4]}
    assert sphere(monkeypatch, "sql", root) == 0
    listed = capsys.readouterr().out
    assert all(f"| {name}" in listed for name in VIEW_COLUMNS)
    assert sphere(monkeypatch, "sql", tmp_path, "SELECT 1") == 2


def test_a_table_becomes_a_data_frame(root: Path) -> None:
    table = api.open_sweep(root=str(root)).view("scores")
    assert list(table.to_pandas()["value"]) == table["value"].to_pylist()
    assert polars.from_arrow(table)["value"].to_list() == table["value"].to_pylist()
