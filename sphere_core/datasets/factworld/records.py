"""CounterFact-shaped edit records over a fact world."""

import random
from collections.abc import Mapping

from sphere_core.datasets.factworld.world import EDIT_TEMPLATE, HELD_CANDIDATES, Fact, World

__all__ = ["edit_records"]

NEIGHBORS = 5


def edit_records(world: World, *, every_fact: bool = False) -> list[dict[str, object]]:
    """Return one edit record for each of the 700 editable subjects, in the order of subjects.

    With `every_fact` 700 more follow, of what else is known of each subject: 1,400 facts, two a subject. Which of a
    subject's two facts is edited and what it becomes (another object of the same relation) is drawn from the world's
    seed. The paraphrases are the template under which the fact was never trained, then a trained one, both with the
    subject first. The neighborhood prompts concern the same relation of reserve subjects with the same true object: 2
    to 5 of them.
    """
    rng = random.Random(f"edits {world.seed}")
    reserve = set(world.reserve)
    neighbors = _neighbors(world)
    facts: dict[str, list[Fact]] = {}
    for fact in world.facts:
        if fact.subject not in reserve:
            facts.setdefault(fact.subject, []).append(fact)
    records: list[dict[str, object]] = []
    others: list[Fact] = []
    for choices in facts.values():
        chosen = rng.choice(choices)
        others += [fact for fact in choices if fact is not chosen]
        records.append(_record(world, len(records), chosen, neighbors, rng))
    for fact in others if every_fact else []:
        records.append(_record(world, len(records), fact, neighbors, rng))
    return records


def _neighbors(world: World) -> dict[tuple[str, str], list[str]]:
    reserve = set(world.reserve)
    prompts: dict[tuple[str, str], list[str]] = {}
    for fact in world.facts:
        if fact.subject in reserve:
            prompt = world.prompt(fact, EDIT_TEMPLATE)
            prompts.setdefault((fact.relation_id, fact.object), []).append(prompt)
    return prompts


def _record(
    world: World,
    case_id: int,
    fact: Fact,
    neighbors: Mapping[tuple[str, str], list[str]],
    rng: random.Random,
) -> dict[str, object]:
    relation = world.relation(fact.relation_id)
    target_new = rng.choice([word for word in relation.objects if word != fact.object])
    trained = rng.choice([index for index in HELD_CANDIDATES if index != fact.held_template])
    return {
        "case_id": case_id,
        "requested_rewrite": {
            "prompt": relation.templates[EDIT_TEMPLATE],
            "relation_id": relation.id,
            "target_new": {"str": target_new},
            "target_true": {"str": fact.object},
            "subject": fact.subject,
        },
        "paraphrase_prompts": [world.prompt(fact, fact.held_template), world.prompt(fact, trained)],
        "neighborhood_prompts": neighbors[relation.id, fact.object][:NEIGHBORS],
        "attribute_prompts": [],
        "generation_prompts": [world.prompt(fact, EDIT_TEMPLATE)],
    }
