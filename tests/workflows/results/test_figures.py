"""Each figure from row files to its table, its CSV and its picture, on a sweep whose numbers are known."""

import csv
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev

import matplotlib as mpl
import pytest
from figure_parts import CHECKPOINTS, LAST, METHODS, PUBLISHED, RELATIONS, SEEDS, SITES, drawn_sweep, drift, efficacy
from figure_texts import crowded_texts
from retention_parts import answered_sweep
from scipy.stats import spearmanr
from typer.testing import CliRunner

from sphere_core.foundation.errors import InputError
from workflows.commands.plot import app
from workflows.results.figures.catalogue import FIGURES, figure_named
from workflows.results.figures.contract import FigureAsk, FigureSource, Look
from workflows.results.figures.make import draw_bytes, make_figure, write_figure
from workflows.results.figures.style import WIDTHS, method_looks, style_settings
from workflows.results.sql.connect import UNEDITED
from workflows.results.sql.sweep_roots import open_roots

ASK = FigureAsk("argmax", "rewrite", "argmax", against="he_drift")
TITLES = [title for title, *_ in METHODS]
# What this sweep lacks: it has one order, no fine-tuning, and no experiment on the spectrum.
UNDRAWN = {"order", "finetune", "causal"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    drawn_sweep(folder)
    return folder


@pytest.fixture(scope="module")
def source(root: Path) -> Iterator[FigureSource]:
    yield from opened(root)


def opened(root: Path) -> Iterator[FigureSource]:
    with FigureSource.open(open_roots([str(root)])[0]) as source:
        yield source


def look(style: str = "paper", width: float = 6.75, *, interactive: bool = False) -> Look:
    return Look(width, method_looks(TITLES, style=style), interactive)


def rows_of(source: FigureSource, name: str, **changes: object) -> list[dict]:
    ask = FigureAsk(**{**vars(ASK), **changes})
    return make_figure(source, name, ask).table.to_pylist()


@pytest.mark.parametrize("name", [name for name in FIGURES if name not in UNDRAWN])
def test_every_figure_has_a_table_a_caption_and_texts_with_room(source: FigureSource, name: str) -> None:
    made = make_figure(source, name, ASK)
    assert made.table.num_rows > 0
    assert made.caption.endswith(".")
    assert made.figure.title.endswith("?")
    with mpl.rc_context(style_settings("page")):
        assert crowded_texts(made.figure.draw(made.table, look(width=7.75))) == []


@pytest.mark.parametrize("name", ["predictors", "relations"])
def test_long_labels_leave_room_in_one_column(source: FigureSource, name: str) -> None:
    made = make_figure(source, name, ASK)
    with mpl.rc_context(style_settings("paper")):
        assert crowded_texts(made.figure.draw(made.table, look(width=WIDTHS["column"]))) == []


@pytest.mark.parametrize("name", ["cohorts", "plugins"])
def test_the_data_is_beside_a_figure(source: FigureSource, name: str, tmp_path: Path) -> None:
    made = make_figure(source, name, ASK)
    beside = write_figure(made, look(), tmp_path / f"{name}.png", style="paper")
    with beside.open(encoding="utf-8", newline="") as lines:
        written = list(csv.reader(lines))
    assert written[0] == made.table.column_names
    assert len(written) == 1 + made.table.num_rows
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_mean_over_seeds_leaves_no_collapsed_seed_out(source: FigureSource) -> None:
    rows = [row for row in rows_of(source, "scores", metrics=("efficacy",)) if row["method"] != UNEDITED]
    assert len(rows) == len(METHODS) * len(SEEDS) * len(CHECKPOINTS)
    for row in rows:
        values = [efficacy(row["method"], seed, row["edits"]) for seed in SEEDS]
        assert row["value"] == efficacy(row["method"], row["seed"], row["edits"])
        if None in values:
            assert row["mean"] is None
        else:
            assert row["mean"] == pytest.approx(fmean(values))
            assert row["sd"] == pytest.approx(stdev(values))
    assert {row["status"] for row in rows if row["value"] is None} == {"collapsed"}


def test_a_published_number_is_beside_its_own_cell_alone(source: FigureSource) -> None:
    named = {
        (row["method"], row["edits"], row["metric"])
        for row in rows_of(source, "scores")
        if row["published"] is not None
    }
    assert named == {("alphaedit <b>", LAST, "efficacy")}
    assert {row["published"] for row in rows_of(source, "methods") if row["score"] == "efficacy"} == {PUBLISHED, None}


def test_a_mark_is_at_its_own_label_in_every_panel(source: FigureSource) -> None:
    """The unedited model has no generalization here, so that this panel has a row less than that of efficacy."""
    made = make_figure(source, "methods", ASK)
    assert len({row["score"] for row in made.table.to_pylist() if row["method"] == UNEDITED}) < 4
    drawing = made.figure.draw(made.table, look())
    labels = [text.get_text() for text in drawing.axes[0].get_yticklabels()]
    assert labels == ["unedited", *TITLES]
    for axis in drawing.axes:
        assert axis.get_ylim() == drawing.axes[0].get_ylim()
        shades = {line.get_ydata()[0]: line.get_color() for line in axis.lines if line.get_marker() != "None"}
        looks = look()
        assert {place: shade for place, shade in shades.items() if place} == {
            1 + place: looks.of(title)["color"] for place, title in enumerate(TITLES)
        }


def test_a_plugin_is_beside_its_own_editor(source: FigureSource) -> None:
    rows = [row for row in rows_of(source, "plugins") if row["score"] == "efficacy"]
    assert [(row["base"], row["method"]) for row in rows] == [("memit", title) for title in TITLES[1:3]]
    # One of the three seeds of the editor alone collapsed.
    assert [row["base_mean"] for row in rows] == [None, None]
    for row in rows:
        assert row["mean"] == pytest.approx(fmean(efficacy(row["method"], seed, LAST) for seed in SEEDS))


def test_an_ablation_has_the_fields_that_differ_as_axes(source: FigureSource) -> None:
    rows = [row for row in rows_of(source, "ablation") if row["metric"] == "efficacy"]
    assert [(row["x_field"], row["x"], row["y_field"]) for row in rows] == [
        ("hyperparameters.strength", 0.5, ""),
        ("hyperparameters.strength", 0.8, ""),
    ]
    two = rows_of(source, "ablation", x="energy_ratio", y="strength", metrics=("efficacy",))
    assert [(row["x"], row["y"]) for row in two] == [(0.5, 0.5), (0.5, 0.8)]
    with pytest.raises(InputError, match="strenght") as fault:
        rows_of(source, "ablation", x="strenght")
    assert "hyperparameters.strength" in str(fault.value.remedy)


def test_drift_and_its_lag_are_what_scipy_finds(source: FigureSource) -> None:
    rows = [row for row in rows_of(source, "drift") if row["metric"] == "efficacy"]
    for row in rows:
        # The mean over both sites of the absolute value: those are 1 and 2 times the figure.
        assert row["drift"] == pytest.approx(1.5 * drift(row["method"], row["seed"], row["edits"]))
    # The shift of hidden states belongs to no site.
    for row in rows_of(source, "drift", against="hidden_shift", metrics=("efficacy",)):
        assert row["drift"] == pytest.approx(2 * drift(row["method"], row["seed"], row["edits"]))
    step = CHECKPOINTS[1] - CHECKPOINTS[0]
    found = next(
        row
        for row in rows_of(source, "lag", metrics=("efficacy",))
        if (row["method"], row["lag"]) == ("alphaedit <b>", step)
    )
    pairs = [(t, seed) for seed in SEEDS for t in CHECKPOINTS[:-1]]
    x = [drift("alphaedit <b>", seed, t) for t, seed in pairs]
    y = [efficacy("alphaedit <b>", seed, t + step) for t, seed in pairs]
    assert found["pairs"] == len(pairs)
    assert found["spearman"] == pytest.approx(spearmanr(x, y).statistic)


def test_energy_has_each_site_and_their_mean(source: FigureSource) -> None:
    energy = [row for row in rows_of(source, "energy") if row["strip"] == "geometry"]
    assert {row["site"] for row in energy} == {None, *SITES}
    whole = [row for row in energy if row["site"] is None and row["method"] == "alphaedit <b>"]
    assert {row["edits"]: row["mean"] for row in whole} == pytest.approx(
        {t: fmean(drift("alphaedit <b>", seed, t) for seed in SEEDS) for t in CHECKPOINTS}
    )


def test_cosines_are_in_their_bins(source: FigureSource) -> None:
    rows = [row for row in rows_of(source, "cosines") if (row["method"], row["site"]) == ("memit", SITES[1])]
    # The fixture's second site has twice the value.
    assert [(row["low"], row["high"], row["share"], row["seeds"]) for row in rows] == [
        (-0.1, 0.0, 0.5, len(SEEDS)),
        (0.9, 1.0, 0.25, len(SEEDS)),
    ]


def test_hidden_states_have_a_panel_each(source: FigureSource) -> None:
    rows = [
        row for row in rows_of(source, "hidden") if (row["method"], row["seed"], row["edits"]) == ("memit", 0, LAST)
    ]
    own = drift("memit", 0, LAST)
    assert {row["metric"]: row["value"] for row in rows} == pytest.approx(
        {"hidden_r_median": 3 * own, "hidden_shift": 2 * own}
    )


def test_cohorts_partition_the_edits_of_a_checkpoint(tmp_path: Path) -> None:
    _, plan, answers = answered_sweep(tmp_path)
    source = next(found := opened(tmp_path))
    rows = [row for row in rows_of(source, "cohorts") if row["method"] == "memit"]
    ids = [one.id for one in plan.trajectories if one.title == "memit"]
    for row in rows:
        first = max((t for t in (0, 4, 8, 12) if t < row["cohort"]), default=0)
        own = [right for name in ids for edit, right, _ in answers[name, row["edits"]] if first < edit <= row["cohort"]]
        assert (row["n"], row["rate"]) == (len(own), pytest.approx(fmean(own)))
    assert {row["stream_order"] for row in rows_of(source, "order")} == {"shuffled", "canonical"}
    found.close()


def test_answers_of_several_kinds_do_not_mix(source: FigureSource) -> None:
    both = [rows_of(source, "ages", measure=measure) for measure in ("argmax", "probability", "argmax")]
    assert both[0] == both[2]
    assert [row["rate"] for row in both[0]] != [row["rate"] for row in both[1]]


def test_accuracy_by_relation_is_that_of_its_own_edits(source: FigureSource) -> None:
    rows = rows_of(source, "relations")
    assert {row["relation"] for row in rows} == {name for name in RELATIONS if name}
    row = next(row for row in rows if (row["method"], row["relation"]) == ("alphaedit <b>", "studied"))
    edits = [edit for edit in range(1, LAST + 1) if RELATIONS[edit % len(RELATIONS)] == "studied"]
    last = "SELECT edit, is_right FROM probes WHERE edits = $last AND trajectory_id = $id"
    asked = [{"last": LAST, "id": f"m3s{seed:013d}"} for seed in SEEDS]
    right = [dict(source.probes.sql(last, params=values).fetchall()) for values in asked]
    values = [fmean(answers[edit] for edit in edits) for answers in right]
    assert (row["seeds"], row["edits"], row["collapsed"]) == (len(SEEDS), len(edits), 0)
    assert (row["mean"], row["sd"]) == pytest.approx((fmean(values), stdev(values)))


def test_seconds_are_summed_over_a_trajectory(source: FigureSource) -> None:
    rows = [row for row in rows_of(source, "seconds") if row["method"] == "memit"]
    assert {row["stage"]: row["seconds_per_100_edits"] for row in rows} == pytest.approx(
        {
            "targets": 100 * 6 / LAST,
            "solve": 100 * 2 / LAST,
            **dict.fromkeys(("edit quality", "general", "geometry"), 100 * 2 / LAST),
        }
    )


def test_equal_tables_give_equal_bytes_and_pdf_embeds_its_fonts(source: FigureSource) -> None:
    made = make_figure(source, "ages", ASK)
    first, second = (draw_bytes(made, look(), style="paper", form="svg") for _ in range(2))
    assert first == second
    assert b"<text" not in first
    assert b"/FontFile2" in draw_bytes(made, look(), style="paper", form="pdf")


@pytest.mark.parametrize("name", ["scores", "seconds", "cohorts"])
def test_a_style_in_grey_has_no_colour(source: FigureSource, name: str) -> None:
    made, grey = make_figure(source, name, ASK), replace(look("grey"), grey=True)
    drawn = draw_bytes(made, grey, style="grey", form="svg").decode()
    assert {shade for shade in shades(drawn) if max(chroma(shade)) > 2} == set()
    coloured = draw_bytes(made, look(), style="paper", form="svg").decode()
    assert any(max(chroma(shade)) > 2 for shade in shades(coloured))


def shades(svg: str) -> set[str]:
    return set(re.findall(r"(?:stroke|fill): (#[0-9a-f]{6})", svg))


def chroma(shade: str) -> list[int]:
    red, green, blue = (int(shade[place : place + 2], 16) for place in (1, 3, 5))
    return [abs(red - green), abs(green - blue)]


def test_the_command(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, [str(root), "scores", "--out", "s.svg", "--width", "column"], catch_exceptions=False)
    assert done.exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.csv", "s.svg"]
    listed = CliRunner().invoke(app, [str(root)], catch_exceptions=False).stdout
    assert all(figure_named(name).title in listed for name in FIGURES)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["scors"], "unknown figure"),
        (["scores", "--out", "s.tiff"], "cannot be written"),
        (["scores", "--width", "0"], "width"),
        (["scores", "--metric", "efficcy"], "nothing to draw"),
        (["order"], "one order"),
        (["ability", "--task", "tsk"], "unknown task"),
        (["energy", "--against", "he_drif"], "nothing to draw"),
        (["scores", "--out", "no/such/folder/s.pdf"], "cannot be written"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_a_fault_writes_nothing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], what: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=what):
        CliRunner().invoke(app, [str(root), *arguments], catch_exceptions=False)
    assert list(tmp_path.iterdir()) == []
