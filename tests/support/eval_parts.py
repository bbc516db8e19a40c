"""Parts that the tests of the evaluators share: a small trained model, its golden scores, ways to break a model."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from repository import DATA
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerBase

from evaluators.base import Score, Subject
from sphere_core.datasets.counterfact import counterfact_requests
from sphere_core.models import EditableModel, load_families, load_model
from sphere_core.requests import EditRequest

TINY_LLAMA = DATA / "tiny-llama"
LAYERS = (0, 1, 2)


def golden() -> dict:
    return json.loads((DATA / "golden_eval.json").read_text())


def golden_requests() -> tuple[EditRequest, ...]:
    return tuple(counterfact_requests(golden()["requests"], source="golden_eval.json"))


def tiny_llama(folder: Path = TINY_LLAMA) -> EditableModel:
    model = load_model(str(folder), dtype="float32", device="cpu")
    model.open_sites(LAYERS)
    return model


def tiny_gpt2(tokenizer: PreTrainedTokenizerBase) -> EditableModel:
    """A random GPT-2 on the vocabulary of a given tokenizer."""
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=3, n_head=2, n_positions=64)
    state = torch.random.get_rng_state()
    torch.manual_seed(3)
    network = GPT2LMHeadModel(config)
    torch.random.set_rng_state(state)
    model = EditableModel(network, tokenizer, load_families()["gpt2"], base_digest="random-gpt2")
    model.open_sites(LAYERS)
    return model


def subject_of(model: EditableModel) -> Subject:
    return Subject(model, golden_requests(), edits=24)


def one_nan_weight(model: EditableModel) -> None:
    site = model.open_sites(LAYERS)[1]
    weight = model.weight(site).clone()
    weight[3, 5] = float("nan")
    model.set_weight(site, weight)


def infinite_head(model: EditableModel) -> None:
    with torch.no_grad():
        model.network.get_submodule(model.family.head).weight.fill_(float("inf"))


def nan_head_row(model: EditableModel) -> None:
    with torch.no_grad():
        model.network.get_submodule(model.family.head).weight[7].fill_(float("nan"))


def equal_logits(model: EditableModel) -> None:
    with torch.no_grad():
        model.network.get_submodule(model.family.head).weight.zero_()


def vanishing_norm(model: EditableModel) -> None:
    """Finite weights so large that the norm's mean square overflows: the norm then gives zeros."""
    site = model.open_sites(LAYERS)[2]
    model.set_weight(site, torch.full_like(model.weight(site), 1e25))


def half_overflow(model: EditableModel) -> None:
    """Weights that fit fp16 with products that do not."""
    site = model.open_sites(LAYERS)[1]
    model.network.half()
    model.set_weight(site, torch.full_like(model.weight(site), 6e4))


BREAKERS: tuple[Callable[[EditableModel], None], ...] = (
    one_nan_weight,
    infinite_head,
    nan_head_row,
    equal_logits,
    vanishing_norm,
    half_overflow,
)


def by_name(rows: list[Score]) -> dict[tuple[str, str, str | None], Score]:
    named = {(row.metric, row.protocol, row.task or row.site): row for row in rows}
    assert len(named) == len(rows), "two rows with one name"
    return named
