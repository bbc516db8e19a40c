"""A sweep's price as a table for a terminal."""

from rich.console import Group, RenderableType
from rich.text import Text

from workflows.preflight.price import SAMPLE_WIDTH, Price
from workflows.terminal.table import Cell, Column, Styled, TextTable

__all__ = ["price_panel"]


def price_panel(price: Price, *, wide: bool = False) -> RenderableType:
    """Return hours, peaks and disk of every cell, the totals, and what the estimate rests on."""
    device = price.accelerator
    columns = [
        Column("model", shared=True),
        Column("stream", shared=True, prose=True),
        Column("method"),
        Column("trajectories", 3, right=True, shared=True),
        Column("edit h", right=True),
        Column("score h", right=True),
        Column(f"{device.name} memory", right=True),
        Column("host memory", 2, right=True),
        Column("disk each", 1, right=True),
    ]
    rows: list[list[Cell]] = [
        [
            cell.model,
            cell.stream,
            cell.method,
            cell.trajectories,
            _hours(cell.edit_hours),
            _hours(cell.score_hours),
            Styled(_bytes(cell.accelerator_bytes), "" if cell.accelerator_bytes < device.memory else "bold red"),
            _bytes(cell.host_bytes),
            _bytes(cell.disk_bytes),
        ]
        for cell in price.cells
    ]
    title = f"estimate: {_hours(price.hours)} {device.name} hours, {_bytes(price.disk)} on disk"
    return Group(TextTable(columns, rows, title, wide), *(Text(line) for line in _notes(price)))


def _notes(price: Price) -> list[str]:
    device = price.accelerator
    edit = sum(cell.edit_hours for cell in price.cells)
    parts = {"second moments": price.shared_hours, "editing": edit, "scoring": price.hours - edit - price.shared_hours}
    shares = ", ".join(f"{_hours(value)} {name}" for name, value in parts.items())
    lines = [
        f"in all: {_hours(price.hours)} {device.name} hours ({shares}), {_bytes(price.disk)} on disk "
        f"of which {_bytes(price.shared_disk)} second moments",
        f"rates: {device.model_share:.0%} of {_rate(device.bf16)} in the model, {device.eigen_share:.1%} of "
        f"{_rate(device.float64)} in eigendecompositions ({device.source}); means of prompt lengths; every request "
        "takes all its steps",
    ]
    lines.append("seconds per edit: " + ", ".join(_seconds_each(price)))
    ahead = sum(cell.ahead_hours for cell in price.cells)
    if ahead:
        lines.append(
            f"of editing, {_hours(ahead)} hours are decompositions that run during the search for targets; they are "
            "counted in full, so editing takes up to that much less"
        )
    lines += _sample_lines(price)
    if any(cell.accelerator_bytes >= device.memory for cell in price.cells):
        lines.append(
            f"red: more than the {_bytes(device.memory)} of one {device.name}: set a smaller 'requests_per_pass', "
            "since most of it is the target optimisation, or give a replica several accelerators"
        )
    return lines + [f"not priced: {what}" for what in price.unpriced]


def _seconds_each(price: Price) -> list[str]:
    """Return each method with the seconds of its edits, from the cheapest stream and model to the dearest."""
    each: dict[str, list[float]] = {}
    for cell in price.cells:
        if cell.edit_seconds_each is not None:
            each.setdefault(cell.method, []).append(cell.edit_seconds_each)
    spans = {method: (f"{min(seconds):.2g}", f"{max(seconds):.2g}") for method, seconds in each.items()}
    return [f"{method} {low}" if low == high else f"{method} {low} to {high}" for method, (low, high) in spans.items()]


def _sample_lines(price: Price) -> list[str]:
    """Return what asking about all earlier edits costs, and the sample that bounds it."""
    found = [(cell.edit_hours, cell.sample) for cell in price.cells if cell.sample is not None]
    if not found:
        return []
    edit, whole, part = (sum(column) for column in zip(*((e, s.hours_of_all, s.hours) for e, s in found), strict=True))
    return [
        f"edit quality of all earlier edits at every checkpoint takes {_hours(whole)} hours, {whole / edit:.1f} times "
        f"the editing; 'sample: {found[0][1].size}' under edit_quality takes {_hours(part)} and keeps 95 % intervals "
        f"of a share within ± {SAMPLE_WIDTH:.0%}"
    ]


def _rate(value: float) -> str:
    return f"{value / 1e12:.0f} TFLOP/s" if value >= 1e13 else f"{value / 1e9:,.0f} GFLOP/s"


def _hours(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"


def _bytes(value: float) -> str:
    return f"{value / 1e12:.2f} TB" if value >= 1e12 else f"{value / 1e9:.1f} GB"
