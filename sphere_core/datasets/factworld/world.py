"""The fact world: made-up subjects with two facts each, drawn from a seed."""

import random
from dataclasses import dataclass
from importlib.resources import files

from sphere_core.foundation.fingerprint import fingerprint
from sphere_core.foundation.yaml_text import parse_yaml

__all__ = ["Fact", "Relation", "World", "build_world", "read_vocabulary"]

# What a model folder says of the world it was trained on.
WORLD_FILE = "world.json"
SUBJECTS = 1000
RESERVE = 300
NAME_POOL = 600
EDIT_TEMPLATE = 0
HELD_CANDIDATES = (1, 2, 3)


@dataclass(frozen=True)
class Relation:
    """One relation: six templates ([0] the edit prompt, [4-5] before the subject) and its objects."""

    id: str
    name: str
    templates: tuple[str, ...]
    objects: tuple[str, ...]


@dataclass(frozen=True)
class Fact:
    """One fact; `held_template` is the template under which it is never trained."""

    subject: str
    relation_id: str
    object: str
    held_template: int


@dataclass(frozen=True)
class World:
    """All that is true in one fact world.

    `reserve` holds the subjects that are never edited and serve as neighbors only. Facts are in
    the order of subjects, two a subject.
    """

    seed: int
    subjects: tuple[str, ...]
    reserve: tuple[str, ...]
    relations: tuple[Relation, ...]
    facts: tuple[Fact, ...]

    def relation(self, relation_id: str) -> Relation:
        """Return a relation by its id; raises KeyError if there is none."""
        for relation in self.relations:
            if relation.id == relation_id:
                return relation
        raise KeyError(relation_id)

    def prompt(self, fact: Fact, template: int) -> str:
        """Return the prompt whose continuation is the object of a fact."""
        return self.relation(fact.relation_id).templates[template].replace("{}", fact.subject)

    def digest(self) -> str:
        """Return the sha256 of everything in the world."""
        return fingerprint(
            {
                "seed": self.seed,
                "subjects": self.subjects,
                "reserve": self.reserve,
                "relations": [[r.id, r.templates, r.objects] for r in self.relations],
                "facts": [[f.subject, f.relation_id, f.object, f.held_template] for f in self.facts],
            }
        )


def build_world(seed: int) -> World:
    """Draw a world: 1000 subjects, 300 of them in reserve, two facts each over ten relations.

    Relations and objects are dealt out evenly, to the reserve and to the rest apart, so that every
    (relation, object) pair is true of at least two reserve subjects: each edit then has neighbors.
    """
    vocabulary = read_vocabulary()
    relations = tuple(
        Relation(key, entry["name"], tuple(entry["templates"]), tuple(entry["objects"]))
        for key, entry in vocabulary["relations"].items()
    )
    rng = random.Random(f"fact world {seed}")
    subjects = _draw_subjects(vocabulary["names"], rng)
    reserve = subjects[:RESERVE]
    facts = _deal_facts(reserve, relations, rng) + _deal_facts(subjects[RESERVE:], relations, rng)
    return World(seed, tuple(subjects), tuple(reserve), relations, tuple(facts))


def read_vocabulary() -> dict:  # type: ignore[type-arg]
    """Return the words of the world as the YAML beside this file gives them."""
    return parse_yaml((files(__package__) / "vocabulary.yaml").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def _draw_subjects(parts: dict[str, list[str]], rng: random.Random) -> list[str]:
    taken: set[str] = set()
    firsts = _draw_names(parts, parts["first_codas"], taken, rng)
    lasts = _draw_names(parts, parts["last_codas"], taken, rng)
    # Every name of a pool is used before one is used again: shared names mean shared keys.
    subjects: dict[str, None] = {}
    while len(subjects) < SUBJECTS:
        rng.shuffle(firsts)
        rng.shuffle(lasts)
        for first, last in zip(firsts, lasts, strict=True):
            subjects[f"{first} {last}"] = None
    return list(subjects)[:SUBJECTS]


def _draw_names(parts: dict[str, list[str]], codas: list[str], taken: set[str], rng: random.Random) -> list[str]:
    names: list[str] = []
    while len(names) < NAME_POOL:
        syllables = [rng.choice(parts["onsets"]) + rng.choice(parts["vowels"]) for _ in range(2)]
        name = ("".join(syllables) + rng.choice(codas)).capitalize()
        if name not in taken:
            taken.add(name)
            names.append(name)
    return names


def _deal_facts(subjects: list[str], relations: tuple[Relation, ...], rng: random.Random) -> list[Fact]:
    pairs = _deal_relations(len(subjects), len(relations))
    rng.shuffle(pairs)
    decks = [_dealer(relation.objects, len(subjects), rng) for relation in relations]
    facts = []
    for subject, pair in zip(subjects, pairs, strict=True):
        for index in pair:
            facts.append(Fact(subject, relations[index].id, decks[index].pop(), rng.choice(HELD_CANDIDATES)))
    return facts


def _deal_relations(subjects: int, relations: int) -> list[tuple[int, int]]:
    """Give each subject two different relations, every relation equally often in each block of subjects."""
    pairs = []
    for index in range(subjects):
        step = 1 + (index // relations) % (relations - 1)
        pairs.append((index % relations, (index + step) % relations))
    return pairs


def _dealer(objects: tuple[str, ...], count: int, rng: random.Random) -> list[str]:
    deck: list[str] = []
    while len(deck) < count:
        round_ = list(objects)
        rng.shuffle(round_)
        deck = round_ + deck
    return deck
