"""The views of a sweep: what they hold, how they join, and that no text of a user becomes SQL."""

import re
from collections import Counter
from pathlib import Path

import duckdb
import pytest
from command_line import sphere
from repository import REPOSITORY
from retention_parts import Answers, answered_sweep, asked
from store_parts import QUALITY, trajectory

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from workflows.results.sql.connect import VIEWS, connect, query
from workflows.results.sql.plan_tables import specifications
from workflows.results.sql.sweep_roots import SweepRoot
from workflows.results.tables.retention import retention_sql, retention_table
from workflows.store.plan import SweepPlan

QUERIES = sorted((REPOSITORY / "workflows" / "results" / "sql").rglob("*.sql"))
HOSTILE = ["it's", "x' UNION SELECT 1 --", "'; DROP VIEW probes; --", "$measure", "{name}", "a\nb\x1b[2J"]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Storage, SweepPlan, Answers]:
    return answered_sweep(tmp_path_factory.mktemp("answered"))


def test_views_join_by_their_documented_keys(sweep: tuple[Storage, SweepPlan, Answers]) -> None:
    storage, plan, answers = sweep
    with connect(storage, plan) as connection:
        counts = connection.sql(
            "SELECT t.method, t.seed, p.edits, count(*), count(e.case_id), min(t.last_edits) "
            "FROM probes AS p JOIN trajectories AS t USING (trajectory_id) JOIN edits AS e USING (trajectory_id, edit) "
            "GROUP BY ALL"
        ).fetchall()
        scored = connection.sql("SELECT DISTINCT trajectory_id, edits FROM scores").fetchall()
        assert connection.sql("SELECT count(*) FROM documents").fetchall() == [(0,)]
    named = {t.id: (t.title, t.seed) for t in plan.trajectories}
    assert sorted(counts) == sorted((*named[key], edits, len(a), len(a), 14) for (key, edits), a in answers.items())
    assert sorted(scored) == sorted(answers)


def test_only_the_last_checkpoint_is_read_where_that_is_enough(sweep: tuple[Storage, SweepPlan, Answers]) -> None:
    storage, plan, _ = sweep
    with connect(storage, plan, views=("probes",), checkpoints="last") as connection:
        assert connection.sql("SELECT DISTINCT edits FROM probes").fetchall() == [(14,)]
        with pytest.raises(duckdb.CatalogException):
            connection.sql("FROM scores")


def test_a_sweep_without_rows_has_empty_views(tmp_path: Path) -> None:
    plan = SweepPlan(name="s", trajectories=(trajectory("memit", 0),), bases=(), recipes=())
    with connect(Storage(tmp_path), plan) as connection:
        for view in VIEWS:
            planned = 1 if view == "trajectories" else 0
            assert connection.sql(f"SELECT count(*) FROM {view}").fetchall() == [(planned,)]
        assert connection.sql("SELECT method, seed FROM trajectories").fetchall() == [("memit", 0)]


def test_detail_files_of_an_unfinished_score_stay_out(sweep: tuple[Storage, SweepPlan, Answers]) -> None:
    """Rows are written last: details without rows are of a scorer that was killed."""
    storage, plan, _ = sweep
    other = plan.trajectories[0].model_copy(update={"evaluations": (QUALITY.model_copy(update={"id": "0" * 12}),)})
    with connect(storage, plan.model_copy(update={"trajectories": (other,)}), views=("probes",)) as connection:
        assert connection.sql("SELECT count(*) FROM probes").fetchall() == [(0,)]


def test_sums_have_the_same_bits_every_time(sweep: tuple[Storage, SweepPlan, Answers]) -> None:
    storage, plan, _ = sweep
    first, *others = (retention_table([SweepRoot.of(storage, plan)], asked("summary")) for _ in range(4))
    assert all(table.equals(first) for table in others)


@pytest.mark.parametrize("path", QUERIES, ids=lambda path: path.stem)
def test_queries_have_parameters_and_no_place_for_text(path: Path) -> None:
    name = path.relative_to(REPOSITORY / "workflows" / "results" / "sql").with_suffix("").as_posix()
    text = query(name)
    assert text == path.read_text(encoding="utf-8")
    assert re.search("[{}]", text) is None


@pytest.mark.parametrize("protocol", HOSTILE)
def test_a_protocol_with_quotes_is_an_ordinary_error(
    sweep: tuple[Storage, SweepPlan, Answers],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    protocol: str,
) -> None:
    storage, plan, _ = sweep
    with pytest.raises(InputError, match="no rewrite probe was scored") as raised:
        retention_table([SweepRoot.of(storage, plan)], asked("curve", protocol=protocol))
    assert protocol in raised.value.what
    assert sphere(monkeypatch, "retention", storage.local_path(), "--protocol", protocol) == 2
    assert "Traceback" not in capsys.readouterr().err
    with duckdb.connect() as connection:
        statements = connection.extract_statements(retention_sql(asked("curve", protocol=protocol)))
    assert len(statements) == len(duckdb.connect().extract_statements(retention_sql(asked("curve"))))


def test_every_hyperparameter_has_a_column_that_holds_its_values() -> None:
    given = {
        "layers": [1, 2],
        "sites": {"gate": [11], "up": [18]},
        "spectrum_levels": [1, 0.5],
        "perturb_band": [0, 0.1],
        "wise_margins": [5.0, 20.0, 10.0],
        "strength": 0.5,
        "norm_constraint": False,
        "settings": {"cap": {"share": 0.1}},
    }
    (row,) = specifications({"t": {"hyperparameters": given}}).to_pylist()
    found = {name: row[f"hp_{name}"] for name in given}
    texts = {"sites": '{"gate": [11], "up": [18]}', "settings": '{"cap": {"share": 0.1}}', "norm_constraint": None}
    assert found == given | texts


@pytest.mark.parametrize(
    "command",
    [["report", "--out", "page.html"], ["plot", "all", "--out", "drawn"], ["table", "--format", "html"]],
    ids=lambda command: command[0],
)
def test_a_command_holds_each_file_against_its_digest_once(
    sweep: tuple[Storage, SweepPlan, Answers], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    root, reads, read_bytes = Path(sweep[0].uri), Counter[Path](), Path.read_bytes

    def counted(path: Path) -> bytes:
        reads[path] += 1
        return read_bytes(path)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, "read_bytes", counted)
    assert sphere(monkeypatch, command[0], root, *command[1:]) == 0
    stored = {path: count for path, count in reads.items() if path.suffix == ".parquet" and root in path.parents}
    assert stored
    assert {str(path): count for path, count in stored.items() if count > 1} == {}
