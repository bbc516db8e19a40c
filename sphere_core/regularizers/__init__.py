"""Regularizers: what reshapes an update before it is written, or a change before it is scored."""

from sphere_core.regularizers.base import ReadOut, Regularizer, Scope
from sphere_core.regularizers.nas import AnchorSettings, NormAnchor
from sphere_core.regularizers.prune import Prune
from sphere_core.regularizers.rect import Rect
from sphere_core.regularizers.revive import Revive
from sphere_core.regularizers.sphere import Sphere

__all__ = [
    "AnchorSettings",
    "NormAnchor",
    "Prune",
    "ReadOut",
    "Rect",
    "Regularizer",
    "Revive",
    "Scope",
    "Sphere",
]
