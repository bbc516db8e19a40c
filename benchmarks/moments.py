"""Second moments of five sites: one pass that stops at the last of them, against one pass per site as published."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import GPT2Config

from benchmarks.models import random_gpt2
from benchmarks.rows import Row, comparison
from benchmarks.timing import interleaved, relative_difference
from sphere_core.models import EditableModel
from sphere_core.moments.build import build_second_moments
from sphere_core.moments.packing import Amount, Packing, Pass

__all__ = ["measure", "moment_rows"]

LAYERS = (4, 5, 6, 7, 8)
TOLERANCE = 1e-12


@contextmanager
def counted(model: EditableModel) -> Iterator[dict[str, int]]:
    """Count the tokens that enter the model, and tokens times layers that begin, padding included."""
    seen = {"tokens": 0, "layer tokens": 0}

    def entering(_: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        seen["layer tokens"] += args[0].shape[0] * args[0].shape[1]

    def first(_: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        seen["tokens"] += args[0].shape[0] * args[0].shape[1]

    handles = [layer.register_forward_pre_hook(entering) for layer in model.layers]
    handles.append(model.layers[0].register_forward_pre_hook(first))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def moment_rows(model: EditableModel, layers: tuple[int, ...], *, tokens: int, repeats: int) -> list[Row]:
    """Return the rows on one model: tokens forwarded, layers times tokens, and seconds.

    Both forms stop at the last requested site, as the released `layer_stats` does.
    """
    texts = [" ".join(f"w{(7 * row + 3 * word) % 90}" for word in range(20 + row % 40)) for row in range(tokens // 20)]

    def passes(of: tuple[int, ...]) -> dict[int, torch.Tensor]:
        work = Pass(of, Packing(1024, forward_tokens=2048), Amount(tokens=tokens))
        return dict(build_second_moments(model, work, texts, provenance={}).by_layer)

    def each_site() -> dict[int, torch.Tensor]:
        return {layer: passes((layer,))[layer] for layer in layers}

    with counted(model) as apart:
        each_site()
    with counted(model) as together:
        passes(layers)
    timed = interleaved(each_site, lambda: passes(layers), repeats=repeats)
    worst = max(relative_difference(timed.ours[layer], timed.plain[layer]) for layer in layers)
    setting = (
        f"{len(layers)} sites (layers {layers[0]}-{layers[-1]} of {len(model.layers)}), {tokens} tokens of text; fp32"
    )
    ratios = {name: apart[name] / together[name] for name in apart}
    return [
        Row("second moments: tokens forwarded", setting, ratios["tokens"], "x", 4, None, None, worst, TOLERANCE),
        Row("second moments: layers x tokens", "as above", ratios["layer tokens"], "x"),
        comparison(
            "second moments: time",
            "as above",
            timed.seconds,
            wall=timed.wall,
            required=None,
            difference=worst,
            tolerance=TOLERANCE,
        ),
    ]


def measure(threads: int) -> list[Row]:
    """Return the rows on a GPT-2 of 124 M."""
    return moment_rows(random_gpt2(GPT2Config()), LAYERS, tokens=1024, repeats=3)
