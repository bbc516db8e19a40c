"""Heat maps: one square per cell, on a scale that is monotone in lightness, with its number if there is room."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from workflows.results.figures.contract import Look
from workflows.results.figures.panels import tag
from workflows.results.figures.style import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["colour_bar", "heat_cells"]

_ROOM_FOR_NUMBERS = 12
_DARK = 0.55
_INCHES_PER_NUMBER = 0.3


def heat_cells(
    axis: "Axes",
    cells: Mapping[tuple[Any, Any], tuple[float | None, str]],
    look: Look,
    method: str,
    *,
    limits: tuple[float, float] = (0.0, 1.0),
    upward: bool = True,
    outlined: Sequence[tuple[Any, Any]] = (),
) -> None:
    """Draw cells by (x, y): a value, None for collapsed, and the text that a pointer shows.

    `outlined` cells get a frame. `upward` says whether y grows upward, as on axes, or downward, as in a table.
    """
    import matplotlib as mpl
    from matplotlib.patches import Rectangle

    across, down = (sorted({key[place] for key in cells}) for place in (0, 1))
    low, high = limits
    colours = mpl.colormaps[look.scale]
    numbers = len(across) <= _ROOM_FOR_NUMBERS and axis.get_position().width * look.width / len(across) > (
        _INCHES_PER_NUMBER * 0.7
    )
    for (x, y), (value, text) in cells.items():
        left, top = across.index(x), down.index(y)
        share = 0.0 if value is None else (value - low) / (high - low) if high > low else 0.5
        filled = {"facecolor": "none", "hatch": "xx"} if value is None else {"facecolor": colours(share)}
        square = Rectangle((left - 0.5, top - 0.5), 1, 1, linewidth=0.4, edgecolor="#ffffff", **filled)
        axis.add_patch(square)
        tag(square, look, method, [text])
        if (x, y) in outlined:
            axis.add_patch(Rectangle((left - 0.5, top - 0.5), 1, 1, fill=False, linewidth=1.6, edgecolor=INK))
        if numbers and value is not None:
            shade = "#ffffff" if share < _DARK else "#000000"
            axis.text(left, top, f"{value:.2f}".lstrip("0"), ha="center", va="center", fontsize=5.5, color=shade)
    step_x, step_y = (-(-len(names) // 6) for names in (across, down))
    axis.set_xticks(range(0, len(across), step_x), [f"{name}" for name in across[::step_x]])
    axis.set_yticks(range(0, len(down), step_y), [f"{name}" for name in down[::step_y]])
    axis.set_xlim(-0.5, len(across) - 0.5)
    axis.set_ylim((-0.5, len(down) - 0.5) if upward else (len(down) - 0.5, -0.5))
    axis.grid(visible=False)
    axis.tick_params(length=0)


def colour_bar(
    figure: "Figure", axes: "Sequence[Axes]", label: str, look: Look, *, limits: tuple[float, float] = (0.0, 1.0)
) -> None:
    """Draw the scale of heat maps at the right of their panels."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    scale = ScalarMappable(Normalize(*limits), look.scale)
    figure.colorbar(scale, ax=list(axes), label=label, shrink=0.8, pad=0.02)
