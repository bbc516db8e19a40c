"""What a regularizer is, and when it acts."""

from enum import Enum
from typing import Protocol

from sphere_core.linalg import Update
from sphere_core.models.editable import EditableModel
from sphere_core.models.sites import Site

__all__ = ["Regularizer", "Scope"]


class Scope(Enum):
    """When a regularizer acts; the same projection at another time is another method."""

    IN_LOOP = "in the layer loop"
    AFTER_BATCH = "after the batch"


class Regularizer(Protocol):
    """Reshapes an update before it is written."""

    def apply(self, update: Update, site: Site, model: EditableModel) -> Update:
        """Return the update to write instead; the model holds the weights that the update would be added to."""
        ...
