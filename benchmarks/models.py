"""Models and requests to measure on: a randomly initialised GPT-2, and the embedded fact world."""

import random

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from sphere_core.datasets.counterfact import counterfact_requests
from sphere_core.datasets.factworld.records import edit_records
from sphere_core.datasets.factworld.shipped import shipped_world
from sphere_core.locate.contexts import sample_contexts
from sphere_core.locate.templates import Contexts, ContextSettings
from sphere_core.models import EditableModel, load_model, recognise_family
from sphere_core.models.source import EMBEDDED_MODEL
from sphere_core.requests import EditRequest

__all__ = ["factworld", "random_gpt2", "random_requests", "word_tokenizer"]

_WORDS = ["[UNK]", "is", "a", "."]


def random_gpt2(config: GPT2Config) -> EditableModel:
    """Return a GPT-2 of this shape with random fp32 weights and a tokenizer of one made-up word a token."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = GPT2LMHeadModel(config)
    family = recognise_family(config, where="benchmark")
    return EditableModel(network, word_tokenizer(config.vocab_size), family, base_digest="random")


def word_tokenizer(size: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer of `size` made-up words, one token each."""
    names = [*_WORDS, *(f"w{index}" for index in range(size - len(_WORDS)))]
    core = Tokenizer(models.WordLevel({name: index for index, name in enumerate(names)}, unk_token=_WORDS[0]))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token=_WORDS[0])


def random_requests(model: EditableModel, count: int) -> tuple[list[EditRequest], Contexts]:
    """Return requests of CounterFact's lengths and the released number of contexts, in made-up words.

    Subjects of 2 to 4 tokens with 0 to 3 before and 2 to 5 after, targets of 1 to 3; the bare prompt and five
    templates of ten tokens and a full stop.
    """
    draw = random.Random(0)
    last = model.network.config.vocab_size - len(_WORDS) - 1

    def words(low: int, high: int) -> str:
        return " ".join(f"w{draw.randint(0, last)}" for _ in range(draw.randint(low, high)))

    requests = [
        EditRequest(str(index), f"{words(0, 3)} {{}} {words(2, 5)}".strip(), words(2, 4), words(1, 3), None, ())
        for index in range(count)
    ]
    return requests, (("{}",), tuple(f"{words(10, 10)} . {{}}" for _ in range(5)))


def factworld(count: int) -> tuple[EditableModel, list[EditRequest], Contexts]:
    """Return the embedded model with its first requests and contexts sampled from it."""
    model = load_model(EMBEDDED_MODEL, dtype="float32", device="cpu")
    requests = counterfact_requests(edit_records(shipped_world())[:count], source="fact world")
    return model, requests, sample_contexts(model, ContextSettings(), seed=0)
