"""The seconds of a stage clock as they are stored, with the device, threads and versions that they hold for."""

import platform
from collections.abc import Mapping

import torch
import transformers

from sphere_core.foundation.code_version import code_commit, code_version
from sphere_core.models.stage_clock import OTHER, StageClock
from sphere_core.numerics.placement import device_name
from workflows.store.records import StageSeconds

__all__ = ["stage_seconds"]


def stage_seconds(clock: StageClock, whole: float, beside: Mapping[str, float] | None = None) -> StageSeconds:
    """Return the stages since the last lap of a clock, made to add up to `whole`, and start its next lap.

    What the clock did not see (on an accelerator: before its first event) is charged to `other`.
    """
    spent = {stage: round(seconds, 6) for stage, seconds in sorted(clock.lap().items())}
    named = sum(seconds for stage, seconds in spent.items() if stage != OTHER)
    spent[OTHER] = round(max(0.0, whole - named), 6)
    return StageSeconds(
        stages=spent,
        beside={stage: round(seconds, 6) for stage, seconds in sorted(beside.items())} if beside else None,
        device=device_name(clock.device),
        threads=torch.get_num_threads(),
        versions=_versions(),
    )


def _versions() -> dict[str, str]:
    commit = code_commit()
    found = {"sphere": code_version(), "python": platform.python_version()}
    found |= {"torch": str(torch.__version__), "transformers": transformers.__version__}
    return found if commit is None else found | {"commit": commit}
