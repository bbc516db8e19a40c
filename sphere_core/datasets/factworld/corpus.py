"""The text a fact-world model is trained on."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from sphere_core.datasets.factworld.skills import Skills, load_skills, training_item
from sphere_core.datasets.factworld.world import Fact, World

__all__ = ["Sentence", "SentenceSource", "corpus_sentences", "fact_sentences"]

SKILL_SHARE = 0.4
# Skills that are learned late appear more often.
SKILL_WEIGHTS = {"last_item": 2.5, "larger_number": 1.5, "agreement": 0.5, "pattern": 1.25, "category": 0.75}


@dataclass(frozen=True)
class Sentence:
    """One sentence as prompt, answer and the words after the answer."""

    prompt: str
    answer: str
    tail: str

    @property
    def text(self) -> str:
        """The sentence as written, with its full stop."""
        return f"{self.prompt} {self.answer}{self.tail}."


class SentenceSource:
    """Draws training sentences: six in ten tell facts, the others are of general skills.

    A fact never appears under its held-out template, and a held-out skill item is never drawn.
    """

    def __init__(self, world: World, seed: int) -> None:
        self._facts = fact_sentences(world)
        self._skills: Skills = load_skills()
        self._rng = random.Random(f"corpus {world.seed} {seed}")

    def draw(self) -> Sentence:
        """Draw the next sentence."""
        if self._rng.random() >= SKILL_SHARE:
            return self._rng.choice(self._facts)
        names = self._skills.names
        skill = self._rng.choices(names, [SKILL_WEIGHTS[name] for name in names])[0]
        item = training_item(self._skills, skill, self._rng)
        return Sentence(item.prompt, item.answer, item.tail)


def fact_sentences(world: World) -> list[Sentence]:
    """Return every fact under every template it may be trained with."""
    return [_tell(world, fact, template) for fact in world.facts for template in _trained(world, fact)]


def corpus_sentences(world: World, seed: int) -> Iterator[str]:
    """Yield sentences of the training distribution without end, for second moments."""
    source = SentenceSource(world, seed)
    while True:
        yield source.draw().text


def _trained(world: World, fact: Fact) -> list[int]:
    templates = world.relation(fact.relation_id).templates
    return [index for index in range(len(templates)) if index != fact.held_template]


def _tell(world: World, fact: Fact, template: int) -> Sentence:
    return Sentence(world.prompt(fact, template), fact.object, "")
