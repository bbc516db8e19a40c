"""One row a measurement, and the table of them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Row", "as_records", "comparison", "table"]


@dataclass(frozen=True)
class Row:
    """One measurement and what it must reach.

    `measured` is a ratio of times (unit "x", at least `required`) or a cost (seconds or GB, at most `required`).
    `published` and `ours` are median processor seconds of the two forms, `wall` the time that passed. `difference` is
    the relative difference of their results, at most `tolerance`.
    """

    what: str
    setting: str
    measured: float
    unit: str
    required: float | None = None
    published: float | None = None
    ours: float | None = None
    difference: float | None = None
    tolerance: float | None = None
    wall: tuple[float, float] | None = None

    @property
    def met(self) -> bool | None:
        """Whether the requirement is met; None without one."""
        agrees = self.difference is None or self.tolerance is None or self.difference <= self.tolerance
        if self.required is None:
            return None if agrees else False
        reached = self.measured >= self.required if self.unit == "x" else self.measured <= self.required
        return reached and agrees


def comparison(
    what: str,
    setting: str,
    seconds: tuple[float, float],
    *,
    required: float | None,
    difference: float,
    tolerance: float,
    wall: tuple[float, float] | None = None,
) -> Row:
    """Return the row of two forms of the same thing; seconds are the published form's and ours."""
    published, ours = seconds
    return Row(what, setting, published / ours, "x", required, published, ours, difference, tolerance, wall)


def table(rows: Sequence[Row], *, title: str) -> "Table":
    """Return the rows as a table, without the columns in which no row has anything."""
    from rich.table import Table  # a bare machine that measures a card prints no table of rows

    columns = {
        "what": [row.what for row in rows],
        "setting": [row.setting for row in rows],
        "published": [_seconds(row.published) for row in rows],
        "ours": [_seconds(row.ours) for row in rows],
        "wall": ["" if row.wall is None else " / ".join(map(_seconds, row.wall)) for row in rows],
        "measured": [f"{row.measured:.3g} {row.unit}".rstrip() for row in rows],
        "must reach": [_required(row) for row in rows],
        "difference": ["" if row.difference is None else f"{row.difference:.1e}" for row in rows],
        "met": [{True: "yes", False: "NO", None: ""}[row.met] for row in rows],
    }
    columns = {name: cells for name, cells in columns.items() if any(cells)}
    shown = Table(title=title, title_justify="left")
    for name in columns:
        text = name in ("what", "setting")
        shown.add_column(name, justify="left" if text else "right", overflow="fold", no_wrap=not text)
    for cells in zip(*columns.values(), strict=True):
        shown.add_row(*cells)
    return shown


def _required(row: Row) -> str:
    sign = ">=" if row.unit == "x" else "<="
    return "" if row.required is None else f"{sign} {row.required:g} {row.unit}".rstrip()


def as_records(rows: Sequence[Row]) -> list[dict[str, object]]:
    """Return the rows for JSON."""
    return [{**asdict(row), "met": row.met} for row in rows]


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.3g} s"
