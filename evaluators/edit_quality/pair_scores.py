"""Scores of encoded pairs: how likely and how exact each target is, from one batched pass."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from evaluators.edit_quality.encoding import Pair, Readable
from sphere_core.foundation.errors import InputError
from sphere_core.locate.prompts import pad_right
from sphere_core.models import EditableModel
from sphere_core.models.prefix_trees import TREE_SHARE, PrefixTree, prefix_trees, reads_trees, tree_hidden_at

__all__ = ["PairScores", "length_batches", "require_room", "score_pairs"]

# Logits of a processor stay below what its allocator gives back at once, those in float64 in its caches.
_HEAD_ROWS, _PROCESSOR_HEAD_ROWS, _WIDE_ROWS = 256, 96, 8


@dataclass(frozen=True)
class PairScores:
    """One entry a pair, in the order of the pairs.

    `nll_mean` and `nll_sum`: negative log-likelihood over the target's tokens in nats, float64. `tokens`: how
    many there are. `exact`: each one is the argmax. `token_accuracy`: the share that is. `finite`: all logits
    behind it are. `tied`: at some target token the largest logit is shared, so the argmax is arbitrary.
    `predicted` holds the argmax at every target token of every pair, one pair after the other. `routed`: an attachment
    changed what the model reads or computes for it; None: there is none.
    """

    nll_mean: np.ndarray
    nll_sum: np.ndarray
    tokens: np.ndarray
    exact: np.ndarray
    token_accuracy: np.ndarray
    finite: np.ndarray
    tied: np.ndarray
    predicted: np.ndarray
    routed: np.ndarray | None = None


@torch.no_grad()
def score_pairs(model: EditableModel, pairs: Sequence[Readable], *, token_budget: int) -> PairScores:
    """Score encoded pairs in batches of at most `token_budget` tokens (always at least one row).

    Pairs that read the same ids share a row: targets of one token that differ cost one forward row. Rows are read as
    prefix trees where that saves a third of the tokens, else padded on the right under an explicit mask; the head sees
    each position that predicts a target token once. Where the model routes by the prompt, only rows whose prompts end
    at the same place are read together, none as a tree, and equal ids with other prompts are other rows. Logits are
    fp32 whatever the network's dtype; the log-sum-exp and all sums are float64.
    """
    groups: dict[int | None, _Rows] = {}
    ends = np.zeros(len(pairs), dtype=np.int64)
    steps = _Steps(sum(len(reading.targets) for pair in pairs for reading in pair.readings))
    asked = 0
    for number, pair in enumerate(pairs):
        for inputs, first, targets, prompt_end in pair.readings:
            read = model.rewritten(inputs, prompt_end)
            added = len(read) - len(inputs)
            rows = groups.setdefault(prompt_end + added if model.routes_by_prompt else None, {})
            rows.setdefault(read, []).append((asked, first + added, targets))
            steps.note_routed(asked, read != inputs)
            asked += len(targets)
        ends[number] = asked
    read_rows, all_rows = 0, sum(map(len, groups.values()))
    for shared_end, rows in groups.items():
        for batch in _batches(model, list(rows), shared_end, token_budget):
            _note(model, steps, rows, batch, shared_end, token_budget)
            read_rows += len(batch.rows)
            model.progress.report("probes", read_rows, all_rows, "rows")
    return steps.by_pair(ends, attached=model.attachment is not None)


# Rows by their ids; of each, what is asked: where its steps begin, at which position, and for which tokens.
_Rows = dict[tuple[int, ...], list[tuple[int, int, tuple[int, ...]]]]


@dataclass(frozen=True)
class _PaddedBatch:
    """Rows padded on the right to the longest."""

    rows: Sequence[tuple[int, ...]]

    def places(self) -> Iterator[tuple[tuple[int, ...], int, Sequence[int]]]:
        """Yield each row with its line and the index of each of its tokens in the line."""
        for line, row in enumerate(self.rows):
            yield row, line, range(len(row))

    def read(self, model: EditableModel, lines: Sequence[int], tokens: Sequence[int]) -> torch.Tensor:
        """Return final hidden states at p tokens of lines, `[p, h]`."""
        ids, mask = pad_right(self.rows, fill=0, device=model.device)
        output = model.decoder(input_ids=ids, attention_mask=mask, use_cache=False, return_dict=True)
        hidden: torch.Tensor = output.last_hidden_state[list(lines), list(tokens)]
        return hidden


@dataclass(frozen=True)
class _TreeBatch:
    """Rows as prefix trees, a tree per line."""

    trees: Sequence[PrefixTree]

    @property
    def rows(self) -> list[tuple[int, ...]]:
        """All rows."""
        return [row for tree in self.trees for row in tree.paths]

    def places(self) -> Iterator[tuple[tuple[int, ...], int, Sequence[int]]]:
        """Yield each row with its line and the index of each of its tokens in the line."""
        for line, tree in enumerate(self.trees):
            for row, path in tree.paths.items():
                yield row, line, path

    def read(self, model: EditableModel, lines: Sequence[int], tokens: Sequence[int]) -> torch.Tensor:
        """Return final hidden states at p nodes of lines, `[p, h]`."""
        return tree_hidden_at(model, self.trees, lines, tokens)


def _batches(
    model: EditableModel, rows: Sequence[tuple[int, ...]], prompt_end: int | None, token_budget: int
) -> Iterator[_PaddedBatch | _TreeBatch]:
    """Yield the rows as trees where that saves a third of the tokens and the model reads them, else padded."""
    padded = list(length_batches(rows, token_budget))
    # In a tree one node serves rows with other prompts.
    if rows and prompt_end is None and reads_trees(model, len(padded[0][0])):
        trees = prefix_trees(rows)
        tokens = sum(len(batch) * len(batch[0]) for batch in padded)
        if sum(len(tree.ids) for tree in trees) <= TREE_SHARE * tokens:
            start = 0
            while start < len(trees):
                count = max(1, token_budget // len(trees[start].ids))
                yield _TreeBatch(trees[start : start + count])
                start += count
            return
    yield from (_PaddedBatch(batch) for batch in padded)


def _note(
    model: EditableModel,
    steps: "_Steps",
    rows: _Rows,
    batch: _PaddedBatch | _TreeBatch,
    prompt_end: int | None,
    token_budget: int,
) -> None:
    """Read a batch's rows, whose prompts all end at `prompt_end`, and note all that is asked of them."""
    count = len(batch.rows) if isinstance(batch, _PaddedBatch) else len(batch.trees)
    ends = None if prompt_end is None else torch.full((count,), prompt_end, device=model.device)
    places: dict[tuple[int, int], int] = {}
    asked: list[tuple[int, int, int]] = []
    for row, line, path in batch.places():
        for start, first, targets in rows[row]:
            for offset, token in enumerate(targets):
                place = places.setdefault((line, path[first + offset]), len(places))
                asked.append((place, start + offset, token))
    with model.reading(ends=ends) as reading:
        picked = batch.read(model, *zip(*places, strict=True))
    if isinstance(batch, _TreeBatch) and not bool(torch.isfinite(picked).all()):
        # Zero times infinity is not zero: in a tree one row could spoil another in spite of the mask.
        for apart in length_batches(batch.rows, token_budget):
            _note(model, steps, rows, _PaddedBatch(apart), prompt_end, token_budget)
        return
    if reading.routed is not None:
        changed = reading.routed.cpu().numpy()
        for row, line, path in batch.places():
            for start, *_ in rows[row]:
                steps.note_routed(start, bool(changed[line, list(path)].any()))
    place_of, step, token_of = np.array(sorted(asked)).T
    head_rows = _PROCESSOR_HEAD_ROWS if model.device.type == "cpu" else _HEAD_ROWS
    for start in range(0, len(places), head_rows):
        part = slice(*np.searchsorted(place_of, [start, start + head_rows]))
        logits = model.normed_logits(picked[start : start + head_rows])
        steps.note(step[part], logits, place_of[part] - start, token_of[part])


def length_batches(rows: Sequence[tuple[int, ...]], token_budget: int) -> Iterator[list[tuple[int, ...]]]:
    """Cut rows, longest first, into batches whose rows x longest row stays within the budget."""
    batch: list[tuple[int, ...]] = []
    for row in sorted(rows, key=lambda ids: (-len(ids), ids)):
        if batch and (len(batch) + 1) * len(batch[0]) > token_budget:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


class _Steps:
    """What is known of every target token of every pair."""

    def __init__(self, count: int) -> None:
        self._nll = np.zeros(count)
        self._hit, self._finite, self._shared, self._routed = np.zeros((4, count), dtype=bool)
        self._predicted = np.zeros(count, dtype=np.int32)

    def note(self, step: np.ndarray, logits: torch.Tensor, place: np.ndarray, token: np.ndarray) -> None:
        """Note steps `[s]`: each scores a token at one of the places whose logits `[m, V]` are given."""
        low, high = torch.aminmax(logits, dim=1)
        finite_at = torch.isfinite(low) & torch.isfinite(high)
        tied_at = ((logits == high[:, None]).sum(dim=1) > 1) & finite_at
        blocks = logits.split(_WIDE_ROWS if logits.device.type == "cpu" else len(logits))
        total = torch.cat([torch.logsumexp(block.double(), dim=1) for block in blocks]).cpu().numpy()
        wanted = logits[torch.from_numpy(place), torch.from_numpy(token)].double().cpu().numpy()
        predicted = logits.argmax(dim=1).cpu().numpy()[place]
        finite = finite_at.cpu().numpy()[place]
        self._nll[step] = total[place] - wanted
        self._predicted[step] = predicted
        # The argmax of a row of NaN is token 0: a hit counts only where all logits are finite.
        self._hit[step] = (predicted == token) & finite
        self._finite[step] = finite
        self._shared[step] = tied_at.cpu().numpy()[place]

    def note_routed(self, step: int, routed: bool) -> None:
        """Note of the text in which a step is asked whether an attachment changed it."""
        self._routed[step] |= routed

    def by_pair(self, ends: np.ndarray, *, attached: bool) -> PairScores:
        """Gather by pair; `ends` is where each pair's steps end."""
        starts = np.concatenate([[0], ends[:-1]])
        tokens = ends - starts
        if len(ends) == 0:
            starts = starts[:0]
        nll, hits = np.add.reduceat(self._nll, starts), np.add.reduceat(self._hit, starts, dtype=np.int64)
        return PairScores(
            nll_mean=nll / tokens,
            nll_sum=nll,
            tokens=tokens,
            exact=hits == tokens,
            token_accuracy=hits / tokens,
            finite=np.logical_and.reduceat(self._finite, starts) & np.isfinite(nll),
            tied=np.logical_or.reduceat(self._shared, starts),
            predicted=self._predicted,
            routed=np.logical_or.reduceat(self._routed, starts) if attached else None,
        )


def require_room(model: EditableModel, pairs: Sequence[Pair], encoded: Sequence[Readable]) -> None:
    """Raise InputError for a pair that is longer than the model's positions."""
    room = getattr(model.network.config.get_text_config(), "max_position_embeddings", None)
    if room is None:
        return
    for pair, readable in zip(pairs, encoded, strict=True):
        longest = max(len(reading.inputs) for reading in readable.readings)
        if longest > room:
            raise InputError(
                f"a probe has {longest} tokens; the model has {room} positions",
                where=f"prompt {pair.prompt[:60]!r}, target {pair.target!r}",
                remedy="shorten the prompt, or use a model with more positions",
            )
