"""Small randomly initialised models of every storage kind, with a tokenizer trained on a few lines."""

import copy
import functools
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedTokenizerFast
from transformers.models.auto import CONFIG_MAPPING

from sphere_core.models import EditableModel, load_families, recognise_family
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


LAYER_TYPES = ["full_attention", "sliding_attention"]
HYBRID_TYPES = ["linear_attention", "linear_attention", "full_attention"]
# One row a family: the model type and what makes its tiny model stand for it. Windows are shorter than the prompts
# and caps bind, so that a pass which forgets them differs.
FAMILIES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_inner": 72},
    "gptj": {"n_inner": 72, "rotary_dim": 4},
    "gpt_neox": {"rotary_pct": 0.5},
    "llama": {},
    "mistral": {"sliding_window": 10},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {"head_dim": 8, "attention_bias": True},
    "gemma2": {
        "head_dim": 8,
        "query_pre_attn_scalar": 8,
        "sliding_window": 6,
        "layer_types": LAYER_TYPES,
        "final_logit_softcapping": 4.0,
        "attn_logit_softcapping": 4.0,
    },
    "gemma3_text": {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 6, "layer_types": LAYER_TYPES},
    "phi3": {"pad_token_id": 1, "sliding_window": 10},
    "olmo2": {},
    "phi": {"partial_rotary_factor": 0.5, "num_key_value_heads": None},
    "qwen3_5_text": {
        "head_dim": 8,
        "layer_types": HYBRID_TYPES,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
    },
    # Mixtures: four experts of 18 inputs each, so that the site is as wide as the others'.
    "qwen3_moe": {
        "head_dim": 8,
        "moe_intermediate_size": 18,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "norm_topk_prob": True,
    },
    "olmoe": {"intermediate_size": 18, "num_experts": 4, "num_experts_per_tok": 2, "norm_topk_prob": False},
    "mixtral": {"intermediate_size": 18, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
}
_WITH_ROUTER = {kind for family in load_families().values() if family.mixture for kind in family.model_types}
MIXTURES = tuple(name for name in FAMILIES if name in _WITH_ROUTER)
DENSE = tuple(name for name in FAMILIES if name not in _WITH_ROUTER)
ADDS_BOS = {"llama", "mistral", "gemma2", "gemma3_text"}
PADS_LEFT = {"mistral", "gemma2", "phi3"}


def tiny_config(family: str, *, layers: int = 3, positions: int = 64) -> PretrainedConfig:
    """The config of a small model of some model type."""
    sizes = {"vocab_size": 320, "initializer_range": 0.2, "bos_token_id": 0, "eos_token_id": 1}
    if family in ("gpt2", "gptj"):
        sizes |= {"n_embd": 32, "n_layer": layers, "n_head": 4, "n_positions": positions}
    else:
        sizes |= {"hidden_size": 32, "intermediate_size": 72, "num_hidden_layers": layers, "num_attention_heads": 4}
        sizes |= {"max_position_embeddings": positions}
        sizes |= {} if family == "gpt_neox" else {"num_key_value_heads": 2}
    own = dict(FAMILIES[family])
    if "layer_types" in own:
        own["layer_types"] = (own["layer_types"] * layers)[:layers]
    return CONFIG_MAPPING[family](**{**sizes, **own})


def tiny_model(
    family: str, *, seed: int = 0, layers: int = 3, dtype: torch.dtype = torch.float32, positions: int = 64
) -> EditableModel:
    """A model with fresh random weights; `family` is a model type. Llama has a tokenizer that adds BOS, GPT-2 none."""
    config = tiny_config(family, layers=layers, positions=positions)
    known = recognise_family(config, where="test")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        experts = {"experts_implementation": "eager"} if known.mixture else {}
        network = AutoModelForCausalLM.from_config(config, attn_implementation=known.attention, **experts)
        if family not in ("gpt2", "llama"):
            # Norms and biases are born as ones and zeros, which would hide whether they are used.
            with torch.no_grad():
                for parameter in network.parameters():
                    if parameter.ndim == 1:
                        parameter.add_(0.3 * torch.randn_like(parameter))
    words = copy.deepcopy(tokenizer(adds_bos=family in ADDS_BOS))
    words.padding_side = "left" if family in PADS_LEFT else "right"
    return EditableModel(network.to(dtype), words, known, base_digest=f"{family}-{seed}-{layers}")


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
