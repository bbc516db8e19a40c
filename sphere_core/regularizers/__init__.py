"""Regularizers: what reshapes an update before it is written."""

from sphere_core.regularizers.base import Regularizer, Scope
from sphere_core.regularizers.sphere import Sphere

__all__ = ["Regularizer", "Scope", "Sphere"]
