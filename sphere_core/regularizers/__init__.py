"""Regularizers: what reshapes an update before it is written, or a change before it is scored."""

from typing import TYPE_CHECKING

from sphere_core.foundation.lazy import lazy_exports

if TYPE_CHECKING:
    from sphere_core.regularizers.balance import Balance
    from sphere_core.regularizers.base import ReadOut, Regularizer, Stateless
    from sphere_core.regularizers.nas import AnchorSettings, NormAnchor
    from sphere_core.regularizers.prune import Prune
    from sphere_core.regularizers.rect import Rect
    from sphere_core.regularizers.revive import Revive
    from sphere_core.regularizers.scope import Scope
    from sphere_core.regularizers.sphere import Sphere

__all__ = [
    "AnchorSettings",
    "Balance",
    "NormAnchor",
    "Prune",
    "ReadOut",
    "Rect",
    "Regularizer",
    "Revive",
    "Scope",
    "Sphere",
    "Stateless",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "balance": "Balance",
        "base": "ReadOut Regularizer Stateless",
        "nas": "AnchorSettings NormAnchor",
        "prune": "Prune",
        "rect": "Rect",
        "revive": "Revive",
        "scope": "Scope",
        "sphere": "Sphere",
    },
)
