"""Context templates: short texts sampled from the model, seeded, and kept with the run."""

from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.json_files import read_json
from sphere_core.locate.prompts import Contexts, pad_right
from sphere_core.models.editable import EditableModel

__all__ = ["ContextSettings", "read_contexts", "sample_contexts"]


class ContextSettings(BaseModel):
    """How context templates are sampled; the values of MEMIT's released code stand in its docstring.

    Released: one sample from each of The, Therefore, Because, I, You; ten tokens in all; top 5.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seeds: tuple[str, ...] = Field(
        default=("The", "Therefore", "Because", "I", "You"), description="First words, one template each"
    )
    length: int = Field(default=10, ge=2, description="Tokens in all, the first word included")
    top_k: int = Field(default=5, ge=1, description="Sampled among this many most likely tokens")


def sample_contexts(model: EditableModel, settings: ContextSettings, seed: int) -> Contexts:
    """Sample template groups `(("{}",), ("text. {}", ...))` from the model as it is now.

    Seeded by its own generator on the CPU; braces in sampled text become spaces. Call it on the unedited model
    and keep the result: templates drawn again later would come from other weights.
    """
    generator = torch.Generator().manual_seed(seed)
    special = set(model.tokenizer.all_special_ids)
    texts = []
    for word in settings.seeds:
        ids = list(model.tokenizer(word)["input_ids"])
        while len(ids) < settings.length:
            ids.append(_sample_next(model, ids, settings.top_k, special, generator))
        text = str(model.tokenizer.decode(ids, skip_special_tokens=True))
        texts.append(text.replace("{", " ").replace("}", " ") + ". {}")
    return (("{}",), tuple(texts)) if texts else (("{}",),)


def read_contexts(path: Path) -> Contexts:
    """Read a JSON list of template groups; raises InputError where a template lacks '{}'."""
    groups = read_json(path, what="contexts file")
    shaped = isinstance(groups, list) and all(isinstance(group, list) and group for group in groups) and groups
    if not shaped or not all(isinstance(t, str) and t.count("{}") == 1 for group in groups for t in group):
        raise InputError(
            "contexts must be a list of non-empty groups of templates with '{}' once",
            where=str(path),
            remedy='for example [["{}"], ["The. {}", "I. {}"]]',
        )
    if groups[0][0] != "{}":
        raise InputError("the first template must be '{}', the bare prompt", where=str(path))
    return tuple(tuple(group) for group in groups)


def _sample_next(
    model: EditableModel, ids: list[int], top_k: int, special: set[int], generator: torch.Generator
) -> int:
    tokens, mask = pad_right([ids], fill=0, device=model.device)
    with torch.no_grad():
        logits = model.network(input_ids=tokens, attention_mask=mask, use_cache=False).logits[0, -1].float().cpu()
    # A tokenizer may add special tokens of its class that the model has no logit for.
    logits[[token for token in special if token < len(logits)]] = -torch.inf
    top = logits.topk(min(top_k, logits.shape[0]))
    choice = torch.multinomial(top.values.softmax(dim=-1), 1, generator=generator)
    return int(top.indices[choice])
