"""Which trajectories share a cell of a layout's table, and the words in place of a mean."""

from pathlib import Path

import pytest
from store_parts import QUALITY, put_checkpoint, put_scores, score, shared, trajectory

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from workflows.replicas.row_writer import encode_rows
from workflows.results.formats.latex_table import latex_table, latex_text
from workflows.results.layouts.layout import Layout
from workflows.results.layouts.made_table import MadeCell, MadeTable
from workflows.results.layouts.make_table import layout_table
from workflows.results.report.page_tables import main_table
from workflows.results.sql.sweep_roots import open_roots
from workflows.results.tables.published import published_table
from workflows.results.tables.table import results_table
from workflows.store.layout import PLAN_FILE, error_path, stopped_path
from workflows.store.plan import PublishedEntry, SweepPlan, TrajectoryPlan


def written(folder: Path, *plans: tuple[TrajectoryPlan, float | None], papers: tuple[PublishedEntry, ...] = ()) -> Path:
    """Write a sweep whose trajectories have one score at each checkpoint; None: planned and no more."""
    storage = Storage(folder)
    for plan, value in plans:
        for edits in plan.wanted if value is not None else ():
            put_checkpoint(storage, plan, edits)
            put_scores(storage, plan, edits, value, 0.5)
    found = SweepPlan(name="s", trajectories=tuple(one for one, _ in plans), bases=(), recipes=(), published=papers)
    storage.write_bytes(PLAN_FILE, found.model_dump_json().encode())
    return folder


def short(name: str, seed: int, edits: int, **changes: object) -> TrajectoryPlan:
    changes = {"id": f"{name[:4]}{seed}e{edits:03}".ljust(16, "0"), "edits": edits, "wanted": (edits,), **changes}
    return trajectory(name, seed, evaluations=(QUALITY,), **changes)


def made(*roots: Path, **changes: object) -> MadeTable:
    asked = {"columns": [{"metric": "score", "protocol": "argmax"}], "unedited": None, **changes}
    return layout_table(open_roots(list(map(str, roots))), Layout.model_validate(asked))


def cells(table: MadeTable) -> dict[tuple[str, str], MadeCell]:
    return {
        (row.name, group): part[0] for row in table.rows for group, part in zip(table.groups, row.cells, strict=True)
    }


def test_streams_of_several_lengths_are_columns_of_their_own(tmp_path: Path) -> None:
    root = written(tmp_path, (short("memit", 0, 4), 0.8), (short("memit", 0, 8), 0.2), (short("memit", 1, 8), 0.4))
    found = cells(made(root))
    assert {key: one.mean for key, one in found.items()} == {
        ("memit", "4 edits"): 0.8,
        ("memit", "8 edits"): pytest.approx(0.3),
    }
    only = made(root, groups=[{"name": "long", "edits": 8}])
    assert cells(only)["memit", "long"].seeds == 2
    with pytest.raises(InputError, match="several streams"):
        made(root, groups=[{"name": "both", "dataset": "facts"}])


def test_a_column_has_a_checkpoint_of_its_own(tmp_path: Path) -> None:
    root = written(tmp_path)
    plans = [short("memit", seed, 8, wanted=(4, 8)) for seed in (0, 1)]
    for plan in plans:
        for edits, value in ((4, 0.7), (8, 0.4)):
            put_checkpoint(Storage(root), plan, edits)
            put_scores(Storage(root), plan, edits, value, 0.5)
    sweep = SweepPlan(name="s", trajectories=tuple(plans), bases=(), recipes=())
    Storage(root).write_bytes(PLAN_FILE, sweep.model_dump_json().encode())
    last = {"metric": "score", "protocol": "argmax"}
    early = {**last, "edits": 4}
    for columns, edits, expected in (([last, early], None, [0.4, 0.7]), ([last], 4, [0.7])):
        (row,) = made(root, columns=columns, edits=edits).rows
        assert [one.mean for one in row.cells[0]] == pytest.approx(expected)
    with pytest.raises(InputError, match="no trajectory has a checkpoint after 5 edits"):
        made(root, columns=[{**last, "edits": 5}])


def test_lengths_that_no_method_shares_have_no_common_column_but_at_one_checkpoint(tmp_path: Path) -> None:
    root = written(tmp_path, (short("memit", 0, 8, wanted=(4, 8)), 0.8), (short("alphaedit", 0, 4), 0.2))
    with pytest.raises(InputError, match="several streams"):
        made(root, groups=[{"name": "all"}])
    assert [one.mean for one in cells(made(root, groups=[{"name": "all"}], edits=4)).values()] == [0.8, 0.2]
    with pytest.raises(InputError, match="after 5 edits") as raised:
        made(root, edits=5)
    assert "4, 8" in str(raised.value.remedy)


def test_two_roots_with_other_settings_under_one_name_have_no_common_mean(tmp_path: Path) -> None:
    one = written(tmp_path / "a", (short("memit", 0, 4), 0.8))
    other = written(tmp_path / "b", (short("memit", 0, 4, id="other".ljust(16, "0")), 0.2))
    with pytest.raises(InputError, match="'memit' with seed 0") as raised:
        made(one, other)
    assert "sphere compare" in str(raised.value.remedy)
    assert all(str(root) in str(raised.value.where) for root in (one, other))
    seeds = written(tmp_path / "c", (short("memit", 1, 4), 0.6))
    assert [found.mean for found in cells(made(one, seeds)).values()] == [pytest.approx(0.7)]


def test_failed_stopped_and_collapsed_trajectories_are_not_called_pending(tmp_path: Path) -> None:
    names = ("fails", "stops", "falls", "waits", "lacks", "has")
    plans = [short(name, 0, 8, wanted=(4, 8)) for name in names]
    root = written(tmp_path, *((plan, 0.5 if plan.title in ("lacks", "has") else None) for plan in plans))
    storage = Storage(root)
    storage.write_bytes(error_path(plans[0].id), b'{"error": "OutOfMemoryError"}')
    storage.write_bytes(stopped_path(plans[1].id), b'{"edits": 4, "reason": "perplexity"}')
    put_checkpoint(storage, plans[2], 4, collapsed=True)
    put_scores(storage, plans[2], 4, None, None)
    for edits in plans[4].wanted:
        rows = encode_rows(shared(plans[4], edits, QUALITY), [score("efficacy", "argmax", 0.5)])
        storage.write_bytes(plans[4].rows_path(edits, QUALITY), rows)
    table = made(root, edits=8, columns=[{"metric": "score", "protocol": "argmax"}, {"metric": "efficacy"}])
    first = {row.name: row.cells[0][0].word for row in table.rows}
    assert first.pop("lacks") == "not scored"
    assert first == {"fails": "failed", "stops": "stopped", "falls": "collapsed", "waits": "pending", "has": None}
    assert all(word in " ".join(table.notes.values()) for word in ("failed", "stopped", "collapsed", "pending"))


def test_papers_numbers_belong_to_the_stream_of_their_data_set_and_length(tmp_path: Path) -> None:
    plans = [
        short("memit", 0, 8, dataset="zsre"),
        short("memit", 1, 4),
        short("memit", 0, 8, id="c".ljust(16, "0"), order="clustered"),
        short("memit", 0, 8, id="s".ljust(16, "0")),
    ]
    papers = [paper("zsre", 8, 0.1), paper("facts", 8, 0.2), paper("facts", 4, 0.3)]
    (root,) = open_roots([str(written(tmp_path, *((plan, 0.5) for plan in plans), papers=tuple(papers)))])
    put_checkpoint(root.storage, plans[1], 4, collapsed=True)
    (again,) = open_roots([str(tmp_path)])
    table = main_table(results_table(again, by_edits=False), again.state, published_table(again), whole=False)
    shown = {(row[1].text.partition(" edits")[0], row[4].published, row[-1].text) for _, row in table.rows}
    assert shown == {
        ("zsre, shuffled, 8", "0.1", "none"),
        ("facts, shuffled, 4", "0.3", "4 (1 of 1)"),
        ("facts, clustered, 8", "0.2", "none"),
        ("facts, shuffled, 8", "0.2", "none"),
    }
    compared = [
        (one.place.partition(" edits")[0], one.edits, one.measured and one.measured.n) for one in published_table(again)
    ]
    assert compared == [
        ("zsre", 8, 1),
        ("facts, clustered, 8", 8, 1),
        ("facts, shuffled, 8", 8, 1),
        ("facts", 4, 1),
    ]


def paper(dataset: str, edits: int, value: float) -> PublishedEntry:
    """A paper's score of memit."""
    names = {"source": "A", "model": "m", "dataset": dataset, "edits": edits, "protocol": "argmax"}
    return PublishedEntry(**names, metrics=("score",), values={"memit": (value,)})


def test_an_interval_has_a_line_of_its_own_and_names_are_those_of_the_rows(tmp_path: Path) -> None:
    plans = [(short(name, seed, 4), value) for name, value in (("memit", 0.5), ("b", 0.75)) for seed in (0, 1)]
    rows = [{"method": "memit", "name": "MEMIT"}, {"method": "b", "name": "β, 中"}]
    table = made(written(tmp_path, *plans), rows=rows, difference_from="memit")
    text = latex_table(table)
    lines = [line for line in text.splitlines() if "print-implicit-plus" in line]
    assert len(lines) == 2
    assert "{[}" in lines[1]
    assert "difference from MEMIT" in text
    assert r"\ensuremath{\beta}" in text
    assert "can set: 中\n" in text
    assert latex_text("\u2212 → Ω é") == r"\ensuremath{-} \ensuremath{\rightarrow} \ensuremath{\Omega} é"


def test_a_table_has_as_many_notes_as_it_needs(tmp_path: Path) -> None:
    papers = [paper("facts", edits, 0.1).model_copy(update={"source": f"paper {edits}"}) for edits in range(1, 31)]
    plans = [(short("memit", 0, edits), 0.5) for edits in range(1, 31)]
    table = made(written(tmp_path, *plans, papers=tuple(papers)), published=True)
    assert list(table.notes)[25:28] == ["z", "aa", "ab"]
    assert table.notes["ad"] == "paper 30"
