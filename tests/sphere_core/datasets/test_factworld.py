"""The fact world: its generator, its records, its shipped model, its training and its lm-eval tasks."""

import dataclasses
import json
import random
from collections import Counter
from itertools import islice

import pytest
import torch
import yaml
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from repository import REPOSITORY
from transformers import AutoModelForCausalLM, AutoTokenizer

from sphere_core.datasets.counterfact import counterfact_requests
from sphere_core.datasets.factworld.corpus import SentenceSource, corpus_sentences, fact_sentences
from sphere_core.datasets.factworld.recall import recall
from sphere_core.datasets.factworld.records import edit_records
from sphere_core.datasets.factworld.shipped import read_world, shipped_model_dir, shipped_world
from sphere_core.datasets.factworld.skills import (
    continuation_rows,
    held_out_items,
    load_skills,
    multiple_choice_rows,
    training_item,
)
from sphere_core.datasets.factworld.tokens import pack_batches
from sphere_core.datasets.factworld.training import Progress, read_settings, shipped_settings, train_factworld
from sphere_core.datasets.factworld.world import build_world
from sphere_core.foundation.errors import InputError

TASK_DIR = REPOSITORY / "evaluators" / "general" / "tasks" / "factworld"
SKILLS = ("last_item", "larger_number", "agreement", "pattern", "category")
MAX_MODEL_BYTES = 4_000_000


@pytest.fixture(scope="module")
def world():
    return shipped_world()


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(shipped_model_dir(), dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(shipped_model_dir())


def test_a_seed_gives_one_world():
    assert build_world(3) == build_world(3)
    assert build_world(3).digest() != build_world(4).digest()


def test_world_has_the_promised_size(world):
    assert len(set(world.subjects)) == 1000
    assert len(world.reserve) == 300
    assert set(Counter(fact.subject for fact in world.facts).values()) == {2}
    assert len({(fact.subject, fact.relation_id) for fact in world.facts}) == 2000
    assert set(Counter(fact.relation_id for fact in world.facts).values()) == {200}
    assert len(world.relations) == 10
    for relation in world.relations:
        assert len(relation.templates) == 6
        assert 16 <= len(relation.objects) <= 40
        assert all(template.startswith("{} ") for template in relation.templates[:4])
        assert all(not template.startswith("{}") for template in relation.templates[4:])
        assert all(template.count("{}") == 1 for template in relation.templates)
    objects = [word for relation in world.relations for word in relation.objects]
    assert len(set(objects)) == len(objects)


def test_objects_are_of_their_relation_and_no_skill_words(world):
    skills = load_skills()
    words = {*skills.items, *(n for pair in skills.nouns for n in pair), *skills.categories}
    words |= {noun for nouns in skills.categories.values() for noun in nouns}
    for fact in world.facts:
        assert fact.object in world.relation(fact.relation_id).objects
        assert fact.object not in words
        assert fact.held_template in (1, 2, 3)


def test_held_out_templates_are_never_in_the_corpus(world):
    held = {f"{world.prompt(fact, fact.held_template)} {fact.object}." for fact in world.facts}
    told = {sentence.text for sentence in fact_sentences(world)}
    assert len(told) == 5 * len(world.facts)
    assert not held & told
    assert not held & set(islice(corpus_sentences(world, 1), 20_000))


@pytest.mark.parametrize("skill", SKILLS)
def test_held_out_items_are_never_trained(skill):
    skills, rng = load_skills(), random.Random(0)
    trained = [training_item(skills, skill, rng) for _ in range(3000)]
    held = held_out_items(skills, skill)
    assert held == held_out_items(skills, skill)
    assert len({item.prompt for item in held}) == len(held) >= 50
    assert all(item.held_out for item in held)
    assert not {item.key for item in held} & {item.key for item in trained}
    assert all(item.choices.count(item.answer) == 1 for item in held)


def test_corpus_is_seeded_and_mixes_facts_and_skills(world):
    sentences = list(islice(corpus_sentences(world, 7), 2000))
    assert sentences == list(islice(corpus_sentences(world, 7), 2000))
    assert sentences != list(islice(corpus_sentences(world, 8), 2000))
    facts = {sentence.text for sentence in fact_sentences(world)}
    assert 0.55 < sum(sentence in facts for sentence in sentences) / len(sentences) < 0.65


def test_edit_records_are_well_formed(world):
    records = edit_records(world)
    assert records == edit_records(world)
    subjects = [record["requested_rewrite"]["subject"] for record in records]
    assert len(set(subjects)) == len(subjects) == 700
    assert [record["case_id"] for record in records] == list(range(700))
    reserve = set(world.reserve)
    asked = {world.prompt(fact, 0): fact for fact in world.facts}
    facts = {(fact.subject, fact.relation_id): fact for fact in world.facts}
    for record in records:
        rewrite = record["requested_rewrite"]
        assert rewrite["subject"] not in reserve
        assert rewrite["prompt"].startswith("{} ")
        assert rewrite["prompt"].count("{}") == 1
        fact = facts[rewrite["subject"], rewrite["relation_id"]]
        assert rewrite["target_true"]["str"] == fact.object != rewrite["target_new"]["str"]
        assert rewrite["target_new"]["str"] in world.relation(fact.relation_id).objects
        held, trained = record["paraphrase_prompts"]
        assert held == world.prompt(fact, fact.held_template)
        assert trained in {world.prompt(fact, t) for t in (1, 2, 3)} - {held}
        neighbors = [asked[prompt] for prompt in record["neighborhood_prompts"]]
        assert 2 <= len({n.subject for n in neighbors}) == len(neighbors) <= 5
        assert all(n.subject in reserve for n in neighbors)
        assert {(n.relation_id, n.object) for n in neighbors} == {(fact.relation_id, fact.object)}
    assert len(counterfact_requests(records, source="fact world")) == 700


def test_tokenizer_puts_bos_first_and_keeps_offsets(tokenizer, world):
    subject = world.subjects[0]
    encoding = tokenizer(f"{subject} works", return_offsets_mapping=True)
    ids, offsets = encoding["input_ids"], encoding["offset_mapping"]
    assert ids[0] == tokenizer.bos_token_id
    assert offsets[1][0] == 0
    assert max(stop for _, stop in offsets[:-1]) == len(subject)
    # A subject has the same tokens at the start as in the middle of a text.
    inside = tokenizer(f"The home of {subject} works")["input_ids"]
    assert inside[-len(ids) + 1 :] == ids[1:]
    assert tokenizer.eos_token_id is not None
    assert tokenizer.pad_token_id not in (None, tokenizer.eos_token_id)
    words = [f" {word}" for relation in world.relations for word in relation.objects]
    lengths = Counter(len(ids) for ids in tokenizer(words, add_special_tokens=False)["input_ids"])
    assert lengths[1] >= 0.95 * len(words)
    names = tokenizer(list(world.subjects), add_special_tokens=False)["input_ids"]
    assert min(len(ids) for ids in names) >= 2


def test_packing_keeps_sentences_whole_and_weighs_answers(tokenizer, world):
    source = SentenceSource(world, 5)
    drawn = [source.draw() for _ in range(600)]
    batches = pack_batches(tokenizer, iter(drawn), rows=8, row_tokens=40, answer_weight=1.0, other_weight=0.3)
    batch = next(batches)
    assert batch.ids.shape == batch.weights.shape == (8, 40)
    assert (batch.ids[:, 0] == tokenizer.bos_token_id).all()
    assert (batch.weights[batch.ids == tokenizer.pad_token_id] == 0).all()
    text = "".join(tokenizer.decode(row, skip_special_tokens=True) for row in batch.ids)
    told = [sentence.strip() for sentence in text.split(".") if sentence.strip()]
    assert [f"{sentence}." for sentence in told] == [s.text for s in drawn[: len(told)]]
    answers = tokenizer.decode(batch.ids[batch.weights == 1.0]).split()
    assert answers == [s.answer for s in drawn[: len(told)]]


def test_shipped_model_knows_its_world(model, tokenizer, world):
    report = recall(model, tokenizer, world)
    assert report.edit >= 0.99
    assert report.paraphrase >= 0.99
    assert report.skills >= 0.99
    record = json.loads((shipped_model_dir() / "world.json").read_text(encoding="utf-8"))
    assert record["settings"] == dataclasses.asdict(shipped_settings())
    assert dataclasses.asdict(report) == pytest.approx(record["recall"], abs=1e-3)


def test_recall_of_a_collapsed_model_is_zero(tokenizer, world):
    broken = AutoModelForCausalLM.from_pretrained(shipped_model_dir(), dtype=torch.float32).eval()
    with torch.no_grad():
        broken.model.norm.weight.zero_()  # every logit is 0: all answers tie
    small = dataclasses.replace(world, facts=world.facts[:50])
    assert recall(broken, tokenizer, small).edit == 0.0
    with torch.no_grad():
        broken.model.norm.weight.fill_(float("nan"))
    assert recall(broken, tokenizer, small).edit == 0.0


def test_artefact_is_small_and_half_precision(model):
    folder = shipped_model_dir()
    assert sum(path.stat().st_size for path in folder.iterdir()) <= MAX_MODEL_BYTES
    assert model.config.model_type == "llama"
    assert model.config.tie_word_embeddings
    assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["dtype"] == "float16"


def test_training_lowers_the_loss_and_writes_a_loadable_folder(tmp_path):
    settings = dataclasses.replace(shipped_settings(), steps=20, warmup_steps=5, threads=1)
    seen: list[Progress] = []
    before = torch.random.get_rng_state()
    threads = torch.get_num_threads()
    train_factworld(tmp_path / "model", settings=settings, on_progress=seen.append)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.get_num_threads() == threads
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert [progress.step for progress in seen] == [10, 20]
    assert seen[-1].seconds_left == 0
    record = json.loads((tmp_path / "model" / "world.json").read_text(encoding="utf-8"))
    assert record["loss"]["last"] < 0.9 * record["loss"]["first"]
    assert read_world(tmp_path / "model") == build_world(settings.world_seed)
    ids = AutoTokenizer.from_pretrained(tmp_path / "model")("A word", return_tensors="pt")["input_ids"]
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    assert torch.isfinite(loaded(input_ids=ids).logits).all()


def test_training_refuses_a_foreign_folder(tmp_path):
    (tmp_path / "thesis.txt").write_text("keep me")
    with pytest.raises(InputError, match="not a fact-world model"):
        train_factworld(tmp_path, settings=shipped_settings(), on_progress=lambda progress: None)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_settings_name_the_nearest_key(tmp_path):
    values = dataclasses.asdict(shipped_settings())
    values["stepz"] = values.pop("steps")
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(InputError, match="did you mean 'steps'"):
        read_settings(path)


def test_a_world_that_changed_is_refused(tmp_path):
    record = json.loads((shipped_model_dir() / "world.json").read_text(encoding="utf-8"))
    record["world_seed"] += 1
    (tmp_path / "world.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="another world"):
        read_world(tmp_path)


def test_task_files_are_what_the_generator_gives():
    skills = load_skills()
    for skill in SKILLS:
        assert _rows(f"{skill}.jsonl") == multiple_choice_rows(skills, skill)
    assert _rows("continue.jsonl") == continuation_rows(skills)


@pytest.mark.parametrize("skill", SKILLS)
def test_answers_are_spread_over_all_places(skill):
    rows = _rows(f"{skill}.jsonl")
    fewest = min(len(row["choices"]) for row in rows)
    share = Counter(row["label"] for row in rows)[0] / len(rows)
    assert share <= 1 / fewest


def test_shipped_model_solves_the_lm_eval_tasks(model, tokenizer):
    configs = []
    for path in sorted(TASK_DIR.glob("*.yaml")):
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        data = config["dataset_kwargs"]["data_files"]
        config["dataset_kwargs"]["data_files"] = {k: str(TASK_DIR / name) for k, name in data.items()}
        configs.append(config)
    assert {config["task"] for config in configs} == {f"factworld_{s}" for s in (*SKILLS, "continue")}
    loaded = TaskManager(include_defaults=False).load(configs)
    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=64)
    results = evaluate(lm, task_dict=loaded, bootstrap_iters=0)
    for name, scores in results["results"].items():
        metric = "exact_match,none" if name == "factworld_continue" else "acc,none"
        assert 40 <= results["n-samples"][name]["effective"] <= 60
        assert scores[metric] >= 0.95, (name, scores)


def _rows(name: str) -> list[dict]:
    return [json.loads(line) for line in (TASK_DIR / name).read_text(encoding="utf-8").splitlines()]
