"""Folders of the two models that SERAC uses, small and random, for every tiny model."""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import torch
from tiny_models import tiny_model, tokenizer
from transformers import BertConfig, BertModel

__all__ = ["encoder_folder", "serac_folders", "serac_values"]


def encoder_folder(folder: Path) -> Path:
    """Write an encoder with the tokenizer of the tiny models that opens texts."""
    config = BertConfig(
        vocab_size=320,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        initializer_range=0.3,
    )
    with torch.random.fork_rng():
        torch.manual_seed(11)
        network = BertModel(config)
    network.save_pretrained(folder)
    tokenizer(adds_bos=True).save_pretrained(folder)
    return folder


@functools.lru_cache(maxsize=1)
def serac_folders() -> tuple[str, str]:
    """Return the paths of an encoder and of a counterfactual model; they are removed when the process ends."""
    root = Path(tempfile.mkdtemp(prefix="serac-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    other = tiny_model("llama", seed=7, layers=2, positions=128)
    other.network.save_pretrained(root / "counterfactual")
    other.tokenizer.save_pretrained(root / "counterfactual")
    return str(encoder_folder(root / "classifier")), str(root / "counterfactual")


def serac_values() -> dict[str, str]:
    """Return the hyperparameters that name the folders."""
    classifier, counterfactual = serac_folders()
    return {"serac_classifier": classifier, "serac_counterfactual": counterfactual}
