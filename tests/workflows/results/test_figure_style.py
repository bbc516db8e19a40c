"""What every figure looks like: methods by colour and marker, names as they are, widths and styles."""

import re
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from sphere_core.foundation.errors import InputError
from workflows.results.figures.panels import place_title
from workflows.results.figures.seconds import HATCHES
from workflows.results.figures.style import figure_bytes, figure_width, grid, method_looks, style_settings


def test_methods_keep_their_look_and_differ_without_colour() -> None:
    names = [f"m{place}" for place in range(8)]
    looks = method_looks(names, style="paper")
    assert len({str(one["marker"]) for one in looks.values()}) == len(names)
    assert method_looks(names[:3], style="paper") == {name: looks[name] for name in names[:3]}


def test_panels_are_titled_by_what_tells_their_streams_apart() -> None:
    def titles(*places: tuple[str, str]) -> list[str]:
        rows = [{"model": model, "stream": stream} for model, stream in places]
        return [place_title(rows, place, "efficacy") for place in places]

    zsre = "zsre, shuffled, 500 edits in batches of 10"
    facts, longer = zsre.replace("zsre", "counterfact"), zsre.replace("500", "2000")
    assert titles(("m", zsre)) == ["efficacy"]
    assert titles(("m", zsre), ("m", facts)) == ["zsre\nefficacy", "counterfact\nefficacy"]
    assert titles(("m", zsre), ("m", longer)) == ["500 edits\nefficacy", "2000 edits\nefficacy"]
    assert titles(("m", zsre), ("other", zsre)) == ["m\nefficacy", "other\nefficacy"]
    # Streams that differ in everything take several lines, each of which fits a narrow panel.
    both = titles(("m", zsre), ("m", "counterfact:own, canonical, 50 edits in batches of 5"))
    assert len(set(both)) == 2
    assert max(len(line) for title in both for line in title.split("\n")) <= 24


def test_names_with_dollar_signs_are_shown_as_they_are() -> None:
    hostile = "a$b$ \\frac{ $x_$ <b>"
    with mpl.rc_context({**style_settings("paper"), "svg.fonttype": "none"}):
        figure, (axes,) = grid(1)
        axes.plot([1, 10], [1, 2], label=hostile)
        axes.set_title(f"title {hostile}\x1b[2J")
        axes.set_yticks([1, 2], labels=[f"tick {hostile}", "two"])
        axes.set_xscale("log")
        axes.legend()
        drawn = figure_bytes(figure, "svg").decode()
    shown = hostile.replace("<", "&lt;").replace(">", "&gt;")
    assert [drawn.count(f">{kind}{shown}<") for kind in ("", "title ", "tick ")] == [1, 1, 1]


@pytest.mark.parametrize("text", ["1", "50", "wide", "nan", "-3"])
def test_a_width_that_is_not_one(text: str) -> None:
    with pytest.raises(InputError, match="width"):
        figure_width(text)
    assert figure_width("column") < figure_width("text") == 6.75 < figure_width("12")


def test_a_style_sheet_of_a_user(tmp_path: Path) -> None:
    (tmp_path / "own.mplstyle").write_text("font.size: 17\n")
    assert style_settings(str(tmp_path / "own.mplstyle"))["font.size"] == 17
    with pytest.raises(InputError, match="papr"):
        style_settings("papr")


def test_hatches_of_stages_differ_and_are_short_in_a_page() -> None:
    def tiles(hatches: Sequence[str]) -> list[str]:
        figure = Figure(figsize=(1, 1))
        figure.add_subplot().bar(range(len(hatches)), 1, hatch=hatches)
        return re.findall(r"<pattern.*?<path d=.(.*?)\"", figure_bytes(figure, "svg").decode(), re.DOTALL)

    drawn = tiles(HATCHES)
    assert len(set(drawn)) == len(HATCHES) - HATCHES.count("")
    assert max(map(len, drawn)) < 6000 < len(tiles(["..."])[0])
