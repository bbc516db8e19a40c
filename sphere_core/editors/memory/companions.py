"""The two models that SERAC brings beside the edited one: an encoder that knows scopes, and a counterfactual model.

Both are folders in the form of transformers: the encoder any model with its own tokenizer, whose final state at the
first position is the feature of a text; the counterfactual model a causal one with the edited model's token ids.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from sphere_core.editors.memory.companion_folders import companions_digest
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.user_files import library_errors
from sphere_core.models.editable import EditableModel
from sphere_core.models.loading import load_model
from sphere_core.models.source import resolve_model

__all__ = ["Companions", "ScopeEncoder", "companions", "load_encoder"]

_TEXTS = 64


@dataclass(frozen=True)
class ScopeEncoder:
    """An encoder of texts and its tokenizer."""

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    def features(self, texts: Sequence[str]) -> torch.Tensor:
        """Return the final states `[m, d]` at the first position, fp32, with gradient where it is on."""
        rows: Any = self.tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        device = self.network.device
        ids, mask = rows["input_ids"].to(device), rows["attention_mask"].to(device)
        states: torch.Tensor = self.network(input_ids=ids, attention_mask=mask).last_hidden_state
        return states[:, 0].float()

    @torch.no_grad()
    def embedded(self, texts: Sequence[str]) -> torch.Tensor:
        """Return the features of any number of texts, without gradient."""
        parts = [self.features(texts[begin : begin + _TEXTS]) for begin in range(0, len(texts), _TEXTS)]
        return torch.cat(parts)


@dataclass(frozen=True)
class Companions:
    """The scope's encoder and the counterfactual model."""

    encoder: ScopeEncoder
    counterfactual: EditableModel


def companions(model: EditableModel, classifier: str, counterfactual: str, digest: str) -> Companions:
    """Return both models on the device of `model`, which keeps them for later calls with this digest.

    Raises InputError if the folders no longer have this content, or if the counterfactual model's tokens are not those
    of `model`.
    """
    known = model.companions.get(digest)
    if isinstance(known, Companions):
        return known
    where = f"{classifier}, {counterfactual}"
    if companions_digest(classifier, counterfactual) != digest:
        raise InputError(
            "SERAC's models are not those that the edits were made with", where=where, remedy="give the same folders"
        )
    device = next(model.network.parameters()).device
    answering = load_model(counterfactual, dtype="float32", device=device)
    sizes = [m.network.config.get_text_config().vocab_size for m in (model, answering)]
    if answering.tokenizer.get_vocab() != model.tokenizer.get_vocab() or sizes[0] != sizes[1]:
        raise InputError(
            "the counterfactual model has another tokenizer than the edited model",
            where=counterfactual,
            remedy="give a model with the same tokens, or train one: sphere serac train",
        )
    found = Companions(load_encoder(classifier, device), answering)
    model.companions[digest] = found
    return found


def load_encoder(folder: str, device: torch.device) -> ScopeEncoder:
    """Load an encoder and its tokenizer from a folder, fp32; raises InputError if it cannot be read."""
    path = Path(resolve_model(folder))
    with library_errors(path, what="the classifier", remedy="give the folder of an encoder with its tokenizer"):
        network = AutoModel.from_pretrained(path, dtype=torch.float32, use_safetensors=True)
        tokenizer = AutoTokenizer.from_pretrained(path)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    network.requires_grad_(False)
    torch.nn.Module.to(network, device)
    return ScopeEncoder(network.eval(), tokenizer)
