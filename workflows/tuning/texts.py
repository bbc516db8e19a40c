"""Texts for fine-tuning: from a corpus, from pairs of prompt and answer, or about people of another fact world."""

import json
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from sphere_core.datasets.factworld.corpus import fact_sentences
from sphere_core.datasets.factworld.shipped import shipped_world
from sphere_core.datasets.factworld.world import build_world
from sphere_core.foundation.errors import InputError
from sphere_core.requests import EditRequest
from sphere_core.tuning.text import TuningText
from workflows.moments.corpus_texts import corpus_texts
from workflows.store.plan import TuningData

__all__ = ["tuning_texts"]

# The fact world's own sentences never end: beyond this many for each text that is taken, none is expected any more.
_LONGEST_SEARCH = 1000
_PAIR_FILES = (".jsonl", ".ndjson")


def tuning_texts(data: TuningData, edits: Sequence[EditRequest], *, where: str) -> list[TuningText]:
    """Return the texts of a fine-tuning after these edits, in the order of their source.

    `mentions: none` leaves out every text that holds an edited subject, `edited` every other one; of the latter those
    that also hold the subject's old answer are left out too, unless `old_answers`. Subjects and answers are found as
    whole words. Raises InputError if there are fewer texts than are to be taken, or if they cannot be read.
    """
    source = islice(_source(data), data.texts * _LONGEST_SEARCH)
    is_taken = _filter(data, edits)
    found = list(islice((text for text in source if is_taken(text.whole)), data.texts))
    if len(found) < data.texts:
        chosen = {"any": "", "none": " without an edited subject", "edited": " that mention an edited subject"}
        raise InputError(
            f"the data has {len(found)} texts{chosen[data.mentions]}, {data.texts} are requested",
            where=where,
            remedy=f"set texts to {len(found)}" if found else "give other data",
        )
    return found


def _source(data: TuningData) -> Iterator[TuningText]:
    if data.corpus is None:
        return iter(_people(int(data.people or 0)))
    if data.prompt_field is None:
        return (TuningText(text) for text in corpus_texts(data.corpus))
    pairs = [_pairs(Path(path), data.prompt_field, data.corpus.field) for path in data.corpus.paths]
    return (pair for file in pairs for pair in file)


def _people(seed: int) -> list[TuningText]:
    """Return all facts of another fact world under every template, shuffled, without people of the embedded world."""
    world, known = build_world(seed), set(shipped_world().subjects)
    others = replace(world, facts=tuple(fact for fact in world.facts if fact.subject not in known))
    sentences = [sentence.text for sentence in fact_sentences(others)]
    random.Random(f"people {seed}").shuffle(sentences)
    return [TuningText(text) for text in sentences]


def _filter(data: TuningData, edits: Sequence[EditRequest]) -> Callable[[str], bool]:
    if data.mentions == "any":
        return lambda text: True
    subjects = _any_of({request.subject for request in edits})
    if data.mentions == "none":
        return lambda text: subjects.search(text) is None
    old: dict[str, set[str]] = {}
    for request in edits:
        if request.target_true is not None and not data.old_answers:
            old.setdefault(request.subject, set()).add(request.target_true)
    answers = {subject: _any_of(found) for subject, found in old.items()}

    def mentions(text: str) -> bool:
        named = set(subjects.findall(text))
        return bool(named) and not any(answers[name].search(text) for name in named if name in answers)

    return mentions


def _any_of(words: Iterable[str]) -> re.Pattern[str]:
    # The longest first: of two subjects of which one begins the other, the longer is found.
    ordered = sorted(words, key=lambda word: (-len(word), word))
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, ordered))})(?!\w)")


def _pairs(path: Path, prompt: str, answer: str) -> Iterator[TuningText]:
    if path.suffix not in _PAIR_FILES:
        raise InputError("pairs are read from JSONL only", where=str(path), remedy="one JSON object a line")
    with path.open(encoding="utf-8") as handle:
        for number, line in enumerate(handle, start=1):
            if line.strip():
                yield _pair(line, prompt, answer, f"{path}, line {number}")


def _pair(line: str, prompt: str, answer: str, where: str) -> TuningText:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"not a line of JSON: {error}", where=where, remedy="one JSON object a line") from error
    values = [row.get(name) if isinstance(row, dict) else None for name in (answer, prompt)]
    for name, value in zip((answer, prompt), values, strict=True):
        if not isinstance(value, str) or not value.strip():
            raise InputError(f"no text in the field '{name}'", where=where, remedy="name the fields of the file")
    return TuningText(str(values[0]).strip(), str(values[1]).strip())
