"""A sweep's price as a table for a terminal."""

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sphere_core.costs.time import MODEL_UTILISATION
from workflows.preflight.price import Price

__all__ = ["price_panel"]


def price_panel(price: Price) -> RenderableType:
    """Return hours, peaks and disk of every cell, the totals, and what the estimate rests on."""
    device = price.accelerator
    table = Table(title=f"price on {device.name}, estimated", title_justify="left", box=SIMPLE_HEAD)
    for name in ("model", "stream", "method"):
        table.add_column(name, overflow="fold")
    for name in ("trajectories", "edit h", "score h", f"{device.name} memory", "host memory", "disk each"):
        table.add_column(name, justify="right")
    for cell in price.cells:
        fits = cell.accelerator_bytes < device.memory
        table.add_row(
            cell.model,
            cell.stream,
            cell.method,
            str(cell.trajectories),
            _hours(cell.edit_hours),
            _hours(cell.score_hours),
            Text(_bytes(cell.accelerator_bytes), style="" if fits else "bold red"),
            _bytes(cell.host_bytes),
            _bytes(cell.disk_bytes),
        )
    edit = sum(cell.edit_hours for cell in price.cells)
    parts = {"second moments": price.shared_hours, "editing": edit, "scoring": price.hours - edit - price.shared_hours}
    shares = ", ".join(f"{_hours(value)} {name}" for name, value in parts.items())
    lines = [
        f"in all: {_hours(price.hours)} {device.name} hours ({shares}), {_bytes(price.disk)} on disk "
        f"of which {_bytes(price.shared_disk)} second moments",
        f"assumed: {MODEL_UTILISATION:.0%} of the data sheet's {device.bf16 / 1e12:.0f} TFLOP/s; "
        "means of prompt lengths; every request takes all its steps. A measured rate may differ by several times.",
    ]
    if any(cell.accelerator_bytes >= device.memory for cell in price.cells):
        lines.append(
            f"red: more than the {_bytes(device.memory)} of one {device.name}: set a smaller 'requests_per_pass', "
            "since most of it is the target optimisation, or give a replica several accelerators"
        )
    lines += [f"not priced: {what}" for what in price.unpriced]
    return Group(table, *(Text(line) for line in lines))


def _hours(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"


def _bytes(value: float) -> str:
    return f"{value / 1e12:.2f} TB" if value >= 1e12 else f"{value / 1e9:.1f} GB"
