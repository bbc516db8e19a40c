"""The place of the subject in a prompt: the one that `{}` takes."""

from sphere_core.datasets.records import IncompleteRecord
from sphere_core.foundation.look_alikes import why_absent

__all__ = ["template_of"]


def template_of(prompt: str, subject: str, *, where: str, field: str = "prompt") -> str:
    """Return the prompt with `{}` in place of the subject, or as it is where it holds `{}` already.

    Raises IncompleteRecord where the subject does not occur, occurs twice, or only as a part of a longer word: the key
    of an edit is read at the subject's last token, so a wrong place is a wrong edit.
    """
    if "{}" in prompt:
        return prompt
    place = f"{where}, field {field}"
    count = prompt.count(subject)
    if count == 0:
        raise IncompleteRecord(
            f"the subject {subject!r} does not occur in the {field} {prompt!r}",
            where=place,
            remedy=why_absent(prompt, subject) or f"write the subject exactly as it is in '{field}'",
        )
    if count > 1:
        raise IncompleteRecord(
            f"the subject {subject!r} occurs {count} times in the {field} {prompt!r}: which one is meant?",
            where=place,
            remedy="write '{}' in place of the one that the prompt is about",
        )
    start = prompt.index(subject)
    if _runs_on(prompt, start) or _runs_on(prompt, start + len(subject)):
        raise IncompleteRecord(
            f"the subject {subject!r} is only a part of a longer word in the {field} {prompt!r}: is it meant?",
            where=place,
            remedy="write the whole word as the subject, or '{}' in its place if it is meant",
        )
    return prompt.replace(subject, "{}")


def _runs_on(text: str, place: int) -> bool:
    """Return whether a word extends across a place: letters of scripts with upper and lower case, or digits, on both
    sides. Scripts without case are mostly written without blanks, where this says nothing."""
    if not 0 < place < len(text):
        return False
    return all(side.isdigit() or side.lower() != side.upper() for side in (text[place - 1], text[place]))
