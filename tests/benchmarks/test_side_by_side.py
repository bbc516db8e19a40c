"""Editing and scoring beside the published way, at a tiny size: both forms give the same."""

from dataclasses import replace

import torch

from benchmarks.generation import CachedPasses, generation_rows, whole_prefixes
from benchmarks.gpu.setting import SMALL
from benchmarks.side_by_side import LATE, SHAPE, edit_rows, score_row

TINY = replace(SMALL, batch=3, steps=4, scored=3)


def test_a_whole_edit_is_that_of_the_published_loop() -> None:
    edit, targets = edit_rows(TINY, alone=2, required=None)
    assert edit.difference is not None
    assert edit.difference < 1e-4
    assert min(edit.measured, targets.measured) > 0


def test_scores_of_records_are_those_of_one_record_at_a_time() -> None:
    row = score_row(TINY, required=None)
    assert row.difference is not None
    assert row.difference < 1e-5
    assert "39 probes" in row.setting


def test_generated_tokens_are_those_of_whole_prefixes() -> None:
    again, floor, one = generation_rows(replace(TINY, scored=5), tokens=6, required=None)
    assert (again.difference, floor.difference) == (0.0, 0.0)
    assert "5 rows in a batch, 6 tokens each" in again.setting
    assert min(again.measured, floor.measured, one.measured) > 0


def test_passes_with_a_cache_end_at_the_logits_of_the_whole_prefix() -> None:
    model = TINY.model(torch.device("cpu"))
    texts = ["w1 w2 w3", "w4 w5 w6 w7 w8 w9"]
    chosen = whole_prefixes(model, texts, 4)
    assert [len(ids) for ids in chosen] == [4, 4]
    found = CachedPasses(model, texts, chosen).run()
    assert found.argmax(dim=1).tolist() == [ids[-1] for ids in chosen]
    for text, ids, logits in zip(texts, chosen, found, strict=True):
        whole = torch.tensor([[*model.tokenizer(text)["input_ids"], *ids[:-1]]])
        assert torch.allclose(logits, model.network(input_ids=whole).logits[0, -1], atol=1e-5)


def test_the_shape_is_smollm2s_and_layers_are_as_deep_as_llamas() -> None:
    config = SHAPE.config()
    # Its head is the embedding; here they are two, and cost the same.
    layer = 2 * config.hidden_size * (config.hidden_size * 4 // 3) + 3 * config.hidden_size * config.intermediate_size
    assert 1.34e8 < config.num_hidden_layers * layer + config.vocab_size * config.hidden_size < 1.35e8
    assert max(SHAPE.layers) / SHAPE.depth < 0.27
    assert max(LATE) / SHAPE.depth == 0.7
