"""Choices of every command that reads the scored probes of edits."""

from enum import Enum

__all__ = ["Measure", "Role"]


class Role(Enum):
    """The probes to use."""

    REWRITE = "rewrite"
    PARAPHRASE = "paraphrase"
    NEIGHBORHOOD = "neighborhood"
    PORTABILITY = "portability"


class Measure(Enum):
    """When an answer counts as right."""

    ARGMAX = "argmax"
    PROBABILITY = "probability"
