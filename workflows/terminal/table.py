"""One table for every command: columns with priorities, which leave a narrow terminal one by one; nothing is cut.

On a terminal a table is as wide as its content allows: columns with one value throughout go into the title, those
that hold nothing are left out, and while the rest is too wide the column of the highest priority number goes. A line
below says which. In a pipe every column stays, cells are separated by tabs, and ids are whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from workflows.terminal.escape import one_line, words
from workflows.terminal.numbers import MISSING, Measured, number_texts

__all__ = ["Cell", "Column", "Id", "Styled", "TextTable"]

_GAP = 2
_PROSE = 24
_WIDEST = 10_000
_LEFT_OUT = "left out: {}; --wide shows all"


@dataclass(frozen=True)
class Id:
    """An id: its shortest unique prefix on a terminal, whole elsewhere."""

    whole: str
    short: str


@dataclass(frozen=True)
class Styled:
    """A text with a style of rich."""

    text: str
    style: str


Cell = str | int | float | bool | Measured | Id | Styled | None


@dataclass(frozen=True)
class Column:
    """A column: its name, and what may be done with it where a table is too wide.

    `priority` 0 stays, the highest number goes first. `shared`: goes into the title if all rows agree. `prose` may
    be broken between words. `group` is shown below the name, or in the title where all columns have the same.
    """

    name: str
    priority: int = 0
    right: bool = False
    shared: bool = False
    prose: bool = False
    group: str = ""


@dataclass(frozen=True)
class TextTable:
    """A table as a command states it. Rendered by rich: `console.print(table)`."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    title: str = ""
    wide: bool = False

    def texts(self, *, short_ids: bool) -> list[list[str]]:
        """Return the cells as texts, numbers of a column alike."""
        columns = [_column_texts([row[place] for row in self.rows], short_ids) for place in range(len(self.columns))]
        return [list(row) for row in zip(*columns, strict=True)]

    def records(self) -> list[dict[str, object]]:
        """Return one record for each row, for JSON: keys without blanks, numbers as they are, ids whole."""
        names = [column.name.replace(" ", "_") for column in self.columns]
        return [dict(zip(names, map(_plain, row), strict=True)) for row in self.rows]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not console.is_terminal:
            yield from self._lines()
            return
        width = _WIDEST if self.wide else options.max_width
        fitted = _Fitted(self, width)
        title = fitted.title()
        if title:
            yield Text(title, style="bold")
        if self.rows:
            # Rich is given exact widths, which it would shrink to the terminal's.
            yield from console.render(fitted.table(), options.update(width=max(fitted.width, 1)))
        if fitted.left_out:
            yield Text(_LEFT_OUT.format(", ".join(fitted.left_out)), style="dim")

    def _lines(self) -> RenderResult:
        lines = [one_line(self.title)] if self.title else []
        lines.append("\t".join(_heading(column) for column in self.columns))
        lines += ["\t".join(row) for row in self.texts(short_ids=False)]
        # As they are: a text of rich would have its tabs expanded.
        for line in lines:
            yield Segment(line)
            yield Segment.line()


class _Fitted:
    """The columns of a table that are shown at a width, and how wide each is."""

    def __init__(self, table: TextTable, width: int) -> None:
        self._table = table
        self._texts = table.texts(short_ids=True)
        self._told: list[str] = []
        self.left_out: list[str] = []
        self._kept = [place for place in range(len(table.columns)) if self._is_a_column(place)]
        self._shrink(width)
        self._widths = self._spread(width)
        self.width = sum(self._widths) + _GAP * (len(self._kept) - 1)

    def _is_a_column(self, place: int) -> bool:
        column, cells = self._table.columns[place], [row[place] for row in self._texts]
        if self._table.wide or not cells:
            return True
        same = len(set(cells)) == 1
        if same and cells[0] in (MISSING, "") and column.priority:
            return False
        if same and column.shared:
            self._told.append(f"{column.name} {cells[0]}")
            return False
        return True

    def _head(self, place: int) -> str:
        column = self._table.columns[place]
        return column.name if not column.group or self._one_group() else f"{column.name} ({column.group})"

    def _one_group(self) -> str | None:
        groups = {self._table.columns[place].group for place in self._kept} - {""}
        return groups.pop() if len(groups) == 1 else None

    def _content(self, place: int) -> int:
        """Return the width that a column's cells have, its name broken between words."""
        cells = [row[place] for row in self._texts]
        return max([*(cell_len(cell) for cell in cells), *(cell_len(word) for word in self._head(place).split())])

    def _least(self, place: int) -> int:
        column = self._table.columns[place]
        if not column.prose:
            return self._content(place)
        whole = [word for row in self._texts for word in row[place].split()] + self._head(place).split()
        return max([min(_PROSE, self._content(place)), *(cell_len(word) for word in whole)])

    def _shrink(self, width: int) -> None:
        while self._needed() > width:
            leaving = max(self._kept, key=lambda place: (self._table.columns[place].priority, place))
            if self._table.columns[leaving].priority == 0:
                return
            self._kept.remove(leaving)
            self.left_out.insert(0, _heading(self._table.columns[leaving]))

    def _needed(self) -> int:
        return sum(self._least(place) for place in self._kept) + _GAP * (len(self._kept) - 1)

    def _spread(self, width: int) -> list[int]:
        """Return the width of each kept column: the room that is left goes to prose, what is wanting is taken."""
        widths = [self._least(place) for place in self._kept]
        room = width - _GAP * (len(widths) - 1) - sum(widths)
        for index, place in enumerate(self._kept):
            if self._table.columns[place].prose and room > 0:
                more = min(room, self._content(place) - widths[index])
                widths[index] += more
                room -= more
        while room < 0 and widths:
            widest = widths.index(max(widths))
            less = min(-room, max(1, widths[widest] - 1))
            others = [other for place, other in enumerate(widths) if place != widest]
            less = min(less, max(1, widths[widest] - max(others, default=0)))
            widths[widest] -= less
            room += less
            if max(widths) == 1:
                break
        return widths

    def title(self) -> str:
        group = self._one_group()
        parts = [self._table.title, *self._told, *([f"scores: {group}"] if group else [])]
        return "; ".join(one_line(part) for part in parts if part)

    def table(self) -> Table:
        shown = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, _GAP - 1, 0, 0))
        for place, width in zip(self._kept, self._widths, strict=True):
            column = self._table.columns[place]
            head = _broken(self._head(place), width)
            shown.add_column(Text(head), justify="right" if column.right else "left", width=width, overflow="fold")
        for row, cells in zip(self._table.rows, self._texts, strict=True):
            shown.add_row(
                *(
                    Text(_broken(cells[place], width), style=_style(row[place]))
                    for place, width in zip(self._kept, self._widths, strict=True)
                )
            )
        return shown


def _broken(text: str, width: int) -> str:
    """Break a text between words into lines of a width; a word that is longer at its punctuation, or else anywhere."""
    if cell_len(text) <= width:
        return text
    lines = [""]
    for word in text.split():
        parts = [word] if cell_len(word) <= width else words(word)
        for index, part in enumerate(parts):
            joined = f"{lines[-1]} {part}" if lines[-1] and index == 0 else lines[-1] + part
            if cell_len(joined) <= width:
                lines[-1] = joined
            else:
                lines.append(part)
    return "\n".join(line for line in lines if line)


def _heading(column: Column) -> str:
    return one_line(f"{column.name} ({column.group})" if column.group else column.name)


def _column_texts(cells: Sequence[Cell], short_ids: bool) -> list[str]:
    measured = {place: as_number for place, cell in enumerate(cells) if (as_number := _measured(cell)) is not None}
    numbers = dict(zip(measured, number_texts(list(measured.values())), strict=True))
    return [numbers.get(place) or _text(cell, short_ids) for place, cell in enumerate(cells)]


def _measured(cell: Cell) -> Measured | None:
    if isinstance(cell, Measured):
        return cell
    return Measured(cell) if isinstance(cell, float) else None


def _text(cell: Cell, short_ids: bool) -> str:
    if cell is None:
        return MISSING
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, Id):
        return one_line(cell.short if short_ids else cell.whole)
    return one_line(cell.text if isinstance(cell, Styled) else str(cell))


def _style(cell: Cell) -> str:
    return cell.style if isinstance(cell, Styled) else ""


def _plain(cell: Cell) -> object:
    if isinstance(cell, Id):
        return cell.whole
    if isinstance(cell, Styled):
        return cell.text
    if isinstance(cell, Measured):
        return {"mean": cell.mean, "spread": cell.spread, "word": cell.word}
    return cell
