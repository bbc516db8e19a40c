"""Texts of users, written to a terminal, Markdown and CSV: nothing of them acts there."""

import csv
import io
import unicodedata

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows.results.formats.arrow_formats import arrow_csv
from workflows.terminal.escape import markdown_text, one_line, words
from workflows.terminal.markdown import code_span, markdown_table

HOSTILE = {
    "clears the screen": ("a\x1b[2Jb", "ab"),
    "sets the title": ("a\x1b]0;title\x07b", "ab"),
    "colours": ("\x1b[31mred\x1b[0m", "red"),
    "an 8-bit sequence": ("a\x9b2Jb", "ab"),
    "a string that never ends": ("a\x1b]0;title", "a"),
    "line breaks": ("a\nb\r\nc\td", "a b c d"),
    "writes over itself": ("good\rbad", "good bad"),
    "backspaces": ("abc\x08\x08x", "abc x"),
    "turns the direction": ("a\u202eb", "a b"),
    "line separators": ("a\u2028b\u0085c", "a b c"),
    "half a character": ("a\ud800b", "a b"),
    "plain": ("alphaedit+sphere, ρ = 0.5 ± 0.1  x", "alphaedit+sphere, ρ = 0.5 ± 0.1  x"),
}


@pytest.mark.parametrize(("text", "shown"), HOSTILE.values(), ids=list(HOSTILE))
def test_a_text_becomes_one_printable_line(text: str, shown: str) -> None:
    assert one_line(text) == shown


@given(st.text())
def test_any_text_becomes_one_printable_line(text: str) -> None:
    shown = one_line(text)
    assert len(f"{shown}.".splitlines()) == 1
    assert {unicodedata.category(character) for character in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"} == set()
    shown.encode()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("</td><script>x</script>", "&lt;/td&gt;&lt;script&gt;x&lt;/script&gt;"),
        ("a|b", "a\\|b"),
        ("a\n| b |", "a \\| b \\|"),
        ("&lt;", "&amp;lt;"),
        ("a\\|b", "a\\\\\\|b"),
        ("**bold** `code` ~~gone~~", "\\*\\*bold\\*\\* \\`code\\` \\~\\~gone\\~\\~"),
        ("[x](javascript:alert)", "[x\\](javascript:alert)"),
        ("![x][y] and [0.1, 0.2]", "![x\\][y] and [0.1, 0.2]"),
        ("_slanted_ but not memit_seq", "\\_slanted\\_ but not memit_seq"),
    ],
)
def test_markdown_shows_a_text_as_it_is(text: str, shown: str) -> None:
    assert markdown_text(text) == shown


@given(st.lists(st.lists(st.text(), min_size=2, max_size=2), min_size=1, max_size=4))
def test_a_markdown_table_has_a_line_for_each_row_and_a_cell_for_each_column(lines: list[list[str]]) -> None:
    table = markdown_table(["a", "b"], lines).split("\n")
    assert len(table) == len(lines) + 2
    assert {row.replace("\\\\", "").replace("\\|", "").count("|") for row in table} == {3}
    assert not any("<" in row for row in table)


def test_markup_keeps_its_code_spans() -> None:
    assert "| `a<b\\|c` |" in markdown_table(["x"], [["`a<b|c`"]], markup=True)


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        ("a|b", r"a\|b"),
        (markdown_text("|dW|"), r"\|dW\|"),
        (markdown_text("a\\|b`|"), r"a\\\|b\`\|"),
        (f"{code_span('a|`b')} {markdown_text('|')}", r"`` a\|`b `` \|"),
        (code_span("a\\|b"), r"`a\\|b`"),
    ],
)
def test_a_pipe_is_escaped_once(cell: str, shown: str) -> None:
    assert f"| {shown} |" in markdown_table(["x"], [[cell]], markup=True)


@pytest.mark.parametrize(
    ("text", "shown"), [("a", "`a`"), ("a`b", "`` a`b ``"), ("``", "``` `` ```"), ("a\n# b", "`a # b`")]
)
def test_code_ends_where_its_text_does(text: str, shown: str) -> None:
    assert code_span(text) == shown


def test_csv_holds_one_printable_line_for_each_text() -> None:
    table = pa.table({"method": [text for text, _ in HOSTILE.values() if "\ud800" not in text]})
    rows = list(csv.reader(io.StringIO(arrow_csv(table))))
    assert [row[0] for row in rows[1:]] == [shown for text, shown in HOSTILE.values() if "\ud800" not in text]


@given(st.text(alphabet="ab+/ _-,"))
def test_the_parts_of_a_text_add_up_to_it(text: str) -> None:
    assert "".join(words(text)) == text
