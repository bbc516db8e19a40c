"""The start of an evaluator of one's own: it reads a checkpoint and its requests, and nothing else."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluators.base import Scored, Subject

__all__ = ["PlainEvaluator"]


class PlainEvaluator(ABC):
    """An evaluator whose scores depend on its settings and the subject alone; a subclass gives `kind` and `score`.

    A `reads_...` attribute set to True in the subclass makes that input part of the subject and of the identity.
    """

    kind: str
    reads_generation = False
    reads_previous = False
    reads_moments = False

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    def identity(self) -> dict[str, object]:
        """Return what else can change a score; settings and code are added by the registry."""
        return {}

    @abstractmethod
    def score(self, subject: "Subject") -> "Scored":
        """Score the subject, leaving its weights, its tokenizer and the random states as they were."""
