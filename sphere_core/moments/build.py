"""Build second moments: every forward serves all sites and stops at the last of them, unless gradients are wanted."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.fingerprint import fingerprint
from sphere_core.locate.prompts import opening_tokens, pad_right
from sphere_core.models.activations import capture_inputs
from sphere_core.models.editable import EditableModel
from sphere_core.models.experts import routings
from sphere_core.models.sites import Site
from sphere_core.moments.gradients import inputs_and_gradients
from sphere_core.moments.packing import Cursor, Pass, forwards, windows
from sphere_core.moments.record import SecondMoments
from sphere_core.moments.sums import Kept, MomentSums, Running, gradients_name, keys_name, routed_name
from sphere_core.numerics.placement import free_memory

__all__ = ["build_second_moments", "finished_moments", "run_pass", "tokenizer_digest"]

# Sums stay on an accelerator that could hold this many of them in addition to what it holds already.
_SITES_ROOM = 12


def build_second_moments(
    model: EditableModel,
    work: Pass,
    texts: Iterable[str],
    *,
    provenance: Mapping[str, Any],
    kept: Kept | None = None,
    on_progress: Callable[[Cursor], None] = lambda _: None,
) -> SecondMoments:
    """Sum k k^T, and g g^T where the pass has gradients, at all sites over a corpus and divide by the number of tokens.

    All tokens except padding count, special tokens included, as in MEMIT's released statistics (arXiv 2210.07229).
    Products are fp32 inside one forward (fp64 for an fp64 network), sums over forwards float64. With `kept`, a pass
    that was killed resumes from the last saved sums and gives equal bits. Raises InputError for a corpus that is empty
    or too short.
    """
    running = run_pass(model, work, texts, kept=kept or Kept(), owns=lambda _: True, on_progress=on_progress)
    return finished_moments(running.finished, model, work, provenance)


def run_pass(
    model: EditableModel,
    work: Pass,
    texts: Iterable[str],
    *,
    kept: Kept,
    owns: Callable[[int], bool],
    on_progress: Callable[[Cursor], None],
) -> Running:
    """Go through a corpus and sum the groups that `owns` says are ours; return the sums at its end.

    `on_progress` receives the position after every forward, inside a window as well, and after every window.
    """
    sites = model.open_sites(work.layers)
    running = kept.load() or Running.start({name: shape for name, _, shape in _sums(sites, work)})
    running.place({name: _accumulates_on(model, site) for name, site, _ in _sums(sites, work)})
    for window in windows(model.tokenizer, texts, work.packing, work.amount, running.cursor):
        group = window.after.group
        if group != running.cursor.group:
            kept.close_group(running)
        if owns(group):
            summed = replace(window.after, texts=running.cursor.texts, tokens=running.cursor.tokens)
            for rows in forwards(window.rows, work.packing):
                _add_forward(model, sites, rows, running.current, gradients=work.gradients)
                count, tokens = len(rows), sum(map(len, rows))
                summed = replace(summed, texts=summed.texts + count, tokens=summed.tokens + tokens)
                on_progress(summed)
        running.cursor = window.after
        kept.keep(running)
        on_progress(window.after)
    kept.close_group(running)
    return running


def finished_moments(
    sums: MomentSums, model: EditableModel, work: Pass, provenance: Mapping[str, Any]
) -> SecondMoments:
    """Divide sums by their number of tokens and record their provenance; the sums are consumed.

    `provenance` takes precedence over the model's own: a skeleton has no dtype.
    """
    if not sums.count:
        raise InputError("the corpus holds no text", where="second moments", remedy="give at least one text")
    made_of = {
        "model_digest": model.base_digest,
        "tokenizer_digest": tokenizer_digest(model.tokenizer),
        "dtype": str(model.dtype).removeprefix("torch."),
        "sites": {str(site.layer): site.name for site in model.open_sites(work.layers)},
        "tokens": sums.count,
        "packing": work.packing.identity(),
        "opens_with": opening_tokens(model.tokenizer),
    }
    routed = {layer: sums.by_name.pop(name) for layer in work.layers if (name := routed_name(layer)) in sums.by_name}
    # An expert that no token reached keeps a sum of zero.
    counts = {keys_name(layer): tokens.clamp_min(1)[:, None, None] for layer, tokens in routed.items()}
    means = {name: total.div_(counts.get(name, sums.count)).cpu() for name, total in sums.by_name.items()}
    by_layer = {layer: means[keys_name(layer)] for layer in work.layers}
    gradients = {layer: means[gradients_name(layer)] for layer in work.layers} if work.gradients else {}
    return SecondMoments(by_layer, sums.count, {**made_of, **provenance}, gradients=gradients, routed=routed)


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the digest of everything that turns a text into ids: the tokenizer's own serialisation."""
    return fingerprint(tokenizer.backend_tokenizer.to_str())


def _accumulates_on(model: EditableModel, site: Site) -> torch.device:
    """Return the device of a site's sums: that of its weight if memory is ample, else the host."""
    host, device = torch.device("cpu"), model.network.get_parameter(site.name).device
    if device == host:
        return host
    square = max(site.d_out, site.d_in // max(1, site.experts)) ** 2 * 8 * max(1, site.experts)
    return device if square * _SITES_ROOM < free_memory(device) else host


def _sums(sites: Sequence[Site], work: Pass) -> Iterator[tuple[str, Site, tuple[int, ...]]]:
    """Yield the name of every sum of a pass, with its site and its shape."""
    for site in sites:
        width = site.d_in // max(1, site.experts)
        yield keys_name(site.layer), site, (*((site.experts,) if site.experts else ()), width, width)
        if site.experts:
            yield routed_name(site.layer), site, (site.experts,)
        if work.gradients:
            yield gradients_name(site.layer), site, (site.d_out, site.d_out)


def _add_forward(
    model: EditableModel, sites: Sequence[Site], rows: Sequence[Sequence[int]], sums: MomentSums, *, gradients: bool
) -> None:
    ids, mask = pad_right(rows, fill=0, device=model.device)
    if gradients:
        for site, (inputs, slopes) in inputs_and_gradients(model, sites, ids, mask).items():
            sums.add_rows(keys_name(site.layer), inputs)
            sums.add_rows(gradients_name(site.layer), slopes)
    elif sites[0].experts:
        held = [model.network.get_submodule(site.module_path) for site in sites]
        with torch.no_grad():
            found = routings(held, lambda: model.decoder(input_ids=ids, attention_mask=mask, use_cache=False))
        for site, module, routing in zip(sites, held, found, strict=True):
            sums.add_routing(site.layer, module, routing.of(mask.flatten().bool()))
    else:
        modules = {keys_name(site.layer): model.network.get_submodule(site.module_path) for site in sites}
        with torch.no_grad():
            seen = capture_inputs(modules, lambda: model.decoder(input_ids=ids, attention_mask=mask, use_cache=False))
        for name, values in seen.items():
            sums.add_rows(name, values[mask.to(values.device).bool()])
    sums.count += sum(len(row) for row in rows)
