"""Five general skills that have nothing to do with the facts, each with items held out by a hash."""

import hashlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sphere_core.datasets.factworld.world import read_vocabulary

__all__ = [
    "SkillItem",
    "Skills",
    "continuation_rows",
    "held_out_items",
    "load_skills",
    "multiple_choice_rows",
    "training_item",
]

HELD_OUT_MARKS = 64  # of 256: a quarter of all combinations
TASK_SEED = 0
HELD_ITEMS = 60


@dataclass(frozen=True)
class SkillItem:
    """One question of a skill.

    `key` names the combination of words that is trained or held out as one. It does not depend on
    the order of the words, except for two numbers: of a held-out pair the other order is trained.
    `tail` ends the sentence after the answer; `choices` are in seeded order and hold the answer once.
    """

    skill: str
    key: str
    held_out: bool
    prompt: str
    answer: str
    tail: str
    choices: tuple[str, ...]


@dataclass(frozen=True)
class Skills:
    """The words the skills are made of."""

    items: tuple[str, ...]
    largest_number: int
    smallest_gap: int
    nouns: tuple[tuple[str, str], ...]
    prepositions: tuple[str, ...]
    verbs: Mapping[str, tuple[str, str]]
    categories: Mapping[str, tuple[str, ...]]

    @property
    def names(self) -> tuple[str, ...]:
        """The five skills, in fixed order."""
        return tuple(_DRAW)

    def draw(self, skill: str, rng: random.Random) -> SkillItem:
        """Draw any item of a skill, held out or not; raises KeyError for an unknown skill."""
        return _DRAW[skill](self, rng)


def load_skills() -> Skills:
    """Read the skills' words from the vocabulary file."""
    words = read_vocabulary()["skills"]
    return Skills(
        items=tuple(words["items"]),
        largest_number=int(words["largest_number"]),
        smallest_gap=int(words["smallest_gap"]),
        nouns=tuple((singular, plural) for singular, plural in words["nouns"]),
        prepositions=tuple(words["prepositions"]),
        verbs={time: (singular, plural) for time, (singular, plural) in words["verbs"].items()},
        categories={name: tuple(nouns) for name, nouns in words["categories"].items()},
    )


def training_item(skills: Skills, skill: str, rng: random.Random) -> SkillItem:
    """Draw an item that may be trained."""
    while (item := skills.draw(skill, rng)).held_out:
        pass
    return item


def held_out_items(skills: Skills, skill: str) -> list[SkillItem]:
    """Return the test items of a skill: `HELD_ITEMS` held-out combinations, the same at every call."""
    rng = random.Random(f"held out {skill} {TASK_SEED}")
    items: dict[str, SkillItem] = {}
    while len(items) < HELD_ITEMS:
        item = skills.draw(skill, rng)
        if item.held_out:
            items.setdefault(item.prompt, item)
    return list(items.values())


def multiple_choice_rows(skills: Skills, skill: str) -> list[dict[str, object]]:
    """Return the rows of a skill's multiple-choice task: prompt, choices and the answer's index.

    The answer goes through all places in turn, because a model with NaN scores always "chooses" the first.
    """
    rows: list[dict[str, object]] = []
    for number, item in enumerate(held_out_items(skills, skill)):
        choices = [choice for choice in item.choices if choice != item.answer]
        label = number % len(item.choices)
        choices.insert(label, item.answer)
        rows.append({"prompt": item.prompt, "choices": choices, "label": label})
    return rows


def continuation_rows(skills: Skills) -> list[dict[str, object]]:
    """Return the rows of the generation task: a pattern to continue, and its next two words."""
    rows: list[dict[str, object]] = []
    for item in held_out_items(skills, "pattern"):
        prompt, first = item.prompt.rsplit(" ", 1)
        rows.append({"prompt": prompt, "answer": f"{first} {item.answer}"})
    return rows


def _last_item(skills: Skills, rng: random.Random) -> SkillItem:
    words = rng.sample(skills.items, rng.choice((3, 4)))
    end = rng.choice(("first", "last"))
    answer = words[0] if end == "first" else words[-1]
    prompt = f"In the list {', '.join(words)} the {end} item is"
    key = " ".join(sorted(words))
    held_out = _mark("last_item", key) < HELD_OUT_MARKS
    return SkillItem("last_item", key, held_out, prompt, answer, "", _shuffled(words, rng))


def _larger_number(skills: Skills, rng: random.Random) -> SkillItem:
    low = rng.randint(1, skills.largest_number - skills.smallest_gap)
    high = rng.randint(low + skills.smallest_gap, skills.largest_number)
    pair = rng.sample((low, high), 2)
    answer = str(high)
    prompt = f"Of {pair[0]} and {pair[1]} the larger is"
    # At most one order of a pair is held out: without the other some numbers are hardly ever the answer.
    first_mark = 0 if pair[0] == low else HELD_OUT_MARKS
    held_out = first_mark <= _mark("larger_number", f"{low} {high}") < first_mark + HELD_OUT_MARKS
    choices = _shuffled([str(number) for number in pair], rng)
    return SkillItem("larger_number", f"{pair[0]} {pair[1]}", held_out, prompt, answer, "", choices)


def _agreement(skills: Skills, rng: random.Random) -> SkillItem:
    head, attractor = rng.sample(skills.nouns, 2)
    preposition, time = rng.choice(skills.prepositions), rng.choice(tuple(skills.verbs))
    number = rng.randrange(2)
    prompt = f"{time} the {head[number]} {preposition} the {attractor[rng.randrange(2)]}"
    forms = [form for pair in skills.verbs.values() for form in pair]
    key = f"{head[0]} {preposition} {attractor[0]}"
    held_out = _mark("agreement", key) < HELD_OUT_MARKS
    answer = skills.verbs[time][number]
    return SkillItem("agreement", key, held_out, prompt, answer, " there", _shuffled(forms, rng))


def _pattern(skills: Skills, rng: random.Random) -> SkillItem:
    first, second, *others = rng.sample(skills.items, 4)
    prompt = f"The pattern goes {f'{first} {second} ' * 3}{first}"
    choices = _shuffled([first, second, *others], rng)
    key = " ".join(sorted((first, second)))
    held_out = _mark("pattern", key) < HELD_OUT_MARKS
    return SkillItem("pattern", key, held_out, prompt, second, "", choices)


def _category(skills: Skills, rng: random.Random) -> SkillItem:
    name = rng.choice(tuple(skills.categories))
    pair = rng.sample(skills.categories[name], 2)
    prompt = f"Both {pair[0]} and {pair[1]} are a kind of"
    choices = _shuffled(list(skills.categories), rng)
    key = " ".join(sorted(pair))
    held_out = _mark("category", key) < HELD_OUT_MARKS
    return SkillItem("category", key, held_out, prompt, name, "", choices)


def _mark(skill: str, key: str) -> int:
    """Return a stable mark from 0 to 255 for a combination of words."""
    return hashlib.sha256(f"{skill} {key}".encode()).digest()[0]


def _shuffled(words: list[str], rng: random.Random) -> tuple[str, ...]:
    return tuple(rng.sample(words, len(words)))


_DRAW: Mapping[str, Callable[[Skills, random.Random], SkillItem]] = {
    "last_item": _last_item,
    "larger_number": _larger_number,
    "agreement": _agreement,
    "pattern": _pattern,
    "category": _category,
}
