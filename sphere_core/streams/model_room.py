"""The reading room of a loaded model: its positions and its tokenizer, for checks of lengths."""

from sphere_core.locate.prompts import text_ids
from sphere_core.locate.templates import Contexts, ContextSettings
from sphere_core.models.editable import EditableModel
from sphere_core.streams.lengths import ReadingRoom, sampled_tokens

__all__ = ["room_of_model"]


def room_of_model(
    model: EditableModel, *, groups: Contexts | None = None, sampled: ContextSettings | None = None
) -> ReadingRoom | None:
    """Return what a loaded model can read at once, or None if its config says nothing of positions.

    `groups` are the context templates that prompts are edited in; `sampled` is how they will be sampled instead.
    """
    positions = model.outline().positions
    if positions is None:
        return None
    templates = tuple(text for group in groups for text in group) if groups is not None else ("{}",)

    def count(text: str) -> int:
        return len(text_ids(model.tokenizer, text))

    extra = sampled_tokens(sampled, count)
    return ReadingRoom(positions, count, templates, extra)
