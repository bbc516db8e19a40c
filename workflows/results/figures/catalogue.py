"""The figures by name. A figure's file is imported when the figure is made."""

from typing import cast

from sphere_core.foundation.errors import unknown_name
from sphere_core.foundation.lazy import load_object
from workflows.results.figures.contract import Figure

__all__ = ["FIGURES", "figure_named"]

# In the order of the questions that a reader has; each name is that of a file of this folder.
FIGURES = (
    "methods",
    "relations",
    "scores",
    "ability",
    "energy",
    "cohorts",
    "retention",
    "ages",
    "lifetimes",
    "finetune",
    "order",
    "predictors",
    "drift",
    "lag",
    "bound",
    "plugins",
    "ablation",
    "subspaces",
    "causal",
    "norms",
    "cosines",
    "hidden",
    "seconds",
)


def figure_named(name: str) -> Figure:
    """Return a figure; raises InputError for an unknown name."""
    if name not in FIGURES:
        raise unknown_name("figure", name, FIGURES, where="sphere plot")
    return cast(Figure, load_object(f"workflows.results.figures.{name}:FIGURE"))
