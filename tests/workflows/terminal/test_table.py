"""The one table: which columns a width leaves, where words may break, and what a pipe gets."""

import io
import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from workflows.terminal.numbers import Measured
from workflows.terminal.table import Cell, Column, Id, Styled, TextTable

COLUMNS = (
    Column("trajectory"),
    Column("model", shared=True),
    Column("method"),
    Column("state", 1),
    Column("rate", 3, right=True),
    Column("score", 2, right=True),
    Column("what it is", 4, prose=True),
)


def rows(methods: Sequence[str] = ("memit", "alphaedit+sphere")) -> list[list[Cell]]:
    return [
        [
            Id(f"{place}c6f1f5000f500e2", f"{place}c6f1f50"),
            "factworld",
            method,
            Styled("running", "cyan"),
            None,
            Measured(0.36, 0.003),
            "updates damped along the principal directions of the neurons",
        ]
        for place, method in enumerate(methods)
    ]


def shown(table: TextTable, width: int, *, terminal: bool = True) -> list[str]:
    console = Console(
        file=io.StringIO(), width=width, force_terminal=terminal, color_system=None, soft_wrap=not terminal
    )
    console.print(table)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_columns_leave_by_priority_and_a_line_says_so() -> None:
    table = TextTable(COLUMNS, rows(), "title")
    heads = {width: re.split(r"  +", shown(table, width)[1].strip()) for width in (120, 60, 50, 30)}
    assert heads[120] == ["trajectory", "method", "state", "score", "what it is"]
    assert heads[60] == ["trajectory", "method", "state", "score"]
    assert heads[50] == ["trajectory", "method", "state"]
    assert heads[30] == ["trajectory", "method"]
    assert shown(table, 120)[0] == "title; model factworld"
    assert "left out" not in "".join(shown(table, 120))
    # What holds nothing is not missed.
    assert "left out: score, what it is; --wide shows all" in " ".join(shown(table, 50))


def test_a_column_that_differs_stays_and_one_that_is_empty_goes() -> None:
    different = rows()
    different[0][1] = "gpt2-xl"
    assert "model" in shown(TextTable(COLUMNS, different), 120)[0]
    assert "rate" not in "".join(shown(TextTable(COLUMNS, rows()), 120))
    assert "rate" in "".join(shown(replace(TextTable(COLUMNS, rows()), wide=True), 200))


@given(
    st.lists(st.lists(st.text(max_size=40), min_size=3, max_size=3), min_size=1, max_size=4),
    st.integers(min_value=24, max_value=120),
)
def test_no_line_is_wider_than_the_terminal(cells: list[list[str]], width: int) -> None:
    columns = [Column("name"), Column("text", 1, prose=True), Column("note", 2)]
    for line in shown(TextTable(columns, cells, "a title that is not short at all"), width):
        assert Console().measure(line).maximum <= width or len(line.rstrip()) <= width


@pytest.mark.parametrize("width", [40, 60, 80, 100])
def test_prose_breaks_between_words_only(width: int) -> None:
    text = "updates damped along the principal directions of the neurons"
    columns = [Column("name"), Column("text", prose=True)]
    lines = shown(TextTable(columns, [["sphere", text], ["revive", text]]), width)
    assert {word for line in lines[2:] for word in line.split()} == {"sphere", "revive", *text.split()}


def test_a_name_too_long_for_the_terminal_breaks_at_its_signs() -> None:
    name = "memit+rect+sphere+error_feedback+gate"
    lines = [line.strip() for line in shown(TextTable([Column("method")], [[name]]), 20)[2:]]
    assert "".join(lines) == name
    assert lines == ["memit+rect+sphere+", "error_feedback+gate"]


def test_equal_groups_are_named_in_the_title() -> None:
    columns = [Column("m"), Column("efficacy", group="argmax"), Column("efficacy", 1, group="probability")]
    table = TextTable(columns, [["memit", 0.25, 0.5]])
    assert [line.split() for line in shown(table, 60)[:2]] == [
        ["efficacy", "efficacy"],
        ["m", "(argmax)", "(probability)"],
    ]
    narrow = shown(table, 16)
    assert narrow[0] == "scores: argmax"
    assert narrow[1].split() == ["m", "efficacy"]


def test_a_pipe_gets_every_column_whole_and_nothing_else() -> None:
    lines = shown(TextTable(COLUMNS, rows(), "title"), 10_000, terminal=False)
    assert lines[0] == "title"
    assert lines[1].split("\t") == [column.name for column in COLUMNS]
    assert lines[2].split("\t")[:6] == ["0c6f1f5000f500e2", "factworld", "memit", "running", "–", "0.360 ± 0.003"]
    assert [line for line in lines if line != line.rstrip()] == []


def test_records_are_plain() -> None:
    (record, _) = TextTable(COLUMNS, rows()).records()
    assert record["trajectory"] == "0c6f1f5000f500e2"
    assert record["score"] == {"mean": 0.36, "spread": 0.003, "word": None}
    assert (record["state"], record["rate"]) == ("running", None)
    assert "what_it_is" in record


def test_texts_of_a_label_neither_break_the_table_nor_reach_the_terminal() -> None:
    hostile = "m\x1b[2J\n</td><script>[bold]"
    for terminal in (True, False):
        lines = shown(TextTable([Column("method"), Column("n")], [[hostile, 1]]), 60, terminal=terminal)
        assert not any("\x1b[2J" in line for line in lines)
        assert sum("m </td><script>[bold]" in line for line in lines) == 1
