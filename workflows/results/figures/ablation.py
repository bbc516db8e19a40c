"""A score over one or two fields of the specification: a line, or a heat map."""

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sphere_core.foundation.errors import InputError, unknown_name
from workflows.results.arrow_tables import table_of_records
from workflows.results.figures.contract import Figure, FigureAsk, FigureSource, Look, needs
from workflows.results.figures.heat import colour_bar, heat_cells
from workflows.results.figures.panels import grouped, legend, panels, place_title, tag
from workflows.results.sql.plan_tables import leaves, read_specifications
from workflows.results.sql.sweep_roots import SweepRoot

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

__all__ = ["FIGURE"]

_METRICS = ("efficacy", "generalization", "specificity")
_FIELDS = pa.schema(
    [("trajectory_id", pa.string()), ("field", pa.string()), ("number", pa.float64()), ("text", pa.string())]
)
# What differs between trajectories without being a setting of the method.
_NOT_A_SETTING = ("seed", "stream_digest", "generation_digest", "method", "model", "model_digest", "stream.order.file")


def _table(source: FigureSource, ask: FigureAsk) -> pa.Table:
    fields = _fields(source)
    source.connection.register("fields", fields)
    varying = _varying(source)
    every = sorted(set(fields["field"].to_pylist()))
    for name, option in ((ask.x, "--x"), (ask.y, "--y")):
        if name and name not in every and f"hyperparameters.{name}" not in every:
            raise unknown_name("field of a specification", name, every, where=option)
    chosen = [name if name in every else f"hyperparameters.{name}" for name in (ask.x, ask.y) if name]
    chosen += [name for name in varying if name not in chosen][: (2 if not ask.x else 0)]
    if not chosen:
        raise InputError(
            "there is nothing to draw: no setting differs within a method",
            where=source.storage.uri,
            remedy="run one method with several values of a hyperparameter (examples/sphere_ablation.yaml)",
        )
    found = source.ask(
        "ablation",
        metrics=list(ask.metrics or _METRICS),
        protocol=ask.protocol,
        x=chosen[0],
        y=chosen[1] if len(chosen) > 1 else "",
    )
    return needs(
        found, f"score over {' and '.join(chosen)}", "'sphere status' shows what is scored", where=source.storage.uri
    )


def _fields(source: FigureSource) -> pa.Table:
    """Return every field of the specification of every trajectory, by its path, as a number or a text."""
    records = []
    for trajectory_id, spec in read_specifications([SweepRoot.of(source.storage, source.plan)]).items():
        for path, value in leaves(spec):
            number = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
            records.append({"trajectory_id": trajectory_id, "field": path, "number": number, "text": json.dumps(value)})
    return table_of_records(records, _FIELDS)


def _varying(source: FigureSource) -> list[str]:
    """Return the settings that differ within a method on one stream, those with the most values first."""
    found = source.connection.sql(
        "SELECT field, max(levels) FROM (SELECT field, composition, model, stream, count(DISTINCT text) AS levels "
        "FROM fields JOIN trajectories USING (trajectory_id) GROUP BY ALL) "
        "GROUP BY field HAVING max(levels) > 1 ORDER BY 2 DESC, 1"
    ).fetchall()
    return [name for name, _ in found if name not in _NOT_A_SETTING]


def _draw(table: pa.Table, look: Look) -> "Drawing":
    rows = table.to_pylist()
    groups = grouped(rows, "model", "stream", "composition", "metric", "protocol")
    figure, axes = panels(len(groups), look, height=2.2)
    two = rows[0]["y_field"] != ""
    values = [row["mean"] for row in rows if row["mean"] is not None]
    limits = (min(values, default=0.0), max(values, default=1.0))
    for axis, (place, own) in zip(axes, groups.items(), strict=True):
        if two:
            cells = {(row["x"], row["y"]): (row["mean"], _hover(row)) for row in own}
            heat_cells(axis, cells, look, own[0]["method"], limits=limits)
            axis.set_ylabel(_short(own[0]["y_field"]))
        else:
            known = [row for row in own if row["mean"] is not None]
            look_of = look.of(own[0]["method"]) | {"linestyle": "-"}
            for row in known:
                spread = row["sd"] or 0.0
                axis.plot([row["x"]] * 2, [row["mean"] - spread, row["mean"] + spread], color=look_of["color"], lw=1)
            line = axis.plot([row["x"] for row in known], [row["mean"] for row in known], mew=0, **look_of)[0]
            tag(line, look, own[0]["method"], [_hover(row) for row in known])
            axis.set_ylabel(place[4])
        bases = [row["base_mean"] for row in own if row["base_mean"] is not None]
        base = f" (editor alone: {bases[0]:.2f})" if bases else ""
        axis.set_title(place_title(rows, place, f"{place[2]}\n{place[3]}{base}"))
        axis.set_xlabel(_short(own[0]["x_field"]))
    if two:
        colour_bar(figure, axes, rows[0]["protocol"], look, limits=limits)
    elif len({row["composition"] for row in rows}) > 1:
        legend(figure, rows, look)
    return figure


def _hover(row: dict[str, Any]) -> str:
    mean = "collapsed" if row["mean"] is None else f"{row['mean']:.4g}"
    where = f"{_short(row['x_field'])} {row['x']}" + (
        f", {_short(row['y_field'])} {row['y']}" if row["y_field"] else ""
    )
    return f"{row['method']}\n{where}\n{row['metric']} {mean}, {row['seeds']} seeds"


def _short(field: str) -> str:
    return field.removeprefix("hyperparameters.").replace("_", " ")


def _caption(table: pa.Table) -> str:
    rows = table.to_pylist()
    fields = " and ".join(name for name in (rows[0]["x_field"], rows[0]["y_field"]) if name)
    seeds = max(row["seeds"] for row in rows)
    return (
        f"The score at the last checkpoint over {fields}, mean over {seeds} seed{'s' * (seeds > 1)}; in brackets "
        "the same editor without a regularizer."
    )


FIGURE = Figure(
    "ablation",
    "How sensitive is a score to the settings?",
    "SPHERE, sensitivity map; REVIVE, threshold; AlphaEdit, Fig. 11 (any fields: --x, --y)",
    "one method with several settings",
    _table,
    _draw,
    _caption,
)
