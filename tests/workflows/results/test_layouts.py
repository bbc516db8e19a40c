"""Tables of a layout: cells, spread, comparison, marks, and every form, LaTeX through a TeX engine."""

import json
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from command_line import sphere
from repository import EXAMPLES
from retention_parts import probes_table, publish_probes
from store_parts import GEOMETRY, QUALITY, base, put_checkpoint, score, shared, trajectory

from evaluators.base import Score
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from workflows.replicas.row_writer import encode_rows, publish_rows
from workflows.results.formats.html_table import html_table
from workflows.results.formats.latex_table import latex_table, latex_text
from workflows.results.layouts.layout import Layout, read_layout
from workflows.results.layouts.made_table import MadeCell, MadeTable
from workflows.results.layouts.make_table import layout_table
from workflows.results.sql.sweep_roots import open_roots
from workflows.results.tables.published import published_table
from workflows.store.layout import PLAN_FILE
from workflows.store.plan import PublishedEntry, SweepPlan

SEEDS, EDITS = (0, 1, 2, 3), 8
RIGHT = {"memit": 2, "alphaedit": 6, "rect <&%_>": 5}


def efficacy(method: str, seed: int) -> float:
    return (RIGHT[method] + seed % 2) / EDITS


def quality(method: str, seed: int) -> list[Score]:
    collapsed = method == "rect <&%_>" and seed == 3
    return [
        score("efficacy", "argmax", None if collapsed else efficacy(method, seed)),
        score("efficacy", "probability", 0.9),
        score("specificity", "argmax", 0.02),
        score("score", "argmax", 0.4),
    ]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three methods, four seeds: one collapsed, one not finished, a published number, specificity at its floor."""
    folder = tmp_path_factory.mktemp("layouts")
    storage = Storage(folder)
    plans = [trajectory(name, seed, wanted=(EDITS,), stream_digest=f"s{seed}") for name in RIGHT for seed in SEEDS]
    bases = [base(QUALITY.model_copy(update={"id": f"b{seed}"}), seed) for seed in SEEDS]
    for one in bases:
        rows = [score("efficacy", "argmax", 0.0), score("specificity", "argmax", 0.02), score("score", "argmax", 0.0)]
        publish_rows(storage, one.rows_path, encode_rows(shared(one, 0, one.evaluation), rows))
    for plan in plans:
        if (plan.title, plan.seed) == ("memit", 3):
            continue
        put_checkpoint(storage, plan, EDITS)
        data = encode_rows(shared(plan, EDITS, QUALITY), quality(plan.title, plan.seed))
        publish_rows(storage, plan.rows_path(EDITS, QUALITY), data)
        drift = [Score("he_drift", "exact", 0.01, None, 1, 0, 0, "ok", None, None, None)]
        publish_rows(storage, plan.rows_path(EDITS, GEOMETRY), encode_rows(shared(plan, EDITS, GEOMETRY), drift))
        right = RIGHT[plan.title] + plan.seed % 2
        publish_probes(storage, plan, EDITS, probes_table([(e, e <= right, 1.0) for e in range(1, EDITS + 1)]))
    paper = PublishedEntry(
        source="A paper & table 1",
        model="m",
        dataset="facts",
        edits=EDITS,
        protocol="argmax",
        metrics=("efficacy", "score"),
        values={"memit": (0.31, None), "(unedited)": (None, 0.2)},
    )
    sweep = SweepPlan(name="s", trajectories=tuple(plans), bases=tuple(bases), recipes=(), published=(paper,))
    storage.write_bytes(PLAN_FILE, sweep.model_dump_json().encode())
    return folder


def layout(**changes: object) -> Layout:
    columns = [
        {"metric": "efficacy", "protocol": "argmax", "name": "Eff."},
        {"metric": "score"},
        {"metric": "he_drift"},
    ]
    return Layout.model_validate({"columns": columns, **changes})


def made(root: Path, **changes: object) -> MadeTable:
    return layout_table(open_roots([str(root)]), layout(**changes))


def cell(table: MadeTable, row: str, column: int = 0) -> MadeCell:
    return next(one for one in table.rows if one.name == row).cells[0][column]


def test_cells_are_means_over_seeds_beside_the_unedited_model(root: Path) -> None:
    table = made(root)
    assert [row.name for row in table.rows] == ["unedited", *RIGHT]
    values = [efficacy("alphaedit", seed) for seed in SEEDS]
    found = cell(table, "alphaedit")
    assert found.mean == pytest.approx(np.mean(values))
    assert found.spread == pytest.approx(np.std(values, ddof=1))
    assert (found.unedited, cell(table, "unedited").mean, cell(table, "unedited").seeds) == (0.0, 0.0, 4)


def test_a_number_that_no_column_holds_is_printed_short(root: Path) -> None:
    table = made(root)
    assert table.number(table.columns[0], 1.72e18) == "1.7e+18"
    assert table.number(table.columns[0], 9_999_999) == "9999999.000"


def test_missing_and_collapsed_cells_are_marked_and_explained(root: Path) -> None:
    table = made(root)
    collapsed, fewer = cell(table, "rect <&%_>"), cell(table, "memit")
    assert (collapsed.word, collapsed.mean) == ("collapsed 1/4", None)
    assert "not finite" in table.notes[collapsed.marks[0]]
    assert (fewer.seeds, fewer.planned) == (3, 4)
    assert "fewer seeds" in table.notes[fewer.marks[0]]


def test_a_score_whose_specificity_is_at_its_floor_is_marked(root: Path) -> None:
    table = made(root)
    assert any("specificity (argmax) is 0.020" in table.notes[mark] for mark in cell(table, "alphaedit", 1).marks)
    assert cell(table, "alphaedit", 0).marks == ()
    assert cell(made(root, floor=0.01), "alphaedit", 1).marks == ()


def test_best_is_bold_second_underlined_and_no_direction_has_neither(root: Path) -> None:
    table = made(root)
    assert (cell(table, "alphaedit").rank, cell(table, "memit").rank) == (1, 2)
    assert {cell(table, name, 1).rank for name in ("alphaedit", "memit")} == {None}
    assert {cell(table, name, 2).rank for name in ("alphaedit", "memit")} == {None}
    lower = [{"metric": "efficacy", "protocol": "argmax", "better": "lower"}]
    assert cell(made(root, columns=lower), "memit").rank == 1


def test_protocols_never_share_a_column(root: Path) -> None:
    with pytest.raises(InputError, match="several protocols") as raised:
        made(root, columns=[{"metric": "efficacy"}])
    assert "argmax, probability" in str(raised.value.remedy)


def test_published_numbers_stand_below_the_method_they_are_of(root: Path) -> None:
    table = made(root, published=True)
    assert [row.kind for row in table.rows] == ["unedited", "method", "published", "method", "method"]
    paper = cell(table, "memit (published)")
    assert (paper.mean, table.notes[paper.marks[0]]) == (0.31, "A paper & table 1")
    other = [{"metric": "efficacy", "protocol": "probability"}]
    assert "published" not in [row.kind for row in made(root, published=True, columns=other).rows]


def test_differences_are_paired_by_seed_and_record_and_stars_need_four_seeds(root: Path) -> None:
    table = made(root, difference_from="memit", rows=["memit", "alphaedit"])
    found = cell(table, "alphaedit").difference
    assert found is not None
    assert (found.value, found.seeds, found.records, found.star) == (0.5, 3, 24, False)
    low, high = found.low, found.high
    assert low is not None
    assert high is not None
    assert low < 0.5 < high
    turned = made(root, difference_from="alphaedit", rows=["memit", "alphaedit"])
    assert cell(turned, "memit").difference is not None
    assert cell(table, "memit").difference is None
    assert any("over seeds and records" in remark for remark in table.remarks)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": ["memitt"]}, "memitt"),
        ({"columns": [{"metric": "eficacy"}]}, "eficacy"),
        ({"columns": [{"metric": "efficacy", "protocol": "argmx"}]}, "argmx"),
        ({"groups": [{"name": "x", "model": "gpt"}]}, "holds no trajectory"),
        ({"difference_from": "ft"}, "ft"),
        ({"columns": [{"metric": "score", "task": "rte"}]}, "rte"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_names_that_the_sweep_lacks_are_refused(root: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        made(root, **changes)
    assert raised.value.remedy


def test_a_group_never_averages_over_two_streams(root: Path, tmp_path: Path) -> None:
    plan = json.loads((root / PLAN_FILE).read_text())
    for place, one in enumerate(plan["trajectories"]):
        one["dataset"], one["seed"] = ("a", "b")[place % 2], place // 2
    (tmp_path / PLAN_FILE).write_text(json.dumps(plan))
    with pytest.raises(InputError, match="several streams"):
        made(tmp_path, groups=[{"name": "all"}])
    assert made(tmp_path).groups == ("a", "b")


def test_a_fault_in_the_file_names_its_line(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("columns:\n  - {metric: efficacy}\nspred: none\n")
    with pytest.raises(InputError, match="unknown key 'spred'") as raised:
        read_layout(tmp_path / "x.yaml")
    assert "line 3" in str(raised.value.where)
    assert "spread" in str(raised.value.remedy)
    assert {read_layout(path).spread for path in (EXAMPLES / "tables").iterdir()} == {"sd-seeds", "ci95-records"}


# Forms.


def test_the_command_writes_every_form(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "l.yaml").write_text(layout(percent=True, decimals=1, title="T").model_dump_json())
    command = ("table", root, "--layout", tmp_path / "l.yaml")
    assert sphere(monkeypatch, *command) == 0
    shown = capsys.readouterr().out
    assert "**81.2 ± 7.2**" in shown
    assert "standard deviation over seeds" in shown
    assert sphere(monkeypatch, *command, "--json") == 0
    cells = json.loads(capsys.readouterr().out)["cells"]
    assert sphere(monkeypatch, *command, "--out", tmp_path / "x.parquet") == 0
    assert pq.read_table(tmp_path / "x.parquet").to_pylist() == cells
    assert {one["mean"] for one in cells if one["method"] == "alphaedit" and one["metric"] == "efficacy"} == {0.8125}
    assert sphere(monkeypatch, *command, "--out", tmp_path / "x.csv") == 0
    assert (tmp_path / "x.csv").read_text().count("\n") == len(cells) + 1
    assert sphere(monkeypatch, "table", root, "--format", "tex") == 0
    assert r"\toprule" in capsys.readouterr().out
    assert sphere(monkeypatch, *command, "--by", "edits") == 2
    assert sphere(monkeypatch, "status", root, "--json") == 0


class _Balanced(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_html_is_whole_and_holds_no_markup_of_names(root: Path) -> None:
    text = html_table(made(root, title="<script>"))
    parser = _Balanced()
    parser.feed(text)
    assert parser.open == []
    assert "<script>" not in text
    assert "rect &lt;&amp;%_&gt;" in text


@pytest.mark.parametrize("text", [r"a_b & 50% #1 {x} ~ ^ \ $ < > | ± –"], ids=["every special character"])
def test_texts_are_escaped_for_latex(text: str) -> None:
    escaped = latex_text(text)
    assert escaped.count("{") == escaped.count("}")
    assert r"\_" in escaped
    assert r"\&" in escaped


def test_a_name_that_begins_a_row_is_not_read_as_an_option_of_the_line_before() -> None:
    assert latex_text("[1pt] memit*") == "{[}1pt{]} memit{*}"
    assert latex_text("a--b---c") == "a-{}-b-{}--c"
    assert latex_text("a\n% b") == r"a \% b"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no TeX engine")
def test_latex_compiles_and_shows_the_numbers(root: Path, tmp_path: Path) -> None:
    groups = [{"name": f"{place} & <x>_", "model": "m"} for place in ("one", "two")]
    tables = [made(root, percent=True, decimals=1, published=True), made(root, groups=groups, difference_from="memit")]
    for place, table in enumerate(tables):
        (tmp_path / f"t{place}.tex").write_text(latex_table(table))
    (tmp_path / "all.tex").write_text(
        "\\documentclass{article}\\usepackage[T1]{fontenc}\\usepackage{lmodern,booktabs,siunitx}\\begin{document}\n"
        "\\input{t0.tex}\n\\input{t1.tex}\n\\end{document}\n"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    if "lmodern.sty' not found" in done.stdout or "siunitx.sty' not found" in done.stdout:
        pytest.skip("the TeX installation lacks lmodern or siunitx")
    assert done.returncode == 0, done.stdout[-2000:]
    if shutil.which("pdftotext") is not None:
        text = subprocess.run(
            ["pdftotext", "-layout", "all.pdf", "-"], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout
        assert "81.2" in text
        assert "rect <&%_>" in text


def test_a_papers_unedited_model_is_beside_ours(root: Path) -> None:
    """Over the stream of the paper's edits: four seeds of one model, none of which answers before an edit."""
    (unedited,) = [one for one in published_table(open_roots([str(root)])[0]) if one.method == "(unedited)"]
    assert (unedited.metric, unedited.published, unedited.edits) == ("score", 0.2, EDITS)
    assert unedited.measured is not None
    assert (unedited.measured.mean, unedited.measured.n) == (0.0, len(SEEDS))
