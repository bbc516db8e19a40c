"""Lengths of what a stream reads, against the positions of a model: known before anything is edited or written."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sphere_core.datasets.records import Record
from sphere_core.foundation.errors import InputError
from sphere_core.locate.templates import ContextSettings
from sphere_core.requests import EditRequest

__all__ = ["LongText", "ReadingRoom", "first_long_text", "long_records", "refuse_long", "sampled_tokens"]

# Special tokens, the blank that joins prompt and target, and the mark that some tokenizers put before a text.
_MARGIN = 8
# First words of templates are shorter than this; a longer one is counted, which loads the tokenizer.
_WORD_BYTES = 32


@dataclass(frozen=True)
class ReadingRoom:
    """What a model can read at once: its positions, and how many tokens it makes of a text.

    `count` returns the tokens of a text with the special ones that open it; a text of fewer bytes than positions is
    never given to it. `templates` are the context templates that prompts are edited in, `sampled` how many tokens a
    template that is sampled later adds at most.
    """

    positions: int
    count: Callable[[str], int]
    templates: tuple[str, ...] = ("{}",)
    sampled: int = 0


@dataclass(frozen=True)
class LongText:
    """A text that does not fit: the case and field it is in, and its tokens."""

    case_id: str
    field: str
    tokens: int
    text: str


def sampled_tokens(sampled: ContextSettings | None, count: Callable[[str], int]) -> int:
    """Return how many tokens a sampled template adds to a prompt at most, from how it is sampled; None: it is not.

    `count` returns the tokens of a text; only a first word that may have more of them than the template is given to it.
    """
    if sampled is None:
        return 0
    length = sampled.length
    # A first word of more tokens than that is kept whole.
    long = (word for word in sampled.seeds if len(word.encode()) > max(length, _WORD_BYTES))
    return max([length, *(count(word) for word in long)]) + 2


def first_long_text(request: EditRequest, room: ReadingRoom) -> LongText | None:
    """Return the first text of a request that is longer than the model's positions, or None.

    What is edited is the prompt in its templates with the new target; what is scored, each probe with its target and
    its contrast, and each condition of a probe with its answers; free generation starts from its prompts. The last
    token of a target is predicted and not read.
    """
    for field, text, extra in _texts(request, room):
        if len(text.encode()) + extra + _MARGIN <= room.positions:
            continue
        tokens = room.count(text) - 1 + extra
        if tokens > room.positions:
            return LongText(request.case_id, field, tokens, text)
    return None


def long_records(records: Sequence[Record], room: ReadingRoom) -> dict[int, LongText]:
    """Return the records that hold a text which is too long, by their place, each with its first one."""
    found = {}
    for place, record in enumerate(records):
        long = next(filter(None, (first_long_text(request, room) for request in record.requests)), None)
        if long is not None:
            found[place] = long
    return found


def refuse_long(requests: Sequence[EditRequest], room: ReadingRoom, *, source: str) -> None:
    """Raise InputError if a request holds a text that is too long, naming the first case and field and the count."""
    found = [long for request in requests if (long := first_long_text(request, room)) is not None]
    if not found:
        return
    first = found[0]
    others = f" (and {len(found) - 1} more records)" if len(found) > 1 else ""
    raise InputError(
        f"a text has {first.tokens} tokens, the model has {room.positions} positions{others}",
        where=f"{source}, case {first.case_id}, field {first.field}: {first.text[:60]!r}",
        remedy="shorten it, take a model with more positions, or leave such records out: too_long: skip",
    )


def _texts(request: EditRequest, room: ReadingRoom) -> Iterator[tuple[str, str, int]]:
    """Yield every text that is read: its field, the text, and tokens that are read before it."""
    edited = f"{request.question} {request.target_new}"
    for template in room.templates:
        yield "prompt with target_new", template.replace("{}", edited), 0
    if room.sampled:
        yield "prompt with target_new", edited, room.sampled
    for number, probe in enumerate(request.probes):
        for target in (probe.target, probe.contrast):
            if target is not None:
                yield f"probe {number} ({probe.role})", f"{probe.prompt} {target}", 0
        for fact in probe.known_before:
            for answer in fact.answers:
                yield f"condition of probe {number} ({probe.role})", f"{fact.prompt} {answer}", 0
    for number, text in enumerate(request.generation_prompts):
        yield f"generation_prompts[{number}]", text, 0
