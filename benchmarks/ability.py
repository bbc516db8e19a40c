"""General ability in place against lm-eval's command line per checkpoint, and what each evaluator costs.

`python -m benchmarks.ability FOLDER THREADS` is our side in a process of its own, start-up included: it scores the
checkpoints in a folder and prints scores and seconds as JSON.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.rows import Row, comparison
from evaluators.base import Evaluator, Subject
from evaluators.edit_quality.evaluator import EditQuality, EditQualitySettings
from evaluators.general.evaluator import GeneralAbility, GeneralAbilitySettings
from evaluators.general.suites import SuiteResolver, TaskEntry
from evaluators.geometry.evaluator import Geometry, GeometrySettings
from sphere_core.datasets.counterfact import counterfact_requests
from sphere_core.datasets.factworld.records import edit_records
from sphere_core.datasets.factworld.shipped import shipped_world
from sphere_core.hyperparameters import preset
from sphere_core.models import EditableModel, load_model
from sphere_core.models.source import EMBEDDED_MODEL
from sphere_core.requests import EditRequest

__all__ = ["forward_seconds", "measure", "measure_cli", "measure_costs"]

CHECKPOINTS = 10
BATCH_SIZE = 64
EDITS = 200
WIDE = {
    "hidden_size": 768,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 128,
}
WIDE_LIMIT = 8

Result = TypeVar("Result")


def measure(threads: int) -> list[Row]:
    """Return the rows of this benchmark."""
    return [*measure_cli(CHECKPOINTS, threads), *measure_costs(EDITS)]


def measure_cli(count: int, threads: int) -> list[Row]:
    """Score `count` checkpoints of the fact world both ways: one command line each, and all in one process of ours."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_checkpoints(folder, count)
        theirs, cli = _spent(lambda: [_command_line(folder / f"model-{place}", threads) for place in range(count)])
        ours, own = _spent(lambda: _our_process(folder, threads))
    scores = ours["scores"]
    difference = max(
        abs(scores[place][key] - value) for place, found in enumerate(theirs) for key, value in found.items()
    )
    setting = f"fact world, {len(theirs[0])} tasks, {count} checkpoints, start-up of both included; a checkpoint"
    forms = (("processor time", cli[0], own[0], 10.0), ("wall time", cli[1], own[1], None))
    rows = [
        comparison(
            f"general ability, {what}",
            setting,
            (plain / count, mine / count),
            required=required,
            difference=difference,
            tolerance=0.0,
        )
        for what, plain, mine, required in forms
    ]
    later = sorted(ours["seconds"][1:])[(count - 1) // 2]
    return [*rows, Row("general ability, a later checkpoint in the same process", setting, later, "s")]


def measure_costs(edits: int) -> list[Row]:
    """Return seconds per checkpoint, and the share of them spent in the model's forward pass, for each evaluator."""
    model, layers = _factworld()
    requests = tuple(counterfact_requests(edit_records(shipped_world())[:edits], source="fact world"))
    evaluators: dict[str, Evaluator] = {
        f"edit_quality, {edits} edits": EditQuality(EditQualitySettings()),
        "general, factworld": GeneralAbility(GeneralAbilitySettings(tasks=("factworld",), batch_size=BATCH_SIZE)),
        f"geometry, {len(layers)} sites": Geometry(GeometrySettings()),
    }
    setting = "fact world, one process, from the second checkpoint on; fastest of 3"
    rows = [row for name, evaluator in evaluators.items() for row in _cost(name, setting, model, evaluator, requests)]
    wide = _wide_model(model)
    few = GeneralAbility(GeneralAbilitySettings(tasks=("factworld",), batch_size=BATCH_SIZE, limit=WIDE_LIMIT))
    setting = f"random Llama, hidden {WIDE['hidden_size']}, {WIDE['num_hidden_layers']} layers, the fact world's tokens"
    return [*rows, *_cost(f"general, factworld, {WIDE_LIMIT} documents a task", setting, wide, few, (), repeats=1)]


@dataclass
class Spent:
    """Seconds inside the model."""

    seconds: float = 0.0
    depth: int = 0
    started: float = 0.0


@contextmanager
def forward_seconds(model: EditableModel) -> Iterator[Spent]:
    """Count the seconds spent inside the network, its trunk or its head, whichever is called from outside."""
    spent = Spent()

    def enter(*_: object) -> None:
        if spent.depth == 0:
            spent.started = time.perf_counter()
        spent.depth += 1

    def leave(*_: object) -> None:
        spent.depth -= 1
        if spent.depth == 0:
            spent.seconds += time.perf_counter() - spent.started

    parts = [model.network, model.network.base_model, model.network.get_submodule(model.family.head)]
    hooks = [part.register_forward_pre_hook(enter) for part in parts]
    hooks += [part.register_forward_hook(leave) for part in parts]
    try:
        yield spent
    finally:
        for hook in hooks:
            hook.remove()


def _cost(
    name: str,
    setting: str,
    model: EditableModel,
    evaluator: Evaluator,
    requests: tuple[EditRequest, ...],
    *,
    repeats: int = 3,
) -> list[Row]:
    """Return the seconds of the fastest of several checkpoints after the first, and the share inside the model."""
    subject = Subject(model, requests, len(requests))
    evaluator.score(subject)
    found = []
    for _ in range(repeats):
        with forward_seconds(model) as inside:
            start = time.perf_counter()
            evaluator.score(subject)
            seconds = time.perf_counter() - start
        found.append((seconds, 100 * inside.seconds / seconds))
    seconds, share = min(found)
    measured = (("a checkpoint", seconds, "s"), ("in the forward pass", share, "%"))
    return [Row(f"{name}: {what}", setting, value, unit) for what, value, unit in measured]


def _wide_model(small: EditableModel) -> EditableModel:
    """Return a random model on the tokens of a small one, wide enough that its arithmetic counts."""
    config = LlamaConfig(vocab_size=small.network.config.vocab_size, **WIDE)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = LlamaForCausalLM(config)
    return EditableModel(network, small.tokenizer, small.family, base_digest="random")


def _factworld() -> tuple[EditableModel, tuple[int, ...]]:
    model = load_model(EMBEDDED_MODEL, dtype="float32", device="cpu")
    layers = preset("factworld", "memit", (), {}).layers
    model.open_sites(layers)
    return model, layers


def _write_checkpoints(folder: Path, count: int) -> None:
    """Write ever larger changes of the edited sites, each as its weights alone and as a whole model."""
    model, layers = _factworld()
    generator = torch.Generator().manual_seed(0)
    for place in range(count):
        weights = {}
        for site in model.open_sites(layers):
            weight = model.weight(site)
            noise = torch.randn(weight.shape, generator=generator)
            weights[site.name] = weight + 0.1 * weight.norm() / noise.norm() * noise
            model.set_weight(site, weights[site.name])
        save_file({name: weight.contiguous() for name, weight in weights.items()}, folder / f"{place:03d}.safetensors")
        model.network.save_pretrained(folder / f"model-{place}")
        model.tokenizer.save_pretrained(folder / f"model-{place}")


def _task_files() -> dict[str, Path]:
    members = SuiteResolver().suite(TaskEntry(task="factworld")).members
    return {member.entry.task: member.file for member in members if member.file is not None}


def _command_line(model: Path, threads: int) -> dict[str, float]:
    """Return the scores that lm-eval's own command line gives for a model folder."""
    files = _task_files()
    tasks = next(iter(files.values())).parent
    out = model.parent / f"{model.name}-out"
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--device", "cpu"]
    command += ["--model_args", f"pretrained={model},dtype=float32", "--include_path", str(tasks)]
    command += ["--tasks", ",".join(files), "--batch_size", str(BATCH_SIZE), "--output_path", str(out)]
    # Relative data files are looked for in the current folder.
    _run(command, threads, tasks)
    (found,) = out.rglob("results_*.json")
    results = json.loads(found.read_text(encoding="utf-8"))["results"]
    return {name: next(v for k, v in results[name].items() if k in ("acc,none", "exact_match,none")) for name in files}


def _our_process(folder: Path, threads: int) -> dict[str, list[Any]]:
    command = [sys.executable, "-m", "benchmarks.ability", str(folder), str(threads)]
    found: dict[str, list[Any]] = json.loads(_run(command, threads, Path(__file__).resolve().parent.parent))
    return found


def _run(command: Sequence[str], threads: int, folder: Path) -> str:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder, env=environment)
    return done.stdout


def _spent(work: Callable[[], Result]) -> tuple[Result, tuple[float, float]]:
    """Return what the work gives, and the (processor, wall) seconds of the processes it starts."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    result = work()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return result, (processor, time.perf_counter() - start)


def main(arguments: Sequence[str]) -> None:
    """Score every checkpoint in a folder, in place, and print scores and seconds."""
    folder, threads = arguments
    torch.set_num_threads(int(threads))
    model, _ = _factworld()
    evaluator = GeneralAbility(GeneralAbilitySettings(tasks=("factworld",), batch_size=BATCH_SIZE))
    scores, seconds = [], []
    for file in sorted(Path(folder).glob("*.safetensors")):
        start = time.perf_counter()
        model.load_weights(load_file(file))
        rows = evaluator.score(Subject(model, (), 0)).rows
        model.restore_base()
        scores.append({row.task: row.value for row in rows if row.metric in ("acc", "exact_match")})
        seconds.append(time.perf_counter() - start)
    sys.stdout.write(json.dumps({"scores": scores, "seconds": seconds}))


if __name__ == "__main__":
    main(sys.argv[1:])
