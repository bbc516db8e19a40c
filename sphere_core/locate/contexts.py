"""Context templates: short texts sampled from the model, seeded, and kept with the run."""

import torch

from sphere_core.locate.prompts import pad_right
from sphere_core.locate.templates import Contexts, ContextSettings
from sphere_core.models.editable import EditableModel

__all__ = ["sample_contexts", "sample_texts"]


def sample_contexts(model: EditableModel, settings: ContextSettings, seed: int) -> Contexts:
    """Sample template groups `(("{}",), ("text. {}", ...))` from the model as it is now.

    Seeded by its own generator on the CPU; braces in sampled text become spaces. Call it on the unedited model
    and keep the result: templates drawn again later would come from other weights.
    """
    texts = sample_texts(model, settings, len(settings.seeds), seed)
    templates = tuple(text.replace("{", " ").replace("}", " ") + ". {}" for text in texts)
    return (("{}",), templates) if templates else (("{}",),)


def sample_texts(model: EditableModel, settings: ContextSettings, count: int, seed: int) -> list[str]:
    """Sample texts from the model as it is now, with the first words of `settings` in turn.

    Seeded by a generator of its own on the CPU.
    """
    generator = torch.Generator().manual_seed(seed)
    special = set(model.tokenizer.all_special_ids)
    texts = []
    for place in range(count):
        ids = list(model.tokenizer(settings.seeds[place % len(settings.seeds)])["input_ids"])
        while len(ids) < settings.length:
            ids.append(_sample_next(model, ids, settings.top_k, special, generator))
        texts.append(str(model.tokenizer.decode(ids, skip_special_tokens=True)))
    return texts


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
