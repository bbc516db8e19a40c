"""A table made from a layout: its rows, groups and cells with values, spread, comparison and marks."""

from dataclasses import dataclass, field

from workflows.results.layouts.layout import ColumnAsk, Layout
from workflows.results.layouts.spread import PairedDifference
from workflows.terminal.numbers import MISSING

__all__ = ["MadeCell", "MadeRow", "MadeTable"]

# A value from which on decimals say nothing: an update that has diverged.
_LONG = 1e7


@dataclass(frozen=True)
class MadeCell:
    """One metric of one row in one group: the mean over seeds, or the word that says why there is none.

    `marks` are keys of the table's notes. `rank` is 1 for the best of its column, 2 for the second.
    """

    mean: float | None = None
    spread: float | None = None
    seeds: int = 0
    planned: int = 0
    collapsed: int = 0
    failed: int = 0
    records: int | None = None
    unedited: float | None = None
    difference: PairedDifference | None = None
    word: str | None = None
    marks: tuple[str, ...] = ()
    rank: int | None = None
    higher_is_better: bool | None = None


@dataclass(frozen=True)
class MadeRow:
    """One row: the unedited model, a method, or a paper's numbers for the method above."""

    name: str
    kind: str
    method: str | None
    cells: tuple[tuple[MadeCell, ...], ...]


@dataclass(frozen=True)
class MadeTable:
    """A finished table: groups with their columns' protocols, rows, notes by mark, remarks without one."""

    layout: Layout
    groups: tuple[str, ...]
    columns: tuple[ColumnAsk, ...]
    rows: tuple[MadeRow, ...]
    spread: str
    notes: dict[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def scale(self, column: ColumnAsk) -> float:
        """Return what a column's values are multiplied by when printed."""
        percent = self.layout.percent if column.percent is None else column.percent
        return 100.0 if percent else 1.0

    def decimals(self, column: ColumnAsk) -> int:
        """Return the decimals of a column."""
        return self.layout.decimals if column.decimals is None else column.decimals

    def number(self, column: ColumnAsk, value: float) -> str:
        """Return a value of a column as it is printed: with its decimals, or as 1.7e+18 from ten million on."""
        scaled = value * self.scale(column)
        return f"{scaled:.1e}" if abs(scaled) >= _LONG else f"{scaled:.{self.decimals(column)}f}"

    def cell_text(self, column: ColumnAsk, cell: MadeCell) -> str:
        """Return a cell as plain text: `98.9 ± 0.3` and the difference, or the word that says why not."""
        if cell.mean is None:
            return cell.word or MISSING
        text = self.number(column, cell.mean)
        if cell.spread is not None:
            text += f" ± {self.number(column, cell.spread)}"
        found = cell.difference
        if found is None:
            return text
        bounds = [self._signed(column, bound) for bound in (found.low, found.high) if bound is not None]
        interval = f" [{', '.join(bounds)}]" if bounds else ""
        return f"{text} ({self._signed(column, found.value)}{interval}){'*' * found.star}"

    def _signed(self, column: ColumnAsk, value: float) -> str:
        return f"{value * self.scale(column):+.{self.decimals(column)}f}"
