"""B2: targets over the number of span groups and of requests in a pass: seconds, kernels, TFLOP/s, and the numbers."""

from dataclasses import replace
from unittest.mock import patch

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, supported_activities

from benchmarks.gpu.clock import median_seconds, peak_memory
from benchmarks.gpu.setting import Setting
from benchmarks.timing import relative_difference
from sphere_core.locate.batch import LocatedBatch, locate
from sphere_core.locate.prompts import target_ids
from sphere_core.locate.targets import TargetSettings, optimise_targets
from sphere_core.models import EditableModel
from sphere_core.models.suffix import TailLayout

__all__ = ["measure", "target_flops"]

# Span groups, a third of the batch in a pass or all of it (None), queries folded, tokens packed; the last form is what
# an accelerator is given by default.
_FORMS = (
    (4, 3, False, False),
    (1, 3, False, False),
    (1, None, False, False),
    (1, None, True, False),
    (1, None, True, True),
)
_COMPARED = 4
# Largest relative difference of a target from the one found in float32.
_TOLERANCE = 1e-2


def measure(setting: Setting, device: torch.device, ceiling: float | None) -> list[dict[str, object]]:
    """Return a record per (groups, requests per pass); `ceiling` is the measured TFLOP/s of the model's dtype."""
    model = setting.model(device)
    requests, contexts = setting.requests(model, setting.batch)
    batch = locate(model, requests, contexts)
    settings = TargetSettings.of(setting.hyperparameters())
    work = target_flops(model, batch, settings)
    narrow = max(1, setting.batch // 3)
    records = []
    for groups, per_pass, folds, packs in _FORMS:
        chosen = replace(settings, requests_per_pass=setting.batch if per_pass is None else narrow)
        record = _timed(setting, model, batch, chosen, TailLayout(groups, folds, packs), device)
        rate = work / float(str(record["seconds"])) / 1e12
        records.append({**record, "TFLOP/s": rate, "share of the ceiling": rate / ceiling if ceiling else None})
    records.append(_against_float32(setting, model, device, settings))
    return records


def _timed(
    setting: Setting,
    model: EditableModel,
    batch: LocatedBatch,
    settings: TargetSettings,
    layout: TailLayout,
    device: torch.device,
) -> dict[str, object]:
    with patch.object(TailLayout, "of", lambda _: layout):
        with peak_memory(device) as peak:
            seconds = median_seconds(lambda: optimise_targets(model, batch, settings), device, repeats=setting.repeats)
        kernels = _kernels(model, batch, replace(settings, v_num_grad_steps=2), device)
    return {
        "groups": layout.groups,
        "requests per pass": settings.requests_per_pass,
        "queries folded": layout.folds,
        "tokens packed": layout.packs,
        "seconds": seconds,
        "seconds per edit": seconds / setting.batch,
        "kernels of two forwards": kernels,
        "peak, GB": peak["gb"],
    }


def target_flops(model: EditableModel, batch: LocatedBatch, settings: TargetSettings) -> float:
    """Return the work of a batch's targets: forwards and backwards of the later layers on the spans, and of the head.

    2 FLOP per parameter and token each way; the backward pass goes to activations only, and the last forward has none.
    """
    later = sum(p.numel() for layer in model.layers[settings.layer + 1 :] for p in layer.parameters())
    head = model.network.get_output_embeddings().weight.numel()
    spans, scored = 0, 0
    for index, request in enumerate(batch.requests):
        target = len(target_ids(model.tokenizer, request))
        prompts = batch.prompts[index * batch.context_count : (index + 1) * batch.context_count]
        spans += sum(len(prompt.ids) - prompt.subject_last + target - 1 for prompt in prompts) + 3
        scored += len(prompts) * target + 1
    passes = 2 * settings.v_num_grad_steps - 1
    return 2.0 * passes * (spans * later + scored * head)


def _against_float32(
    setting: Setting, model: EditableModel, device: torch.device, settings: TargetSettings
) -> dict[str, object]:
    """Return the largest relative difference of a few targets from those of the same weights in float32."""
    requests, contexts = setting.requests(model, _COMPARED)
    batch = locate(model, requests, contexts)
    found = optimise_targets(model, batch, settings).values
    torch.nn.Module.to(model.network, torch.float32)
    exact = optimise_targets(model, batch, settings).values
    worst = max(relative_difference(found[:, index], exact[:, index]) for index in range(_COMPARED))
    return {"difference from float32": worst, "at most": _TOLERANCE, "met": worst <= _TOLERANCE}


def _kernels(model: EditableModel, batch: LocatedBatch, settings: TargetSettings, device: torch.device) -> int:
    known = supported_activities() - {ProfilerActivity.CPU}
    activity = ProfilerActivity.CPU if device.type == "cpu" or not known else ProfilerActivity.CUDA
    with profile(activities=[activity]) as found:
        optimise_targets(model, batch, settings)
    # The launches that an accelerator's profile lists as well are the host's.
    on_host = activity is ProfilerActivity.CPU
    return sum(on_host or event.device_type is not DeviceType.CPU for event in found.events() or [])
