"""When a regularizer acts. Loads no torch, since the table of methods names it."""

from enum import Enum

__all__ = ["Scope"]


class Scope(Enum):
    """When a regularizer acts; the same projection at another time is another method."""

    IN_LOOP = "in the layer loop"
    AFTER_BATCH = "after the batch"
    READ_OUT = "on the weights that are scored"
    TARGETS = "on the targets"
