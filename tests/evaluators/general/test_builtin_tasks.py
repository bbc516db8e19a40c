"""Tasks by name: lm-eval's own from a local cache, a user's folder, presets, perplexity; and what offline means."""

import math
import time
from pathlib import Path

import datasets
import pytest
import torch
from eval_parts import golden_requests, subject_of, tiny_llama
from hub_cache import fill_cache
from lm_eval.tasks import TaskManager
from sweep_files import tiny, write_sweep
from task_parts import CHOICE, choice_rows, evaluator, know_folder, named, write_jsonl

from evaluators.general import suites
from evaluators.general.evaluator import GeneralAbility, GeneralAbilitySettings
from evaluators.general.suites import SuiteResolver, TaskEntry, preset_names, read_preset
from evaluators.general.task_index import TaskFolder, harness_folder
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.fingerprint import canonical_json
from sphere_core.models import EditableModel
from workflows.sweeps.expand import load_sweep

RTE = [{"sentence1": f"It is {n}.", "sentence2": "It is.", "label": n % 2, "idx": n} for n in range(6)]
STEM = tuple(
    file.stem.removeprefix("mmlu_")
    for file in sorted((harness_folder() / "mmlu" / "default").glob("mmlu_*.yaml"))
    if "mmlu_stem_tasks" in file.read_text(encoding="utf-8")
)
GLUE = {"cola", "mnli", "mnli_mismatch", "mrpc", "qnli", "qqp", "rte", "sst2", "wnli"}


@pytest.fixture(scope="module")
def llama() -> EditableModel:
    return tiny_llama()


@pytest.fixture(scope="module")
def harness() -> TaskFolder:
    return TaskFolder(harness_folder())


@pytest.fixture(autouse=True)
def one_harness_folder(harness: TaskFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The 14,000 files of the harness are read once for all tests, not once a resolver."""
    monkeypatch.setattr(
        suites, "TaskFolder", lambda folder: harness if folder == harness.folder else TaskFolder(folder)
    )


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    return folder


def entries(*tasks: str | TaskEntry, **settings: object) -> GeneralAbility:
    return GeneralAbility(GeneralAbilitySettings.model_validate({"tasks": tasks, **settings}))


def mmlu_rows(subject: str, count: int) -> list[dict]:
    choices = ["one", "two", "three", "four"]
    return [
        {"question": f"{subject} {n}?", "subject": subject, "choices": choices, "answer": n % 4} for n in range(count)
    ]


def test_a_built_in_task_from_the_cache(llama: EditableModel, cache: Path) -> None:
    fill_cache(cache, "nyu-mll/glue", "rte", {"train": RTE[:2], "validation": RTE})
    rte = entries("rte")
    identity = canonical_json(rte.identity())
    rows = named(rte.score(subject_of(llama)).rows)
    assert (rows["acc", "rte"].n, rows["acc", "rte"].status) == (6, "ok")
    assert rows["general_mean", "rte"].value == rows["acc", "rte"].value
    assert str(cache) not in identity
    # Another commit of the data set is another evaluation.
    other = cache.parent / "other"
    datasets.config.HF_DATASETS_CACHE = other
    fill_cache(other, "nyu-mll/glue", "rte", {"train": RTE[:2], "validation": RTE}, commit="f" * 40)
    assert canonical_json(entries("rte").identity()) != identity


def test_a_built_in_group_is_aggregated(llama: EditableModel, cache: Path) -> None:
    for place, subject in enumerate(STEM):
        fill_cache(
            cache, "cais/mmlu", subject, {"test": mmlu_rows(subject, 3 + place % 3), "dev": mmlu_rows(subject, 5)}
        )
    rows = named(entries(TaskEntry(task="mmlu_stem", num_fewshot=1, limit=4)).score(subject_of(llama)).rows)
    parts = [rows["acc", f"mmlu_{subject}"] for subject in STEM]
    assert [part.n for part in parts] == [min(4, 3 + place % 3) for place in range(len(STEM))]
    total = rows["acc", "mmlu_stem"]
    assert total.n == sum(part.n for part in parts)
    assert total.value == pytest.approx(sum(part.value * part.n for part in parts) / total.n)
    assert rows["general_mean", "mmlu_stem"].value == total.value


def test_data_that_cannot_be_had_is_reported_before_any_work(cache: Path, tmp_path: Path) -> None:
    fill_cache(cache, "nyu-mll/glue", "rte", {"train": RTE, "validation": RTE})
    with pytest.raises(InputError, match=r"task 'sst2' needs the data set 'nyu-mll/glue' \(sst2\)") as caught:
        entries("rte", "sst2").identity()
    assert "HF_HUB_OFFLINE" in caught.value.what
    assert "run once with network access" in str(caught.value.remedy)
    with pytest.raises(InputError, match="task 'hellaswag' needs the data set 'Rowan/hellaswag'"):
        entries("hellaswag").load()
    sweep = write_sweep(tmp_path / "sweep", tiny(evaluators={"general": {"tasks": ["gsm8k"]}}))
    with pytest.raises(InputError, match="openai/gsm8k"):
        load_sweep(sweep)
    assert sorted(path.name for path in sweep.parent.iterdir()) == ["sweep.yaml"]


def test_an_unknown_name_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown task 'helaswag'") as caught:
        entries("helaswag")
    assert "did you mean 'hellaswag'" in str(caught.value.remedy)
    assert "include_path" in str(caught.value.remedy)
    with pytest.raises(InputError, match="task folder not found"):
        entries("rte", include_path=[str(tmp_path / "none")])


def test_names_are_found_without_parsing_everything(harness: TaskFolder) -> None:
    started = time.process_time()
    found = harness.find("mmlu")
    assert time.process_time() - started < 5
    assert found is not None
    assert len(found.task_files) == 57
    # A tag, one of whose tasks has it from a file it includes; a task that is a Python class; nothing.
    assert set(harness.find("glue").task_files) == GLUE
    assert harness.find("squadv2").task_files["squadv2"].name == "squadv2.yaml"
    assert harness.find("mml") is None


@pytest.mark.long
def test_names_are_found_as_the_harness_finds_them(harness: TaskFolder) -> None:
    index = TaskManager().task_index
    names = sorted(index)[:: len(index) // 150]
    for name in [*names, "pythia", "leaderboard", "kbl", "afrixnli"]:
        found = harness.find(name)
        assert (found.kind, found.registry[name].yaml_path) == (index[name].kind, index[name].yaml_path)
        assert found.registry[name].tags == index[name].tags


def test_tasks_of_a_folder_by_their_names(llama: EditableModel, tmp_path: Path) -> None:
    folder = know_folder(tmp_path)
    (folder / "tagged.yaml").write_text(CHOICE.replace("know_choice", "know_more") + "tag: [mine]\n")
    rows = named(entries("know_choice", "mine", include_path=[str(folder)]).score(subject_of(llama)).rows)
    assert {task for _, task in rows} == {"know_choice", "mine", "know_more"}
    assert rows["acc", "know_choice"].value == pytest.approx(16 / 24)
    assert rows["general_mean", "mine"].value == rows["acc", "know_more"].value
    # A path below the sweep's folder, and a name that is none.
    sweep = write_sweep(
        tmp_path,
        tiny(evaluators={"general": {"tasks": [{"task": "know_choice", "limit": 3}], "include_path": ["know"]}}),
    )
    located = load_sweep(sweep).evaluators["general"]
    assert located["include_path"] == [str(folder)]
    assert located["tasks"] == [{"task": "know_choice", "limit": 3}]


def test_limits_and_examples_of_one_task(llama: EditableModel, tmp_path: Path) -> None:
    folder = know_folder(tmp_path)
    shots = CHOICE.replace("test_split: test", "test_split: test\nfewshot_split: test\nnum_fewshot: 1")
    (folder / "choice.yaml").write_text(shots)
    plain = named(evaluator(folder / "choice.yaml", limit=9).score(subject_of(llama)).rows)
    own = TaskEntry(task=str(folder / "choice.yaml"), limit=5, num_fewshot=0)
    without = named(entries(own, limit=9).score(subject_of(llama)).rows)
    assert plain["acc", "know_choice"].n == 9
    assert without["acc", "know_choice"].n == 5
    none = CHOICE.replace("metadata", "num_fewshot: 0\nmetadata")
    (folder / "choice.yaml").write_text(none)
    assert named(entries(own).score(subject_of(llama)).rows)["acc", "know_choice"] == without["acc", "know_choice"]


@pytest.mark.parametrize("form", ["txt", "jsonl"])
def test_perplexity_of_a_corpus(llama: EditableModel, tmp_path: Path, form: str) -> None:
    texts = [f"{request.question} {request.target_true}." for request in golden_requests()]
    corpus = tmp_path / f"own.{form}"
    if form == "txt":
        corpus.write_text("\n".join([*texts[:5], "", "  ", *texts[5:]]) + "\n")
    else:
        write_jsonl(corpus, [{"text": text} for text in texts])
    probe = entries("perplexity", corpus=str(corpus))
    row = named(probe.score(subject_of(llama)).rows)["word_perplexity", "perplexity"]
    total, words = 0.0, 0
    for text in texts:
        ids = torch.tensor([llama.tokenizer.encode(text)])
        # The harness puts one before every text, and scores the one the tokenizer adds.
        start = torch.tensor([[llama.tokenizer.bos_token_id]])
        logits = llama.network(torch.cat([start, ids], dim=1)).logits[0, :-1].log_softmax(-1)
        total += float(logits.gather(1, ids.T).sum())
        words += len(text.split())
    assert row.n == 24
    assert row.value == pytest.approx(math.exp(-total / words), rel=1e-4)
    assert corpus.parent.name not in canonical_json(probe.identity())
    before = canonical_json(probe.identity())
    corpus.write_text(corpus.read_text().replace("a", "b"))
    assert canonical_json(entries("perplexity", corpus=str(corpus)).identity()) != before
    with pytest.raises(InputError, match="corpus not found"):
        entries("perplexity", corpus=str(tmp_path / "none.txt"))


def test_presets_name_tasks_that_exist_and_their_sources() -> None:
    assert preset_names() == ["alphaedit", "probe", "quick", "sphere"]
    resolver = SuiteResolver()
    members = {name: resolver.suite(TaskEntry(task=name)).members for name in preset_names()}
    assert [member.entry.task for member in members["sphere"]] == ["gsm8k", "rte", "nq_open", "boolq"]
    assert {member.entry.limit for member in members["sphere"]} == {500}
    assert [member.entry.task for member in members["alphaedit"]] == ["sst2", "mrpc", "mmlu", "rte", "cola", "mnli"]
    assert {member.entry.num_fewshot for member in members["alphaedit"]} == {0}
    assert members["probe"][0].found.name == "wikitext"
    smaller = resolver.suite(TaskEntry(task="alphaedit", limit=7)).members
    assert {member.entry.limit for member in smaller} == {7}
    for name in preset_names():
        assert len(read_preset(name).source) > 20
        assert len(read_preset(name).note) > 20


def test_a_task_asked_for_twice_is_refused(cache: Path) -> None:
    fill_cache(cache, "nyu-mll/glue", "rte", {"train": RTE, "validation": RTE})
    with pytest.raises(InputError, match="two entries of 'tasks' have the same name"):
        entries("rte", TaskEntry(task="rte", limit=3))
    write_jsonl(cache / "choice.jsonl", choice_rows())
    (cache / "mine.yaml").write_text(CHOICE.replace("know_choice", "rte"))
    with pytest.raises(InputError, match="two tasks are called 'rte'"):
        entries("rte", str(cache / "mine.yaml")).load()


def test_a_task_the_harness_refuses_is_reported_before_any_work(tmp_path: Path) -> None:
    folder = know_folder(tmp_path)
    (folder / "choice.yaml").write_text(CHOICE.replace("doc_to_text: prompt", "doc_to_txt: prompt"))
    with pytest.raises(InputError, match="doc_to_txt"):
        load_sweep(write_sweep(tmp_path, tiny(evaluators={"general": {"tasks": ["know"]}})))
