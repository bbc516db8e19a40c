"""Free generation of a batch with its cache, against its forward passes alone and against whole prefixes again."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from benchmarks.gpu.setting import Setting
from benchmarks.probes import counterfact_probes
from benchmarks.rows import Row, comparison
from benchmarks.timing import interleaved
from evaluators.edit_quality.generation import Decoding, continue_texts
from sphere_core.locate.prompts import pad_left, text_ids
from sphere_core.models import EditableModel

__all__ = ["AT_FORWARD", "CachedPasses", "generation_rows", "whole_prefixes"]

# The share of the speed of its own forward passes that generation must reach.
AT_FORWARD = 0.9
_ALL_IN_ONE = 1 << 20


def generation_rows(setting: Setting, *, tokens: int, required: float | None, repeats: int = 1) -> list[Row]:
    """Return the rows of a generated token, seconds per row and token, of one batch continued by `tokens` greedily.

    One compares with the plain way without a cache, which reads the whole prefix again for every token; `difference`
    is the share of tokens that differ. The next has the same forward passes with a cache and nothing around them, fed
    with the tokens that were chosen: its ratio is the share of their speed that is reached. The last are the seconds
    of those passes that read one new token per row, without the one that reads the prompts.
    """
    model = setting.model(torch.device("cpu"))
    requests, _ = setting.requests(model, setting.scored)
    asked = counterfact_probes(model, requests)
    # Rewrites and paraphrases in turn: prompts of different lengths.
    texts = list(dict.fromkeys(one.probes[index % 2].prompt for index, one in enumerate(asked)))
    decoding = Decoding(tokens, frozenset())

    def ours() -> list[tuple[int, ...]]:
        return [said.ids for said in continue_texts(model, texts, decoding, token_budget=_ALL_IN_ONE)]

    again = interleaved(lambda: whole_prefixes(model, texts, tokens), ours, repeats=repeats)
    passes = CachedPasses(model, texts, again.ours)
    floor = interleaved(passes.run, ours, repeats=repeats)
    prompts = interleaved(replace(passes, chosen=[ids[:1] for ids in again.ours]).run, lambda: None, repeats=repeats)
    count = len(texts) * tokens
    pairs = [pair for one, other in zip(again.ours, again.plain, strict=True) for pair in zip(one, other, strict=True)]
    rows = f"{len(texts)} rows in a batch, {tokens} tokens each; fp32; published:"
    return [
        comparison(
            "a generated token",
            f"{rows} the whole prefix again for every token",
            (again.seconds[0] / count, again.seconds[1] / count),
            wall=(again.wall[0] / count, again.wall[1] / count),
            required=None,
            difference=sum(one != other for one, other in pairs) / len(pairs),
            tolerance=0.0,
        ),
        comparison(
            "a generated token, share of the speed of its passes",
            f"{rows} the same forward passes with a cache, nothing else",
            (floor.seconds[0] / count, floor.seconds[1] / count),
            wall=(floor.wall[0] / count, floor.wall[1] / count),
            required=required,
            difference=0.0 if floor.ours == again.ours else 1.0,
            tolerance=0.0,
        ),
        Row(
            "a pass that reads one new token per row",
            "as above; seconds per row",
            (floor.seconds[0] - prompts.seconds[0]) / (count - len(texts)),
            "s",
        ),
    ]


@torch.no_grad()
def whole_prefixes(model: EditableModel, texts: Sequence[str], tokens: int) -> list[tuple[int, ...]]:
    """Return the greedy continuations of texts: one forward of all rows, whole, for every token, and all its logits."""
    ids, mask = pad_left([text_ids(model.tokenizer, text) for text in texts], fill=0, device=model.device)
    start = ids.shape[1]
    for _ in range(tokens):
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        logits = model.network(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits
        ids = torch.cat([ids, logits[:, -1].argmax(dim=1, keepdim=True)], dim=1)
        mask = torch.cat([mask, mask.new_ones(len(texts), 1)], dim=1)
    return [tuple(row) for row in ids[:, start:].tolist()]


@dataclass(frozen=True)
class CachedPasses:
    """The forward passes of a batch of texts that is continued by known tokens, with a cache: the floor of its cost."""

    model: EditableModel
    texts: Sequence[str]
    chosen: Sequence[tuple[int, ...]]

    @torch.no_grad()
    def run(self) -> torch.Tensor:
        """Return the logits after the last token but one: prompts, then a token of every row at a time."""
        rows = [text_ids(self.model.tokenizer, text) for text in self.texts]
        ids, mask = pad_left(rows, fill=0, device=self.model.device)
        following = torch.tensor(self.chosen, device=ids.device)
        positions, cache = (mask.cumsum(dim=1) - 1).clamp(min=0), None
        for place in range(following.shape[1]):
            output = self.model.network(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache = output.past_key_values
            ids, mask = following[:, place : place + 1], torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
            positions = positions[:, -1:] + 1
        logits: torch.Tensor = output.logits[:, -1]
        return logits
