"""Training SERAC's two models, with progress on a console; what is done is kept, by its settings."""

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import BertConfig, BertModel
from transformers.utils import logging as transformers_logging

from sphere_core.datasets.sources import DatasetSpec, read_dataset
from sphere_core.editors.memory.companion_folders import require_same_tokens
from sphere_core.editors.memory.companions import ScopeEncoder, load_encoder
from sphere_core.editors.memory.serac_training import (
    SeracRates,
    Trainable,
    counterfactual_loss,
    scope_loss,
    scope_shares,
    trainable,
    trained,
)
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.fingerprint import fingerprint
from sphere_core.hyperparameters import Hyperparameters
from sphere_core.locate.prompts import opening_tokens
from sphere_core.models import load_model, model_digest, resolve_model
from sphere_core.models.devices import pick_device
from sphere_core.models.loading import load_tokenizer

__all__ = ["SeracTraining", "train_serac"]

_SETTINGS = "serac.json"
_HEAD_WIDTH, _LAYERS = 32, 2


@dataclass(frozen=True, kw_only=True)
class SeracTraining:
    """What `sphere serac train` takes."""

    model: str
    data: DatasetSpec
    out: Path
    classifier: str | None
    width: int | None
    counterfactual: str
    steps: int
    batch_size: int
    lr: float
    lr_counterfactual: float
    threshold: float
    check: int
    seed: int

    def rates(self, lr: float) -> SeracRates:
        """Return the settings of one of the two trainings."""
        return SeracRates(self.steps, self.batch_size, lr, self.seed)


def train_serac(training: SeracTraining, console: Console) -> Iterator[str]:
    """Train both models, write `out/classifier` and `out/counterfactual`, and yield lines that say what they do.

    Each folder appears whole, by one rename, with the settings that made it; one that is there with these settings is
    kept. Raises InputError before anything is written: for data without paraphrases or neighborhood prompts, another
    tokenizer, or a folder that other settings made.
    """
    if (training.classifier is None) == (training.width is None):
        raise InputError("give either --classifier or --width", where="sphere serac train")
    transformers_logging.disable_progress_bar()
    dataset = read_dataset(training.data)
    edits = trainable([request for record in dataset.records for request in record.requests])
    if len(edits) < training.check + training.batch_size:
        raise InputError(
            f"{len(edits)} records, of which {training.check} are left out, are fewer than a step's",
            where=training.data.source,
            remedy="give more records, or lower --check or --batch-size",
        )
    learnt, left_out = edits[: -training.check], edits[-training.check :]
    start = resolve_model(training.counterfactual)
    named = Hyperparameters(layers=(0,), serac_counterfactual=str(start))
    require_same_tokens(named, resolve_model(training.model))
    digest = fingerprint([[edit.request.identity() for edit in edits]])
    made = {name: _made_of(training, name, digest) for name in ("classifier", "counterfactual")}
    done = {name: _is_done(training.out / name, settings) for name, settings in made.items()}
    device = torch.device(pick_device("auto"))
    if not done["classifier"]:
        encoder = _first_encoder(training, device)
        rates = training.rates(training.lr)
        with _bar(console, "classifier", training.steps) as show:
            trained(encoder.network.parameters(), lambda step: scope_loss(encoder, learnt, rates, step), rates, show)
        _publish(training.out / "classifier", made["classifier"], encoder.network, encoder.tokenizer)
    encoder = load_encoder(str(training.out / "classifier"), device)
    within, outside = scope_shares(encoder, left_out, training.threshold)
    yield f"classifier: of {len(left_out)} edits left out, {within:.2f} of the paraphrases are in their edit's scope,"
    yield f"  {outside:.2f} of the neighborhood prompts in the scope of one"
    if not done["counterfactual"]:
        answering = load_model(str(start), dtype="float32", device=device)
        rates = training.rates(training.lr_counterfactual)
        with _bar(console, "counterfactual", training.steps) as show:
            loss = _loss_of(answering, learnt, rates)
            trained(answering.network.parameters(), loss, rates, show)
        _publish(training.out / "counterfactual", made["counterfactual"], answering.network, answering.tokenizer)
    answering = load_model(str(training.out / "counterfactual"), dtype="float32", device=device)
    whole = SeracRates(1, len(left_out), 1.0, training.seed)
    with torch.no_grad():
        nll = float(counterfactual_loss(answering, left_out, whole, 1))
    yield f"counterfactual: {nll:.3f} nats per target token on their paraphrases, behind the edit"
    yield f"models: {training.out}"


def _loss_of(model: Any, edits: list[Trainable], rates: SeracRates) -> Callable[[int], torch.Tensor]:
    return lambda step: counterfactual_loss(model, edits, rates, step)


def _made_of(training: SeracTraining, name: str, data: str) -> dict[str, Any]:
    start = training.classifier if name == "classifier" else training.counterfactual
    rate = training.lr if name == "classifier" else training.lr_counterfactual
    new = name == "classifier" and start is None
    return {
        "rates": dataclasses.asdict(training.rates(rate)),
        "start": f"new, {training.width} wide" if new else model_digest(resolve_model(str(start))),
        "data": data,
        "check": training.check,
    }


def _is_done(folder: Path, settings: dict[str, Any]) -> bool:
    """Return whether a folder holds what these settings make; raises InputError if it holds anything else."""
    if not folder.exists():
        return False
    path = folder / _SETTINGS
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) == settings:
        return True
    raise InputError("the folder holds what other settings made", where=str(folder), remedy="give another --out")


def _first_encoder(training: SeracTraining, device: torch.device) -> ScopeEncoder:
    if training.classifier is not None:
        return load_encoder(training.classifier, device)
    tokenizer = load_tokenizer(resolve_model(training.model))
    if not opening_tokens(tokenizer):
        raise InputError(
            "a new encoder reads its feature at a token that opens every text, and this tokenizer has none",
            where=training.model,
            remedy="give --classifier, an encoder with a tokenizer of its own",
        )
    width = int(training.width or 0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=_LAYERS,
        num_attention_heads=max(1, width // _HEAD_WIDTH),
        intermediate_size=4 * width,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        network = BertModel(config)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    torch.nn.Module.to(network, device)
    return ScopeEncoder(network.eval(), tokenizer)


def _publish(folder: Path, settings: dict[str, Any], network: Any, tokenizer: Any) -> None:
    beside = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    network.save_pretrained(beside)
    tokenizer.save_pretrained(beside)
    (beside / _SETTINGS).write_text(json.dumps(settings, indent=1), encoding="utf-8")
    beside.rename(folder)


@contextmanager
def _bar(console: Console, name: str, steps: int) -> Iterator[Callable[[int, float], None]]:
    """Show the steps of one training; the function takes a step and its loss."""
    columns = (TextColumn(f"{name}: step {{task.completed}}/{{task.total}}"), BarColumn())
    with Progress(*columns, TextColumn("{task.description}"), TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task("", total=steps)
        yield lambda step, loss: progress.update(task, completed=step, description=f"loss {loss:.3f}")
