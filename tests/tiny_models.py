"""Small randomly initialised models of every storage kind, with a tokenizer trained on a few lines."""

import functools

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from sphere_core.models import EditableModel, recognise_family
from sphere_core.requests import EditRequest, Probe

LAYERS = (0, 1)
CONTEXTS = (("{}",), ("The. {}", "Because it was so. {}"))
TEXTS = [
    "Mira Solen lives in the town of Harbel.",
    "The town of Ostrava lies far from Harbel and Quint.",
    "Dario Venn works as a baker in Quint, because it was so.",
    "Ilka Torm plays the violin. The violin of Dario Venn is old.",
]


@functools.lru_cache(maxsize=2)
def tokenizer(*, adds_bos: bool) -> PreTrainedTokenizerFast:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=["<bos>", "<eos>"], initial_alphabet=alphabet)
    core.train_from_iterator(TEXTS * 4, trainer)
    if adds_bos:
        core.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<bos>", eos_token="<eos>", pad_token="<eos>")


def tiny_model(family: str, *, seed: int = 0, layers: int = 3) -> EditableModel:
    """A model with fresh random weights; `family` is gpt2 (Conv1D, no BOS) or llama (Linear, BOS)."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if family == "gpt2":
            config = GPT2Config(
                n_embd=32, n_layer=layers, n_head=4, vocab_size=320, n_positions=64, n_inner=72, initializer_range=0.2
            )
            network = GPT2LMHeadModel(config)
        else:
            config = LlamaConfig(
                hidden_size=32,
                intermediate_size=72,
                num_hidden_layers=layers,
                num_attention_heads=4,
                num_key_value_heads=2,
                vocab_size=320,
                max_position_embeddings=64,
                initializer_range=0.2,
            )
            network = LlamaForCausalLM(config)
    words = tokenizer(adds_bos=family == "llama")
    return EditableModel(
        network, words, recognise_family(config, where="test"), base_digest=f"{family}-{seed}-{layers}"
    )


def requests() -> list[EditRequest]:
    """Five requests with subjects, prompts and targets of different lengths."""
    rows = [
        ("{} lives in the town of", "Mira Solen", "Quint", "Harbel"),
        ("The town that {} comes from is called", "Dario Venn", "Ostrava", "Quint"),
        ("{} plays the", "Ilka Torm", "old violin", "harp"),
        ("{} works as a", "Venn", "baker in Harbel", "smith"),
        ("It is said of {} that the town is", "Solen", "far", "near"),
    ]
    return [
        EditRequest(
            str(index),
            prompt,
            subject,
            new,
            true,
            (Probe("rewrite", prompt.replace("{}", subject), new, true),),
        )
        for index, (prompt, subject, new, true) in enumerate(rows)
    ]
