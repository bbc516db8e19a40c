"""A text to train on. Loads no torch."""

from dataclasses import dataclass

__all__ = ["TuningText"]


@dataclass(frozen=True)
class TuningText:
    """A text to train on: every token of `answer` is predicted; those of `prompt` are only read."""

    answer: str
    prompt: str = ""

    @property
    def whole(self) -> str:
        """The text as the model reads it."""
        return f"{self.prompt} {self.answer}" if self.prompt else self.answer
