"""How much of a fact world a model knows, by greedy answers over the whole vocabulary."""

from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sphere_core.datasets.factworld.skills import held_out_items, load_skills
from sphere_core.datasets.factworld.world import EDIT_TEMPLATE, World

__all__ = ["RecallReport", "recall"]

BATCH_ROWS = 256


@dataclass(frozen=True)
class RecallReport:
    """Shares of right answers in [0, 1].

    `edit`: facts on the edit prompt; `paraphrase`: facts on their held-out template; `skills`: held-out
    items of the general skills.
    """

    edit: float
    paraphrase: float
    skills: float


def recall(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, world: World) -> RecallReport:
    """Measure recall on every fact and on the held-out items of all five skills.

    An answer is right if, after the prompt, the most probable token is the right one at each of the
    answer's tokens. A tie or a non-finite score counts as wrong.
    """
    skills = load_skills()
    edit = [(world.prompt(fact, EDIT_TEMPLATE), fact.object) for fact in world.facts]
    held = [(world.prompt(fact, fact.held_template), fact.object) for fact in world.facts]
    items = [(i.prompt, i.answer) for name in skills.names for i in held_out_items(skills, name)]
    shares = [_share_right(model, tokenizer, questions) for questions in (edit, held, items)]
    return RecallReport(edit=shares[0], paraphrase=shares[1], skills=shares[2])


def _share_right(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, questions: list[tuple[str, str]]) -> float:
    right = 0
    for start in range(0, len(questions), BATCH_ROWS):
        right += _count_right(model, tokenizer, questions[start : start + BATCH_ROWS])
    return right / len(questions)


@torch.no_grad()
def _count_right(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, questions: list[tuple[str, str]]) -> int:
    lengths = [len(ids) for ids in tokenizer([prompt for prompt, _ in questions])["input_ids"]]
    full = tokenizer([f"{prompt} {answer}" for prompt, answer in questions])["input_ids"]
    width = max(len(ids) for ids in full)
    ids = torch.zeros(len(full), width, dtype=torch.long)
    is_answer = torch.zeros(len(full), width, dtype=torch.bool)
    for row, (tokens, length) in enumerate(zip(full, lengths, strict=True)):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        is_answer[row, length : len(tokens)] = True
    ids = ids.to(model.device)
    # Padding on the right cannot change what comes before it in a causal model.
    logits = model(input_ids=ids).logits[:, :-1].float().cpu()
    targets = ids[:, 1:].cpu()
    target_logits = logits.gather(-1, targets.unsqueeze(-1))
    rivals = (logits >= target_logits).sum(-1)  # 1 only where the target alone is on top; 0 for NaN
    hits = (rivals == 1) & torch.isfinite(logits).all(-1)
    return int((hits | ~is_answer[:, 1:]).all(-1).sum())
