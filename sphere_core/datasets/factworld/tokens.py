"""The fact world's tokenizer, and sentences packed into rows of tokens."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from sphere_core.datasets.factworld.corpus import Sentence

__all__ = ["Batch", "pack_batches", "train_tokenizer"]

BOS, EOS, PAD = "<bos>", "<eos>", "<pad>"


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer that puts <bos> before every text.

    A space is put before the first word, so that a subject has the same tokens at the start of a
    prompt as in the middle of one.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[BOS, EOS, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    bos_id = tokenizer.token_to_id(BOS)
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=True, add_prefix_space=True),
            processors.TemplateProcessing(single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, bos_id)]),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        add_prefix_space=True,
        padding_side="right",
        clean_up_tokenization_spaces=False,
    )


@dataclass(frozen=True)
class Batch:
    """Rows of tokens `ids` and the loss weight of each as a target, `weights`; both `[rows, row_tokens]`."""

    ids: torch.Tensor
    weights: torch.Tensor


def pack_batches(
    tokenizer: PreTrainedTokenizerBase,
    sentences: Iterator[Sentence],
    *,
    rows: int,
    row_tokens: int,
    answer_weight: float,
    other_weight: float,
) -> Iterator[Batch]:
    """Pack whole sentences after <bos> into rows, and rows into batches, without end.

    The sentence that does not fit begins the next row; what is left of a row is padding of weight 0.
    A longer sentence than a row is cut.
    """
    bos, pad = tokenizer.bos_token_id, tokenizer.pad_token_id
    encoded = _encode(tokenizer, sentences, answer_weight, other_weight)
    pending: list[tuple[int, float]] = []
    while True:
        ids = torch.full((rows, row_tokens), pad)
        weights = torch.zeros(rows, row_tokens)
        for row in range(rows):
            content: list[tuple[int, float]] = [(bos, 0.0)]
            while len(content) + len(pending) <= row_tokens:
                content += pending
                pending = next(encoded)[: row_tokens - 1]
            ids[row, : len(content)] = torch.tensor([token for token, _ in content])
            weights[row, : len(content)] = torch.tensor([weight for _, weight in content])
        yield Batch(ids, weights)


def _encode(
    tokenizer: PreTrainedTokenizerBase,
    sentences: Iterator[Sentence],
    answer_weight: float,
    other_weight: float,
    chunk: int = 512,
) -> Iterator[list[tuple[int, float]]]:
    while block := list(itertools.islice(sentences, chunk)):
        encodings = tokenizer(
            [sentence.text for sentence in block], add_special_tokens=False, return_offsets_mapping=True
        )
        for sentence, ids, offsets in zip(block, encodings["input_ids"], encodings["offset_mapping"], strict=True):
            start, stop = len(sentence.prompt) + 1, len(sentence.prompt) + 1 + len(sentence.answer)
            weights = [answer_weight if start <= begin < stop else other_weight for begin, _ in offsets]
            yield list(zip(ids, weights, strict=True))
