"""Models that memories bring beside the edited one: SERAC an encoder that knows scopes and a counterfactual model,
retrieval a sentence encoder.

All are folders in the form of transformers. An encoder is any model with its own tokenizer, whose final state at the
first position, or the mean of its final states, is the feature of a text; the counterfactual model is a causal one with
the edited model's token ids.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from sphere_core.editors.memory.companion_folders import Pooling, companions_digest, encoder_digest, sentence_pooling
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.user_files import library_errors
from sphere_core.models.editable import EditableModel
from sphere_core.models.loading import load_model
from sphere_core.models.source import resolve_model

__all__ = ["Companions", "ScopeEncoder", "companions", "load_encoder", "sentence_encoder"]

_TEXTS = 64


@dataclass(frozen=True)
class ScopeEncoder:
    """An encoder of texts and its tokenizer; a feature is the final state at the first position, or their mean."""

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    pooling: Pooling = "first"

    def features(self, texts: Sequence[str]) -> torch.Tensor:
        """Return the features `[m, d]`, fp32, with gradient where it is on; padding takes no part in a mean."""
        rows: Any = self.tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        device = self.network.device
        ids, mask = rows["input_ids"].to(device), rows["attention_mask"].to(device)
        states: torch.Tensor = self.network(input_ids=ids, attention_mask=mask).last_hidden_state
        if self.pooling == "first":
            return states[:, 0].float()
        weights = mask[:, :, None].float()
        mean: torch.Tensor = (states.float() * weights).sum(dim=1) / weights.sum(dim=1)
        return mean

    @torch.no_grad()
    def embedded(self, texts: Sequence[str]) -> torch.Tensor:
        """Return the features of any number of texts, without gradient."""
        parts = [self.features(texts[begin : begin + _TEXTS]) for begin in range(0, len(texts), _TEXTS)]
        return torch.cat(parts)


def sentence_encoder(model: EditableModel, folder: str, digest: str) -> ScopeEncoder:
    """Return a sentence encoder on the device of `model`, which keeps it for later calls with this digest.

    Its pooling is what `1_Pooling/config.json` of the folder says (Sentence Transformers): the first position, or the
    mean, as without this file. Raises InputError for another one, and if the folder no longer has this content.
    """
    known = model.companions.get(digest)
    if isinstance(known, ScopeEncoder):
        return known
    if encoder_digest(folder) != digest:
        raise InputError(
            "the sentence encoder is not the one that the edits were made with",
            where=folder,
            remedy="give the same folder",
        )
    found = load_encoder(folder, next(model.network.parameters()).device, sentence_pooling(Path(folder)))
    model.companions[digest] = found
    return found


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


def load_encoder(folder: str, device: torch.device, pooling: Pooling = "first") -> ScopeEncoder:
    """Load an encoder and its tokenizer from a folder, fp32; raises InputError if it cannot be read."""
    path = Path(resolve_model(folder))
    with library_errors(path, what="the encoder", remedy="give the folder of an encoder with its tokenizer"):
        network = AutoModel.from_pretrained(path, dtype=torch.float32, use_safetensors=True)
        tokenizer = AutoTokenizer.from_pretrained(path)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    network.requires_grad_(False)
    torch.nn.Module.to(network, device)
    return ScopeEncoder(network.eval(), tokenizer, pooling)
