"""B6: a plain implementation of the published way on the same card: one request at a time through the whole model, a
forward per layer for keys and residuals, and dense fp32 solves and projections."""

import time

import torch

from benchmarks.gpu.clock import wait_for
from benchmarks.gpu.setting import Setting
from benchmarks.keys import whole_forwards
from benchmarks.projections import dense_sphere
from benchmarks.steps import alphaedit_dense
from benchmarks.targets import one_target
from sphere_core.locate.batch import locate
from sphere_core.locate.targets import TargetSettings

__all__ = ["measure"]

_REQUESTS = 4


def measure(setting: Setting, device: torch.device) -> list[dict[str, object]]:
    """Return seconds of an edit in fp32 and in the model's dtype, with TF32 off and on."""
    records = []
    for dtype in dict.fromkeys((torch.float32, setting.dtype)):
        for tf32 in (False, True):
            torch.set_float32_matmul_precision("high" if tf32 else "highest")
            records.append(_edit(setting, device, dtype, tf32))
    torch.set_float32_matmul_precision("highest")
    return records


def _edit(setting: Setting, device: torch.device, dtype: torch.dtype, tf32: bool) -> dict[str, object]:
    model = setting.model(device, dtype)
    requests, contexts = setting.requests(model, _REQUESTS)
    batch, sites = locate(model, requests, contexts), model.open_sites(setting.layers)
    settings = TargetSettings.of(setting.hyperparameters())
    one_target(model, batch, 0, settings)
    wait_for(device)
    start = time.perf_counter()
    for index in range(_REQUESTS):
        one_target(model, batch, index, settings)
    wait_for(device)
    targets = (time.perf_counter() - start) / _REQUESTS
    start = time.perf_counter()
    keys, _ = whole_forwards(model, batch, sites, [model.weight(site) for site in sites])
    wait_for(device)
    walked = time.perf_counter() - start
    projector = torch.eye(setting.intermediate, device=device)
    cache = torch.zeros_like(projector)
    start = time.perf_counter()
    solving = projecting = 0.0
    for site, columns in zip(sites, keys, strict=True):
        residuals = torch.randn(site.d_out, columns.shape[1], device=device)
        change, _ = alphaedit_dense(projector, cache, columns.float(), residuals)
        wait_for(device)
        middle = time.perf_counter()
        dense_sphere(model.weight(site), change)
        wait_for(device)
        solving, projecting = solving + middle - start, projecting + time.perf_counter() - middle
        start = time.perf_counter()
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "tf32": tf32,
        "targets, s per edit": targets,
        "keys and residuals, s per batch": walked,
        "solve, s per batch": solving,
        "SPHERE, s per batch": projecting,
        f"seconds per edit, batch of {setting.batch}": targets + (walked + solving + projecting) / setting.batch,
    }
