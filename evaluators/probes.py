"""The table of scored probes: every (prompt, target) pair of all edits, scored once in one batched pass."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from evaluators.encoding import EncodedPair, PairEncoder
from sphere_core.errors import InputError
from sphere_core.locate.prompts import pad_right
from sphere_core.models import EditableModel
from sphere_core.requests import EditRequest, overwritten_cases

__all__ = [
    "NO_CONTRAST",
    "PairScores",
    "ProbeTable",
    "length_batches",
    "score_pairs",
    "score_probes",
]

NO_CONTRAST = -1
_HEAD_ROWS = 256


@dataclass(frozen=True)
class PairScores:
    """One entry a pair, in the order of the pairs.

    `nll_mean` and `nll_sum`: negative log-likelihood over the target's tokens in nats, float64. `tokens`: how
    many there are. `exact`: each one is the argmax. `token_accuracy`: the share that is. `finite`: all logits
    behind it are. `tied`: at some target token the largest logit is shared, so the argmax is arbitrary.
    """

    nll_mean: np.ndarray
    nll_sum: np.ndarray
    tokens: np.ndarray
    exact: np.ndarray
    token_accuracy: np.ndarray
    finite: np.ndarray
    tied: np.ndarray


@dataclass(frozen=True)
class ProbeTable:
    """One entry a probe, in the order of the stream, and the scores of the distinct pairs they point to.

    `edit` is the request's 1-based place in the stream. `target` and `contrast` index `pairs` and `scores`;
    a probe without contrast has `NO_CONTRAST`.
    """

    edit: np.ndarray
    case_id: tuple[str, ...]
    role: np.ndarray
    target: np.ndarray
    contrast: np.ndarray
    pairs: tuple[tuple[str, str], ...]
    scores: PairScores

    def to_arrow(self) -> pa.Table:
        """Return one row a probe, with the scores of its target and, where there is one, of its contrast."""
        missing = self.contrast == NO_CONTRAST
        other = np.where(missing, 0, self.contrast)
        scores = self.scores
        columns: dict[str, pa.Array] = {
            "edit": pa.array(self.edit, pa.int32()),
            "case_id": pa.array(self.case_id, pa.string()),
            "role": pa.array(self.role.tolist(), pa.string()),
            "prompt": pa.array([self.pairs[i][0] for i in self.target], pa.string()),
            "target": pa.array([self.pairs[i][1] for i in self.target], pa.string()),
            "contrast": pa.array(
                [None if gone else self.pairs[i][1] for i, gone in zip(other, missing, strict=True)],
                pa.string(),
            ),
            "nll_mean": pa.array(scores.nll_mean[self.target], pa.float64()),
            "nll_sum": pa.array(scores.nll_sum[self.target], pa.float64()),
            "tokens": pa.array(scores.tokens[self.target], pa.int32()),
            "exact": pa.array(scores.exact[self.target], pa.bool_()),
            "token_accuracy": pa.array(scores.token_accuracy[self.target], pa.float64()),
            "finite": pa.array(scores.finite[self.target], pa.bool_()),
            "tied": pa.array(scores.tied[self.target], pa.bool_()),
            "contrast_nll_mean": pa.array(scores.nll_mean[other], pa.float64(), mask=missing),
            "contrast_nll_sum": pa.array(scores.nll_sum[other], pa.float64(), mask=missing),
            "contrast_finite": pa.array(scores.finite[other], pa.bool_(), mask=missing),
        }
        return pa.table(columns)


def score_probes(
    model: EditableModel, encoder: PairEncoder, requests: Sequence[EditRequest], *, token_budget: int
) -> ProbeTable:
    """Score every probe of the requests with the weights the model holds now.

    Requests that a later one contradicts are left out: their probes expect what has been edited away, and the
    later request asks for the answer that holds now. Equal pairs are scored once. Raises InputError for a probe
    that cannot be encoded or does not fit the model's positions, before any forward pass.
    """
    index: dict[tuple[str, str], int] = {}
    edit, case_id, role, target, contrast = [], [], [], [], []
    gone = overwritten_cases(requests)
    for place, request in enumerate(requests, start=1):
        for probe in () if request.case_id in gone else request.probes:
            edit.append(place)
            case_id.append(request.case_id)
            role.append(probe.role)
            target.append(index.setdefault((probe.prompt, probe.target), len(index)))
            has_contrast = probe.contrast is not None
            contrast.append(
                index.setdefault((probe.prompt, str(probe.contrast)), len(index)) if has_contrast else NO_CONTRAST
            )
    pairs = tuple(index)
    encoded = encoder.encode(pairs)
    _require_room(model, pairs, encoded)
    return ProbeTable(
        edit=np.asarray(edit, dtype=np.int64),
        case_id=tuple(case_id),
        role=np.asarray(role, dtype=object),
        target=np.asarray(target, dtype=np.int64),
        contrast=np.asarray(contrast, dtype=np.int64),
        pairs=pairs,
        scores=score_pairs(model, encoded, token_budget=token_budget),
    )


@torch.no_grad()
def score_pairs(model: EditableModel, pairs: Sequence[EncodedPair], *, token_budget: int) -> PairScores:
    """Score encoded pairs in batches of at most `token_budget` padded tokens (always at least one row).

    Pairs that read the same ids share a row: targets of one token that differ cost one forward row. Rows are
    padded on the right under an explicit mask; the head sees only the positions that predict a target token.
    Logits are fp32 whatever the network's dtype; the log-sum-exp and all sums are float64.
    """
    rows: dict[tuple[int, ...], list[int]] = {}
    for number, pair in enumerate(pairs):
        rows.setdefault(pair.inputs, []).append(number)
    sums = _Sums(len(pairs))
    for batch in length_batches(list(rows), token_budget):
        row: list[int] = []
        position: list[int] = []
        token: list[int] = []
        owner: list[int] = []
        for line, inputs in enumerate(batch):
            for number in rows[inputs]:
                targets = pairs[number].targets
                row.extend([line] * len(targets))
                position.extend(range(pairs[number].boundary - 1, len(inputs)))
                token.extend(targets)
                owner.extend([number] * len(targets))
        hidden = _final_hidden(model, batch)[row, position]
        for start in range(0, len(token), _HEAD_ROWS):
            part = slice(start, start + _HEAD_ROWS)
            sums.add(owner[part], *_token_scores(model.normed_logits(hidden[part]), token[part]))
    return sums.result()


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


class _Sums:
    """Token scores gathered by pair."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._nll = np.zeros(count)
        self._tokens, self._hits, self._bad, self._shared = np.zeros((4, count), dtype=np.int64)

    def add(self, owner: list[int], nll: np.ndarray, hit: np.ndarray, finite: np.ndarray, shared: np.ndarray) -> None:
        np.add.at(self._nll, owner, nll)
        for total, flags in ((self._hits, hit), (self._bad, ~finite), (self._shared, shared)):
            np.add.at(total, owner, flags.astype(np.int64))
        np.add.at(self._tokens, owner, 1)

    def result(self) -> PairScores:
        return PairScores(
            nll_mean=self._nll / self._tokens,
            nll_sum=self._nll,
            tokens=self._tokens,
            exact=self._hits == self._tokens,
            token_accuracy=self._hits / self._tokens,
            finite=(self._bad == 0) & np.isfinite(self._nll),
            tied=self._shared > 0,
        )


def _token_scores(logits: torch.Tensor, token: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    wanted = torch.tensor(token, device=logits.device)
    low, high = torch.aminmax(logits, dim=1)
    finite = torch.isfinite(low) & torch.isfinite(high)
    nll = torch.logsumexp(logits.double(), dim=1) - logits.gather(1, wanted[:, None])[:, 0].double()
    # The argmax of a row of NaN is token 0: a hit counts only where all logits are finite.
    hit = (logits.argmax(dim=1) == wanted) & finite
    shared = ((logits == high[:, None]).sum(dim=1) > 1) & finite
    return nll.cpu().numpy(), hit.cpu().numpy(), finite.cpu().numpy(), shared.cpu().numpy()


def _final_hidden(model: EditableModel, batch: Sequence[tuple[int, ...]]) -> torch.Tensor:
    ids, mask = pad_right(batch, fill=0, device=model.device)
    output = model.decoder(input_ids=ids, attention_mask=mask, use_cache=False, return_dict=True)
    hidden: torch.Tensor = output.last_hidden_state
    return hidden


def _require_room(model: EditableModel, pairs: Sequence[tuple[str, str]], encoded: Sequence[EncodedPair]) -> None:
    room = getattr(model.network.config.get_text_config(), "max_position_embeddings", None)
    if room is None:
        return
    for (prompt, target), pair in zip(pairs, encoded, strict=True):
        if len(pair.inputs) > room:
            raise InputError(
                f"a probe has {len(pair.inputs)} tokens; the model has {room} positions",
                where=f"prompt {prompt[:60]!r}, target {target!r}",
                remedy="shorten the prompt, or use a model with more positions",
            )
