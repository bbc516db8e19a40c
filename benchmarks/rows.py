"""One row a measurement, and the table of them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rich.table import Table

__all__ = ["Row", "as_records", "comparison", "table"]


@dataclass(frozen=True)
class Row:
    """One measurement and what it must reach.

    `measured` is a ratio of times (unit "x", at least `required`) or a cost (seconds or GB, at most `required`).
    `published` and `ours` are median seconds of the two forms. `difference` is the relative difference of their
    results, at most `tolerance`.
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

    @property
    def met(self) -> bool | None:
        """Whether the requirement is met; None where there is none."""
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
) -> Row:
    """Return the row of two forms of the same thing; `seconds` are the published form's and ours."""
    published, ours = seconds
    return Row(what, setting, published / ours, "x", required, published, ours, difference, tolerance)


def table(rows: Sequence[Row], *, title: str) -> Table:
    """Return the rows as a table."""
    shown = Table(title=title, title_justify="left")
    for name in ("what", "setting"):
        shown.add_column(name, overflow="fold")
    for name in ("published", "ours", "measured", "must reach", "difference", "met"):
        shown.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        sign = ">=" if row.unit == "x" else "<="
        shown.add_row(
            row.what,
            row.setting,
            _seconds(row.published),
            _seconds(row.ours),
            f"{row.measured:.3g} {row.unit}",
            "" if row.required is None else f"{sign} {row.required:g} {row.unit}",
            "" if row.difference is None else f"{row.difference:.1e}",
            {True: "yes", False: "NO", None: ""}[row.met],
        )
    return shown


def as_records(rows: Sequence[Row]) -> list[dict[str, object]]:
    """Return the rows for JSON."""
    return [{**asdict(row), "met": row.met} for row in rows]


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.3g} s"
