"""B3 and B4: one batch by stages without and with a long history; its checkpoint written and read for scoring."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

import torch

from benchmarks.gpu.clock import Stages, peak_memory, wait_for
from benchmarks.gpu.setting import Setting
from sphere_core.checkpoints import Checkpoint, EditorState, read_installed, write_checkpoint
from sphere_core.costs import ModelShape, TextLengths, Workload, place, shape_of_network, stages, workload_of
from sphere_core.editors.closed_form import loop
from sphere_core.editors.closed_form.loop import ClosedFormEditor
from sphere_core.editors.closed_form.rules import LeastSquaresRule
from sphere_core.editors.shaping import Shaping
from sphere_core.foundation.storage import Storage
from sphere_core.locate.batch import BatchWalk, locate
from sphere_core.locate.prompts import target_ids
from sphere_core.locate.templates import Contexts
from sphere_core.methods import resolve_method
from sphere_core.models import EditableModel
from sphere_core.moments.record import SecondMoments
from sphere_core.requests import EditRequest
from sphere_core.solver import KeyHistory, Placement

__all__ = ["METHODS", "lengths_of_batch", "measure", "predicted_peak"]

METHODS = ("alphaedit+sphere", "memit_seq+sphere")
_CHUNK = 500
# Calls that are timed as a stage: owner, attribute, stage.
_STAGES: list[tuple[object, str, str]] = [
    (loop, "optimise_targets", "targets"),
    (BatchWalk, "__init__", "keys"),
    (BatchWalk, "keys", "keys"),
    (BatchWalk, "outputs", "keys"),
    (LeastSquaresRule, "solve", "solve"),
    (LeastSquaresRule, "remember", "history"),
    (Shaping, "apply", "regularizer"),
    (EditableModel, "add", "write"),
    (EditableModel, "set_weight", "write"),
]


Records = list[dict[str, object]]


def measure(setting: Setting, device: torch.device) -> tuple[Records, Records]:
    """Return two lists of records, one record per method and number of earlier edits.

    The first holds seconds of each stage of a batch and peak memory, the second the checkpoint after it.
    """
    moments = setting.moments(device)
    timed, checkpoints = Records(), Records()
    for method in METHODS:
        for history in (0, setting.history):
            model = setting.model(device)
            record, state = _batch(setting, model, device, method, moments, history)
            timed.append(record)
            checkpoints.append({"method": method, "earlier edits": history, **_checkpoint(model, state, device)})
            del model, state
    return timed, checkpoints


def _batch(
    setting: Setting, model: EditableModel, device: torch.device, name: str, moments: SecondMoments, history: int
) -> tuple[dict[str, object], EditorState]:
    method, hyperparameters = resolve_method(name), setting.hyperparameters()
    stream, contexts = setting.requests(model, setting.stream)
    placement = place(
        model, method, hyperparameters, stream, batch_size=setting.batch, contexts=contexts, moments=moments
    )
    requests = stream[: 2 * setting.batch]
    editor = method.build(hyperparameters, moments, placement)
    if not isinstance(editor, ClosedFormEditor):
        raise TypeError(f"{name} is not a closed-form editor")
    state = _earlier(editor, setting, device, history)
    # The first batch makes factors and fills the allocator.
    state = editor.edit(model, requests[: setting.batch], contexts, state)
    watched = Stages(device)
    with peak_memory(device) as peak, watched.watching(_STAGES):
        wait_for(device)
        start = time.perf_counter()
        state = editor.edit(model, requests[setting.batch :], contexts, state)
        wait_for(device)
        whole = time.perf_counter() - start
    shape = shape_of_network(model.network, model.family)
    work = workload_of(
        method,
        hyperparameters,
        dtype_bytes=model.dtype.itemsize,
        batch=setting.batch,
        edits=history + 2 * setting.batch,
        contexts=sum(len(group) for group in contexts),
        lengths=lengths_of_batch(model, requests[setting.batch :], contexts),
        on_accelerator=device.type != "cpu",
    )
    watched.seconds["rest"] = whole - sum(watched.seconds.values())
    record = {
        "method": name,
        "earlier edits": history,
        "seconds": whole,
        "seconds per edit": whole / setting.batch,
        "share of targets": watched.seconds["targets"] / whole,
        "stages, s": watched.seconds,
        "peak, GB": peak["gb"],
        "predicted peak, GB": predicted_peak(work, shape, placement) / 1e9,
        "solvers on the host": sorted(placement.on_host),
        "requests per pass": placement.requests_per_pass,
        "decompositions beside the targets": placement.reads_ahead and device.type != "cpu",
    }
    return record, state


def lengths_of_batch(model: EditableModel, requests: Sequence[EditRequest], contexts: Contexts) -> TextLengths:
    """Return the mean tokens of a batch's prompts in all their contexts and of its targets, to the nearest whole ones,
    as `lengths_of` has them for a dataset."""
    batch = locate(model, requests, contexts)
    targets = [len(target_ids(model.tokenizer, request)) for request in requests]
    return TextLengths(round(fmean(len(prompt.ids) for prompt in batch.prompts)), round(fmean(targets)), probe_rows=0)


def predicted_peak(work: Workload, shape: ModelShape, placement: Placement) -> float:
    """Return the bytes that `sphere doctor` predicts for a batch that was placed so: targets or write, on the device or
    on the host."""
    if work.on_accelerator:
        work = replace(
            work,
            host_sites=len(placement.on_host),
            requests_per_pass=placement.requests_per_pass or work.requests_per_pass,
            reads_ahead=placement.reads_ahead,
        )
    edit = [stage for stage in stages(shape, work) if stage.name in ("targets", "write")]
    return max(stage.accelerator or stage.host for stage in edit)


def _earlier(editor: ClosedFormEditor, setting: Setting, device: torch.device, count: int) -> EditorState:
    """Return a state whose history holds `count` random keys per layer."""
    state = EditorState()
    for layer, rule in editor.rules.items():
        history = KeyHistory()
        for start in range(0, count, _CHUNK):
            torch.manual_seed(start)
            keys = torch.randn(setting.intermediate, min(_CHUNK, count - start), device=device)
            prior = rule.prior if isinstance(rule, LeastSquaresRule) else None
            history = history.append(keys, prior=prior)
        state = state.with_part(f"rule/{layer}", EditorState(history.state()))
    return state


def _checkpoint(model: EditableModel, state: EditorState, device: torch.device) -> dict[str, float]:
    with TemporaryDirectory() as folder:
        storage = Storage(folder)
        checkpoint = Checkpoint("benchmark", 1, model.edited_weights(), state, (("{}",),), collapsed=False)
        wait_for(device)
        start = time.perf_counter()
        write_checkpoint(checkpoint, storage)
        written = time.perf_counter()
        model.load_weights(read_installed(storage, 1).weights)
        wait_for(device)
        read = time.perf_counter()
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    return {"GB": size / 1e9, "write, s": written - start, "read for scoring, s": read - written}
