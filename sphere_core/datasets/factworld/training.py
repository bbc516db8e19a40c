"""Training the fact-world model from scratch, and writing it as a model folder."""

import contextlib
import dataclasses
import json
import math
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from sphere_core.datasets.factworld.corpus import Sentence, SentenceSource, fact_sentences
from sphere_core.datasets.factworld.recall import RecallReport, recall
from sphere_core.datasets.factworld.tokens import Batch, pack_batches, train_tokenizer
from sphere_core.datasets.factworld.world import WORLD_FILE, World, build_world
from sphere_core.foundation.errors import InputError, unknown_name
from sphere_core.foundation.yaml_text import parse_yaml

__all__ = ["Progress", "TrainingSettings", "read_settings", "shipped_settings", "train_factworld"]

TOKENIZER_SENTENCES = 20_000
REPORT_EVERY = 10


@dataclass(frozen=True)
class TrainingSettings:
    """Everything that decides the trained weights; the shipped values are in settings.yaml."""

    world_seed: int
    model_seed: int
    device: str
    threads: int
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    initializer_range: float
    max_positions: int
    steps: int
    rows: int
    row_tokens: int
    learning_rate: float
    warmup_steps: int
    final_rate_share: float
    weight_decay: float
    beta2: float
    gradient_clip: float
    answer_weight: float
    other_weight: float


@dataclass(frozen=True)
class Progress:
    """Progress of a training run: `loss` is the weighted mean NLL (nats per token) of the last step."""

    step: int
    steps: int
    loss: float
    tokens_per_second: float
    seconds_left: float


def shipped_settings() -> TrainingSettings:
    """Return the settings of the shipped model."""
    resource = files(__package__) / "settings.yaml"
    return _settings(parse_yaml(resource.read_text(encoding="utf-8")), where="settings.yaml")


def read_settings(path: Path) -> TrainingSettings:
    """Read training settings from a YAML file; raises InputError for a missing file or a wrong key."""
    if not path.is_file():
        raise InputError("settings file not found", where=str(path), remedy="check the path")
    return _settings(parse_yaml(path.read_text(encoding="utf-8")), where=str(path))


def train_factworld(
    out_dir: Path, *, settings: TrainingSettings, on_progress: Callable[[Progress], None]
) -> RecallReport:
    """Train tokenizer and model from scratch and publish them as the folder `out_dir`.

    Training is in fp32, the file in fp16; the recall returned is that of the file loaded back as fp32.
    The folder appears whole, by one rename. Equal settings on one machine give equal weights; the
    thread count changes the order of sums and is a setting. Raises InputError if `out_dir` holds
    anything but an earlier fact-world model.
    """
    _require_replaceable(out_dir)
    world = build_world(settings.world_seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    try:
        tokenizer = train_tokenizer(_tokenizer_texts(world, settings), settings.vocab_size)
        model = _new_model(tokenizer, settings)
        losses = _fit(model, _batches(world, tokenizer, settings), settings, on_progress)
        return _publish(out_dir, model, tokenizer, world, settings, losses)
    finally:
        torch.set_num_threads(threads)


def _settings(values: Any, *, where: str) -> TrainingSettings:
    fields = {field.name: field for field in dataclasses.fields(TrainingSettings)}
    if not isinstance(values, dict):
        raise InputError("the settings must be a YAML mapping", where=where, remedy="give one key a line")
    for name in values:
        if name not in fields:
            raise unknown_name("training setting", str(name), fields, where=where)
    missing = sorted(set(fields) - set(values))
    if missing:
        raise InputError(f"settings are missing: {', '.join(missing)}", where=where, remedy="give them all")
    for name, field in fields.items():
        wanted = (int, float) if field.type is float else field.type
        if isinstance(values[name], bool) or not isinstance(values[name], wanted):  # type: ignore[arg-type]
            raise InputError(f"setting '{name}' cannot be {values[name]!r}", where=where)
    return TrainingSettings(**values)


def _tokenizer_texts(world: World, settings: TrainingSettings) -> Iterator[str]:
    source = SentenceSource(world, settings.model_seed)
    yield from (sentence.text for sentence in fact_sentences(world))
    yield from (source.draw().text for _ in range(TOKENIZER_SENTENCES))


def _batches(world: World, tokenizer: PreTrainedTokenizerFast, settings: TrainingSettings) -> Iterator[Batch]:
    source = SentenceSource(world, settings.model_seed)

    def sentences() -> Iterator[Sentence]:
        while True:
            yield source.draw()

    return pack_batches(
        tokenizer,
        sentences(),
        rows=settings.rows,
        row_tokens=settings.row_tokens,
        answer_weight=settings.answer_weight,
        other_weight=settings.other_weight,
    )


def _new_model(tokenizer: PreTrainedTokenizerFast, settings: TrainingSettings) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden_size,
        intermediate_size=settings.intermediate_size,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        max_position_embeddings=settings.max_positions,
        tie_word_embeddings=True,
        initializer_range=settings.initializer_range,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    # Initialisation inside transformers draws from torch's global generator; the fork puts it back.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.model_seed)
        model = LlamaForCausalLM(config)
    return _cast(model, settings.device, torch.float32)


def _cast(model: LlamaForCausalLM, device: str, dtype: torch.dtype) -> LlamaForCausalLM:
    # Called on the base class: transformers wraps `to` in a decorator that hides its signature.
    torch.nn.Module.to(model, device, dtype)
    return model


def _fit(
    model: LlamaForCausalLM,
    batches: Iterator[Batch],
    settings: TrainingSettings,
    on_progress: Callable[[Progress], None],
) -> list[float]:
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=settings.learning_rate,
        betas=(0.9, settings.beta2),
        weight_decay=settings.weight_decay,
    )
    losses: list[float] = []
    began = time.monotonic()
    model.train()
    for step in range(1, settings.steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * _rate_share(step, settings)
        loss = _weighted_loss(model, next(batches))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.gradient_clip)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if step % REPORT_EVERY == 0 or step == settings.steps:
            spent = time.monotonic() - began
            speed = step * settings.rows * settings.row_tokens / spent
            left = spent / step * (settings.steps - step)
            on_progress(Progress(step, settings.steps, losses[-1], speed, left))
    model.train(False)
    return losses


def _rate_share(step: int, settings: TrainingSettings) -> float:
    """Linear warm-up, then a cosine down to `final_rate_share`."""
    if step <= settings.warmup_steps:
        return step / settings.warmup_steps
    done = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    low = settings.final_rate_share
    return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * done))


def _weighted_loss(model: LlamaForCausalLM, batch: Batch) -> torch.Tensor:
    ids, weights = batch.ids.to(model.device), batch.weights.to(model.device)[:, 1:].reshape(-1)
    logits = model(input_ids=ids).logits[:, :-1]
    nll = torch.nn.functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1), reduction="none"
    )
    return (nll * weights).sum() / weights.sum()


def _publish(
    out_dir: Path,
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    world: World,
    settings: TrainingSettings,
    losses: list[float],
) -> RecallReport:
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    scratch = out_dir.parent / f".{out_dir.name}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        with _no_bars():
            _cast(model, "cpu", torch.float16).save_pretrained(scratch)
            tokenizer.save_pretrained(scratch)
            reloaded = LlamaForCausalLM.from_pretrained(scratch, dtype=torch.float32)
        report = recall(reloaded, AutoTokenizer.from_pretrained(scratch), world)
        record = {
            "world_seed": world.seed,
            "world_digest": world.digest(),
            "settings": dataclasses.asdict(settings),
            "loss": {"first": losses[0], "last": losses[-1]},
            "recall": dataclasses.asdict(report),
        }
        (scratch / WORLD_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        if out_dir.exists():
            shutil.rmtree(out_dir)
        scratch.rename(out_dir)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return report


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """Keep transformers' own progress bars off the terminal while a model is written and read."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def _require_replaceable(out_dir: Path) -> None:
    if not out_dir.exists():
        return
    if not out_dir.is_dir() or (any(out_dir.iterdir()) and not (out_dir / WORLD_FILE).is_file()):
        raise InputError(
            "the output exists and is not a fact-world model",
            where=str(out_dir),
            remedy="give a new or an empty folder",
        )
