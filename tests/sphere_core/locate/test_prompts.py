"""Token ids of prompts and targets, for tokenizers that open, close or mark the start of a text."""

import pytest
from tiny_models import TEXTS, requests, tokenizer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from evaluators.edit_quality.encoding import Pair, PairEncoder
from sphere_core.foundation.errors import InputError
from sphere_core.locate.prompts import encode_prompt, target_ids, text_ids
from sphere_core.requests import EditRequest


def closing_tokenizer() -> PreTrainedTokenizerFast:
    words = tokenizer(adds_bos=False)
    core = Tokenizer.from_str(words.backend_tokenizer.to_str())
    core.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 0), ("<eos>", 1)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<bos>", eos_token="<eos>", pad_token="<eos>")


def marking_tokenizer() -> PreTrainedTokenizerFast:
    """As Llama 2 and Mistral do: spaces become a mark, and a mark is put before the text."""
    core = Tokenizer(models.BPE(unk_token="<unk>"))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.pre_tokenizer = pre_tokenizers.Split("▁", behavior="merged_with_next")
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=["<unk>", "<bos>", "<eos>"])
    core.train_from_iterator(TEXTS * 4, trainer)
    core.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<bos>", eos_token="<eos>", unk_token="<unk>")


KINDS = {
    "plain": lambda: tokenizer(adds_bos=False),
    "opening": lambda: tokenizer(adds_bos=True),
    "closing": closing_tokenizer,
    "marking": marking_tokenizer,
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_edited_is_what_is_scored(kind: str) -> None:
    words = KINDS[kind]()
    for request in requests():
        edited = (*text_ids(words, request.question), *target_ids(words, request))
        (scored,) = PairEncoder(words).encode([Pair(request.question, request.target_new)])
        assert edited == scored.ids
        assert target_ids(words, request) == scored.targets


@pytest.mark.parametrize("kind", KINDS)
def test_the_subject_s_last_token_covers_its_last_character(kind: str) -> None:
    words = KINDS[kind]()
    for request in requests():
        found = encode_prompt(words, request.prompt, request.subject)
        encoded = words(request.question, return_offsets_mapping=True)
        begin, end = encoded["offset_mapping"][found.subject_last]
        last = request.prompt.index("{}") + len(request.subject) - 1
        assert begin <= last < end
        assert found.ids == tuple(encoded["input_ids"][: len(found.ids)])
        assert words.eos_token_id not in found.ids


def test_a_prompt_without_place_for_the_subject_says_what_to_do() -> None:
    with pytest.raises(InputError, match="exactly once") as raised:
        EditRequest("7", "The home of Mira Solen is", "Mira Solen", "Quint", None, ())
    assert "replace it by '{}'" in str(raised.value)
    with pytest.raises(InputError, match="exactly once") as raised:
        EditRequest("7", "The home of nobody is", "Mira Solen", "Quint", None, ())
    assert "does not occur" in str(raised.value)


def test_without_the_space_a_target_is_encoded_by_itself() -> None:
    """What NSE's release optimises: the ids of the bare text, which are not those that are scored."""
    words = tokenizer(adds_bos=True)
    for request in requests():
        bare = target_ids(words, request, space=False)
        assert words.decode(bare) == request.target_new
        assert bare[0] != words.bos_token_id
        assert bare != target_ids(words, request)
