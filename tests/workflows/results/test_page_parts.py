"""Parts of the report by themselves: the ledger of published numbers, the SVG of a page, the history of edits."""

import csv
import html
import io
import json
from math import exp
from pathlib import Path

import pytest
from figure_parts import CHECKPOINTS, SEEDS, drawn_sweep
from typer.testing import CliRunner

from sphere_core.foundation.errors import InputError
from workflows.commands.edits import app as edits_app
from workflows.results.report.inline_svg import inline_svg
from workflows.results.report.page_tables import ledger
from workflows.results.tables.published import Comparison
from workflows.results.tables.table import Cell


def test_the_ledger_says_what_agrees_what_differs_and_what_cannot_be_compared() -> None:
    def compared(published: float, measured: Cell | None, tolerance: float | None = None) -> str:
        one = Comparison("paper", "m", "facts", "memit", 10, "efficacy", "argmax", published, measured, tolerance)
        return ledger([one], tolerance=0.02).rows[0][1][-1].text

    assert compared(0.5, Cell(0.515, 0.001, 3, 0, 0)) == "agrees"
    assert compared(0.5, Cell(0.53, 0.001, 3, 0, 0)) == "differs"
    # Within two standard deviations over seeds.
    assert compared(0.5, Cell(0.53, 0.02, 3, 0, 0)) == "agrees"
    assert compared(0.5, Cell(0.53, None, 1, 0, 0)) == "differs"
    # A tolerance of the sweep file replaces the reader's, in both directions.
    assert compared(0.5, Cell(0.53, None, 1, 0, 0), 0.04) == "agrees"
    assert compared(0.5, Cell(0.515, 0.001, 3, 0, 0), 0.01) == "differs"
    assert compared(0.5, Cell(0.5, None, 1, 0, 0), 0.0) == "agrees"
    assert compared(0.5, Cell(None, None, 3, 1, 0)) == "cannot be compared: collapsed or failed"
    assert compared(0.5, None) == "cannot be compared: not scored at this edit count"


def test_a_tag_that_names_other_values_than_there_are_marks_is_an_error() -> None:
    tag = html.escape(json.dumps({"method": "m", "texts": ["a", "b"]}))
    svg = f'<svg xmlns="http://www.w3.org/2000/svg"><g id="{tag}"><path d=""/></g></svg>'
    with pytest.raises(ValueError, match="2 values for 0 marks"):
        inline_svg(svg.encode(), prefix="p", label="")


def test_one_edit_and_the_most_forgotten(tmp_path: Path) -> None:
    drawn_sweep(tmp_path)

    def answer(*arguments: str) -> list[dict]:
        done = CliRunner().invoke(edits_app, [str(tmp_path), *arguments, "--format", "csv"], catch_exceptions=False)
        return list(csv.DictReader(io.StringIO(done.stdout)))

    life = answer("--subject", "sUBJECT 7 ", "--method", "alphaedit <b>")
    assert {row["case_id"] for row in life} == {"case 7"}
    assert len(life) == len(SEEDS) * len(CHECKPOINTS)
    # Two tokens at a mean NLL of one each.
    assert [float(row["probability"]) for row in life] == pytest.approx([exp(-2)] * len(life))
    lost = answer("--top", "3")
    assert len(lost) == 3
    shares = [int(row["lost"]) / int(row["trajectories"]) for row in lost]
    assert shares == sorted(shares, reverse=True)
    with pytest.raises(InputError, match="no scored edit has subject 'nowhere'"):
        answer("--subject", "nowhere")


def test_a_page_holds_a_figure_without_its_padding_and_with_every_mark() -> None:
    tag = html.escape(json.dumps({"method": "m", "texts": ["a", "b"]}))
    mark = '<g><use xlink:href="#dot" x="43.040006" y="7.006" style="fill: #010203; stroke: #000000"/></g>'
    words = '<text style="font-family: \'A\', sans-serif; fill: red" transform="rotate(-0 1 2)">a  b </text>'
    figure = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="1pt">\n '
        f'<g id="axes"><defs><path id="dot" d="M 0 3.141593  L 1 2  z "/></defs>\n<g id="{tag}"><g>{mark}</g>{mark}</g>'
        f'<g clip-path="url(#box)"><g>{words}<text transform="rotate(-90 1 2)">y</text></g></g></g>'
        '<clipPath id="box"><rect width="2"/></clipPath></svg>'
    )
    lean = inline_svg(figure.encode(), prefix="p", label="seen")
    assert (
        lean.count('<use xlink:href="#p-dot" x="43.04" y="7.01" style="fill:var(--ink);stroke:var(--s6)" data-tip=')
        == 2
    )
    assert lean.count("<g") == 2
    assert 'd="M 0 3.14 L 1 2 z"' in lean
    assert '<g clip-path="url(#p-box)"><text style="fill: red">a  b </text>'.replace(": ", ":") in lean
    assert '<text transform="rotate(-90 1 2)">y</text></g>' in lean
    assert "\n" not in lean
