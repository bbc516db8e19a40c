"""How a corpus becomes forwards: what is counted, what is cut, and in which order everything is added up.

One text is one row; texts are never joined, and a longer one is cut at `max_tokens_per_text`. Special tokens are those
the tokenizer adds by itself, and count. Rows are padded on the right; padding is masked and never counted.

Texts come in windows of a fixed number, sorted by length inside a window and split into forwards; windows
come in groups. Sums are taken forward by forward inside a group, and group by group: where anything begins or ends
depends on the corpus alone, so neither an interruption nor the number of shards changes the order of addition.

MEMIT's released `layer_stats` counts the same tokens. It takes a fixed random sample of 100,000 Wikipedia articles,
one pass for each layer, at most three times the model's positions in a forward; here the sample is what
the corpus yields first (`workflows.moments.corpus_texts` says how a hub data set is sampled).
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from sphere_core.foundation.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["MAX_GROUPS", "Amount", "Cursor", "Packing", "Pass", "Window", "forwards", "windows"]

# Groups of a corpus at most: a shard writes one file of sums for each of its groups.
MAX_GROUPS = 16


@dataclass(frozen=True)
class Packing:
    """The fixed sizes: tokens of a text at most, padded tokens of a forward, texts of a window, and the least group, in
    tokens or windows as the amount is given."""

    max_tokens_per_text: int
    forward_tokens: int = 16384
    window_texts: int = 512
    group_tokens: int = 16384
    group_windows: int = 1

    def identity(self) -> dict[str, int]:
        """Return what fixes the order of all sums."""
        return asdict(self)


@dataclass(frozen=True)
class Amount:
    """How much of a corpus: a number of tokens, the last text cut to meet it exactly, or a number of texts."""

    tokens: int | None = None
    texts: int | None = None

    def __post_init__(self) -> None:
        if (self.tokens is None) == (self.texts is None):
            raise InputError("give either a number of tokens or a number of texts", where="second moments")

    def identity(self) -> dict[str, int]:
        """Return the number that is given."""
        return {"tokens": self.tokens} if self.tokens is not None else {"texts": self.texts or 0}

    @property
    def wish(self) -> str:
        """The amount in words."""
        return f"{self.tokens} tokens" if self.tokens is not None else f"{self.texts} texts"


@dataclass(frozen=True)
class Cursor:
    """Position of a pass in the corpus: windows, texts and tokens before this point; the group of the last window, and
    the part of the amount in which that began."""

    window: int = 0
    texts: int = 0
    tokens: int = 0
    group: int = 0
    part: int = 0

    def reaches(self, amount: Amount) -> bool:
        """Return whether the amount is met."""
        if amount.tokens is not None:
            return self.tokens >= amount.tokens
        return self.texts >= (amount.texts or 0)


@dataclass(frozen=True)
class Pass:
    """One pass over a corpus: which layers, how texts are packed, how much of the corpus.

    `gradients`: each forward is followed by a backward, and the outputs' gradients are summed too.
    """

    layers: tuple[int, ...]
    packing: Packing
    amount: Amount
    gradients: bool = False

    def identity(self) -> dict[str, Any]:
        """Return what fixes the sums, the model and the corpus aside."""
        own = {"gradients": True} if self.gradients else {}
        return own | {"layers": list(self.layers), "packing": self.packing.identity(), "amount": self.amount.identity()}


@dataclass(frozen=True)
class Window:
    """Rows of token ids of consecutive texts, and the position of the pass after them."""

    rows: list[list[int]]
    after: Cursor


def windows(
    tokenizer: "PreTrainedTokenizerBase", texts: Iterable[str], packing: Packing, amount: Amount, start: Cursor
) -> Iterator[Window]:
    """Yield the windows of a corpus from `start` on until the amount is reached.

    Raises InputError if the corpus ends before that.
    """
    remaining = islice(texts, start.texts, amount.texts)
    done = start
    while not done.reaches(amount):
        batch = list(islice(remaining, packing.window_texts))
        if not batch:
            raise InputError(
                f"the corpus ends after {done.texts} texts with {done.tokens} tokens; {amount.wish} are requested",
                where="second moments",
                remedy="request fewer, or give more text",
            )
        rows = tokenizer(batch, truncation=True, max_length=packing.max_tokens_per_text)["input_ids"]
        kept = _cut(rows, None if amount.tokens is None else amount.tokens - done.tokens)
        part = _part(done, packing, amount)
        # Parts in which no window begins leave no gap between groups.
        group = done.group + (part != done.part)
        tokens = done.tokens + sum(len(row) for row in kept)
        after = Cursor(done.window + 1, done.texts + len(batch), tokens, group, part)
        yield Window(kept, after)
        done = after


def forwards(rows: Iterable[list[int]], packing: Packing) -> Iterator[list[list[int]]]:
    """Yield rows of similar length, each forward at most `forward_tokens` with its padding (one row at least)."""
    batch: list[list[int]] = []
    for row in sorted((row for row in rows if row), key=len):
        if batch and (len(batch) + 1) * len(row) > packing.forward_tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _cut(rows: list[list[int]], left: int | None) -> list[list[int]]:
    """Return the rows up to `left` tokens, the last of them cut."""
    if left is None:
        return rows
    kept = []
    for row in rows:
        if left <= 0:
            break
        kept.append(row[:left])
        left -= len(row)
    return kept


def _part(start: Cursor, packing: Packing, amount: Amount) -> int:
    """Return the part of the amount in which a window begins: equal parts, none smaller than the least group."""
    if amount.tokens is not None:
        return start.tokens // max(packing.group_tokens, -(-amount.tokens // MAX_GROUPS))
    whole = -(-(amount.texts or 0) // packing.window_texts)
    return start.window // max(packing.group_windows, -(-whole // MAX_GROUPS))
