"""What a layout asks, resolved against the rows of sweep directories: methods, groups, protocols, tasks."""

from collections.abc import Iterable, Sequence
from typing import Any

from sphere_core.foundation.errors import InputError, unknown_name
from workflows.results.layouts.layout import ColumnAsk, GroupAsk, Layout, RowAsk
from workflows.results.sql.connect import connect_roots, query
from workflows.results.sql.sweep_roots import SweepRoot, owned_trajectories
from workflows.results.tables.table import PROTOCOLS
from workflows.store.plan import TrajectoryPlan

__all__ = ["Records", "default_layout", "in_group", "resolved_columns", "resolved_groups", "resolved_rows"]

Records = Sequence[dict[str, Any]]

_QUALITY = ("efficacy", "generalization", "specificity", "score")


def default_layout(roots: Sequence[SweepRoot]) -> Layout:
    """Return the layout of a table for which none is given, with columns for what has been scored.

    Edit quality under the first protocol of the list argmax, probability, token, or else of the alphabet; then general
    means, perplexities and the energy's drift. Raises InputError if nothing has been scored yet.
    """
    with connect_roots(roots, views=("scores", "geometry_means")) as connection:
        found = connection.sql(query("layouts/available")).fetchall()
    protocols = {protocol for metric, protocol, *_ in found if metric in _QUALITY}
    first = next((one for one in PROTOCOLS if one in protocols), min(protocols, default=""))
    columns = [ColumnAsk(metric=name, protocol=first) for name in _QUALITY if (name, first) in {f[:2] for f in found}]
    for metric, protocol, task, _ in found:
        if metric == "he_drift":
            columns.append(ColumnAsk(metric=metric, protocol=protocol, name="HE drift", decimals=4, better="neither"))
        elif metric not in _QUALITY:
            words = metric.replace("_", " ")
            columns.append(ColumnAsk(metric=metric, protocol=protocol, task=task, name=f"{words} ({task})"))
    if not columns:
        raise InputError(
            "no checkpoint has been scored yet", where=roots[0].name, remedy="'sphere status' shows what is missing"
        )
    return Layout(columns=tuple(columns))


def resolved_rows(layout: Layout, roots: Sequence[SweepRoot]) -> tuple[RowAsk, ...]:
    """Return the methods of a table in order; raises InputError for one that no plan has."""
    known = list(dict.fromkeys(found.plan.title for _, found in owned_trajectories(roots)))
    for row in layout.rows:
        if row.method not in known:
            raise unknown_name("method", row.method, known, where="layout, key rows")
    return layout.rows or tuple(RowAsk(method=name) for name in known)


def resolved_groups(layout: Layout, roots: Sequence[SweepRoot]) -> tuple[GroupAsk, ...]:
    """Return the groups of columns: those of the layout, or one for each model and stream of the plans.

    Raises InputError for a group that no trajectory is in, and for one that would average over several models, streams
    or settings.
    """
    planned = [(root.name, found.plan) for root, found in owned_trajectories(roots)]
    plans = [plan for _, plan in planned]
    _refuse_unplanned(layout, plans)
    for group in layout.groups or tuple(_default_groups(plans)):
        members = [
            (name, plan) for name, plan in planned if in_group(group, plan.model, plan.dataset, plan.order, plan.edits)
        ]
        if not members:
            names = [f"{plan.model} on {plan.dataset}, {plan.order}, {plan.edits} edits" for plan in plans]
            raise InputError(
                f"the group '{group.name}' holds no trajectory",
                where="layout, key groups",
                remedy=f"planned: {'; '.join(dict.fromkeys(names))}",
            )
        _refuse_mixture(layout, group, members)
    return layout.groups or tuple(_default_groups(plans))


def _refuse_unplanned(layout: Layout, plans: Sequence[TrajectoryPlan]) -> None:
    """Raise InputError if the layout or a column names a checkpoint that no trajectory has."""
    counts = sorted({plan.edits_at(position) for plan in plans for position in plan.wanted})
    for edits in layout.checkpoints:
        if edits in counts:
            continue
        raise InputError(
            f"no trajectory has a checkpoint after {edits} edits",
            where="layout, key edits" if edits == layout.edits else "layout, key columns",
            remedy=f"checkpoints: after {', '.join(map(str, counts))} edits",
        )


def _refuse_mixture(layout: Layout, group: GroupAsk, members: Sequence[tuple[str, TrajectoryPlan]]) -> None:
    """Raise InputError if a cell of a group would average over other things than seeds."""
    cells: dict[tuple[str, int], list[tuple[str, TrajectoryPlan]]] = {}
    for name, plan in members:
        cells.setdefault((plan.title, plan.seed), []).append((name, plan))
    shared = next((found for found in cells.values() if len(found) > 1), None)
    # At one edit count, streams of several lengths are compared.
    places = {(plan.model, plan.dataset, layout.edits or plan.edits) for _, plan in members}
    if shared is None and len(places) == 1:
        return
    if shared is not None and len({(p.model, p.dataset, p.order, p.edits) for _, p in shared}) == 1:
        title, seed = shared[0][1].title, shared[0][1].seed
        raise InputError(
            f"several trajectories are '{title}' with seed {seed} on one stream: their settings differ, so they have "
            "no common mean",
            where=", ".join(dict.fromkeys(name for name, _ in shared)),
            remedy="give one of them a 'label' of its own in its sweep file, or read one root; 'sphere compare' of the "
            "roots shows what differs",
        )
    raise InputError(
        f"the group '{group.name}' holds several streams or models, which have no common mean",
        where="layout, key groups",
        remedy="restrict it: {name: ..., model: ..., dataset: ..., order: ..., edits: ...}",
    )


def _default_groups(plans: Sequence[TrajectoryPlan]) -> Iterable[GroupAsk]:
    places = list(dict.fromkeys((plan.model, plan.dataset, plan.order, plan.edits) for plan in plans))
    differing = [place for place in range(4) if len({names[place] for names in places}) > 1]
    for model, dataset, order, edits in places:
        names = [(model, dataset, order, f"{edits} edits")[place] for place in differing] or [model, dataset]
        yield GroupAsk(name=", ".join(names), model=model, dataset=dataset, order=order, edits=edits)


def in_group(group: GroupAsk, model: str, dataset: str, order: str, edits: int) -> bool:
    """Return whether a trajectory of this model and stream, with this number of edits, belongs to a group."""
    pairs = ((group.model, model), (group.dataset, dataset), (group.order, order), (group.edits, edits))
    return all(asked is None or asked == found for asked, found in pairs)


def resolved_columns(layout: Layout, records: Records) -> tuple[ColumnAsk, ...]:
    """Return the columns with one protocol and task each; raises InputError if rows leave a choice.

    A metric that nothing has been scored by yet keeps what the layout says.
    """
    return tuple(_resolved(column, records) for column in layout.columns)


def _resolved(column: ColumnAsk, records: Records) -> ColumnAsk:
    same = [record for record in records if record["metric"] == column.metric]
    protocols = sorted({record["protocol"] for record in same})
    if column.protocol is None and len(protocols) > 1:
        raise InputError(
            f"the metric '{column.metric}' was scored under several protocols, which never share a column",
            where="layout, key columns",
            remedy=f"name one, or a column for each: protocol: {', '.join(protocols)}",
        )
    if same and column.protocol is not None and column.protocol not in protocols:
        raise unknown_name("protocol", column.protocol, protocols, where=f"layout, column {column.metric}")
    protocol = column.protocol or (protocols[0] if protocols else None)
    tasks = sorted({str(r["task"]) for r in same if r["protocol"] == protocol and r["task"] is not None})
    if column.task is None and len(tasks) > 1:
        raise InputError(
            f"the metric '{column.metric}' was scored on several tasks",
            where="layout, key columns",
            remedy=f"name one, or a column for each: task: {', '.join(tasks)}",
        )
    if same and column.task is not None and column.task not in tasks:
        raise unknown_name("task", column.task, tasks, where=f"layout, column {column.metric}")
    task = column.task or (tasks[0] if tasks else None)
    return column.model_copy(update={"protocol": protocol, "task": task})
