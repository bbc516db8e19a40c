"""Two methods of a grid that are one: found by what they say, or by the id of what they give."""

from collections.abc import Sequence

from sphere_core.foundation.errors import InputError
from workflows.sweeps.grids import SweepText
from workflows.sweeps.spec import MethodEntry

__all__ = ["refuse_twins", "twins"]


def refuse_twins(methods: Sequence[MethodEntry], text: SweepText) -> None:
    """Raise InputError for two methods that say the same, before any is looked up."""
    seen: dict[str, str] = {}
    for entry in methods:
        # All that an entry says but its name in tables.
        key = repr(entry.model_copy(update={"label": None}))
        if key in seen:
            raise twins(entry, seen[key], text)
        seen[key] = entry.title


def twins(entry: MethodEntry, other: str, text: SweepText) -> InputError:
    """Return the error for a method that gives the same trajectory as another, which is known by its title."""
    return InputError(
        f"'{entry.title}' and '{other}' are the same trajectory",
        where=text.where(("methods",)),
        remedy="two methods of the grid have the same editor, regularizers, hyperparameters, batches and moments",
    )
