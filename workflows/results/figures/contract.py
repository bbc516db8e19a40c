"""What a figure is: a query to a tidy Arrow table, and a function that draws that table.

Each figure has a file of its own with a `FIGURE`; `workflows.results.figures.catalogue` lists them. The table is what
the CSV beside a figure holds, so a figure shows nothing that its table lacks.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import duckdb
import pyarrow as pa

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from workflows.results.arrow_tables import table_of_records
from workflows.results.figures.style import line_look
from workflows.results.sql.connect import UNEDITED, connect_roots, query
from workflows.results.sql.sweep_roots import SweepRoot
from workflows.results.tables.retention import RetentionAsk, RetentionTables
from workflows.store.plan import SweepPlan

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

__all__ = ["Figure", "FigureAsk", "FigureSource", "Look", "needs"]

_PUBLISHED = pa.schema(
    [(name, pa.string()) for name in ("model", "dataset", "method")]
    + [("edits", pa.int64()), ("metric", pa.string()), ("protocol", pa.string()), ("published", pa.float64())]
)


@dataclass(frozen=True)
class FigureAsk:
    """What a figure is about, where it offers a choice; an empty value is the figure's own choice.

    `metrics` and `protocol` name scores of edit quality, `tasks` those of general ability, `against` a figure of
    geometry. `role` and `measure` say which probes count and when an answer is right (see `RetentionAsk`). `x` and `y`
    are fields of the trajectories' specifications.
    """

    protocol: str
    role: str
    measure: Literal["argmax", "probability"]
    metrics: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    against: str = ""
    x: str = ""
    y: str = ""


class FigureSource:
    """A sweep to draw from: a connection with the table `points`, and one with the probes.

    Each connection is opened once for all figures, and each file is read once for all connections.
    """

    def __init__(self, root: SweepRoot, opened: ExitStack) -> None:
        """Open the rows of a root; `opened` closes the connections."""
        self.root, self._opened = opened.enter_context(root.held()), opened
        self.connection = opened.enter_context(connect_roots([self.root], views=("rows",)))
        self.connection.register("published", table_of_records(_published(root.plan), _PUBLISHED))
        self.connection.execute(query("figures/points"))
        self._probes: duckdb.DuckDBPyConnection | None = None
        self._gathered: dict[tuple[str, str, str], RetentionTables] = {}

    @classmethod
    @contextmanager
    def open(cls, root: SweepRoot) -> "Iterator[FigureSource]":
        """Open a sweep for the block."""
        with ExitStack() as opened:
            yield cls(root, opened)

    @property
    def storage(self) -> Storage:
        """The storage of the sweep."""
        return self.root.storage

    @property
    def plan(self) -> SweepPlan:
        """The plan of the sweep."""
        return self.root.plan

    def ask(self, name: str, **values: object) -> pa.Table:
        """Answer the query of a figure, given by its name below results/sql/figures."""
        return self.connection.sql(query(f"figures/{name}"), params=values or None).to_arrow_table()

    @property
    def probes(self) -> duckdb.DuckDBPyConnection:
        """A connection with the views `probes` and `edits`."""
        if self._probes is None:
            self._probes = self._opened.enter_context(connect_roots([self.root], views=("probes", "edits")))
        return self._probes

    def retention(self, ask: RetentionAsk) -> pa.Table:
        """Return a table of `sphere retention`; raises InputError if no probes are stored."""
        kind = (ask.role, ask.protocol, ask.measure)
        if kind not in self._gathered:
            # Another kind of answers has tables of the same names, on a connection of its own.
            own = connect_roots([self.root], views=("probes", "edits")) if self._gathered else None
            connection = self.probes if own is None else self._opened.enter_context(own)
            stored = [(self.storage, trajectory) for trajectory in self.plan.trajectories]
            self._gathered[kind] = RetentionTables(connection, stored, ask)
        return self._gathered[kind].table(ask)


@dataclass(frozen=True)
class Look:
    """How a figure looks: its width in inches, the colour and marker of every method, and whether a page holds it.

    In a page (`interactive`) the marks of a method carry its name and the values that a pointer shows. `grey`: what
    is not a method has no colour either.
    """

    width: float
    methods: Mapping[str, Mapping[str, Any]]
    interactive: bool = False
    grey: bool = False

    @property
    def scale(self) -> str:
        """The colour map of heat maps: monotone in lightness, the lowest value the darkest."""
        return "Greys_r" if self.grey else "cividis"

    def series(self, place: int) -> dict[str, Any]:
        """Return colour, marker and line style of the series at a place, for series that are not methods."""
        return line_look(place, grey=self.grey)

    def of(self, method: str) -> dict[str, Any]:
        """Return a method's colour, marker and line style; black if the look does not know it."""
        return dict(self.methods.get(method, {"color": "#010203", "marker": "o", "linestyle": ":"}))

    def at(self, width: float) -> "Look":
        """Return the look at another width."""
        return replace(self, width=width)


@dataclass(frozen=True)
class Figure:
    """A figure: its question as a title, what paper's figure it repeats, what the sweep needs, and how it is made.

    `table` raises InputError if the sweep lacks what the figure shows. `caption` describes marks, n and seeds.
    """

    name: str
    title: str
    repeats: str
    requires: str
    table: Callable[[FigureSource, FigureAsk], pa.Table]
    draw: "Callable[[pa.Table, Look], Drawing]"
    caption: Callable[[pa.Table], str]


def _published(plan: SweepPlan) -> list[dict[str, Any]]:
    """Return the papers' numbers that a sweep names, the first where several name one cell."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for entry in plan.published_scores:
        for method, values in entry.values.items():
            for metric, value in zip(entry.metrics, values, strict=True):
                key = (entry.model, entry.dataset, method, entry.edits, metric, entry.protocol)
                if value is not None:
                    found.setdefault(key, dict(zip(_PUBLISHED.names, (*key, value), strict=True)))
    return list(found.values())


def needs(table: pa.Table, what: str, remedy: str, *, where: str) -> pa.Table:
    """Return a table that has rows of edited models; raises InputError otherwise.

    A sweep scores the unedited model first, which says nothing by itself.
    """
    methods = table["method"].to_pylist() if "method" in table.column_names else [None] * table.num_rows
    if all(method == UNEDITED for method in methods):
        raise InputError(f"there is nothing to draw: no {what}", where=where, remedy=remedy)
    return table
