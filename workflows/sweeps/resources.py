"""Threads, CPUs, GPUs and replicas of a sweep: how it is computed, not what."""

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

__all__ = ["EvaluatorResources", "Part", "Resources", "StallLimits", "WorkerResources"]

# Far beyond any machine, and far below what takes a process down.
_MOST_THREADS, _MOST_WORKERS = 1024, 100_000
_DEVICE = re.compile(r"auto|split|cpu|mps|(?:cuda|xpu|hpu|npu|mlu)(?::(?:[0-9]|1[0-5]))?|privateuseone(?::[0-9])?")


class Part(BaseModel):
    """A part of a sweep file: unknown keys and numbers that are not finite are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class WorkerResources(Part):
    """What one replica reserves from Ray, and the device of its model."""

    num_cpus: float = Field(default=1, ge=0, le=_MOST_WORKERS, description="CPUs a replica reserves")
    num_gpus: float | Literal["auto"] = Field(
        default="auto", description="GPUs a replica reserves, fractions allowed; `auto`: one where the cluster has any"
    )
    device: str = Field(
        default="auto",
        description="torch device; `auto`: the accelerator if the replica sees one; `split`: spread over all it sees",
    )
    labels: dict[str, str] = Field(
        default_factory=dict,
        description="Ray node labels that a replica requires: `value`, `!value` or `in(a,b)` by key",
    )

    @field_validator("device")
    @classmethod
    def _device_name(cls, device: str) -> str:
        if not _DEVICE.fullmatch(device):
            raise ValueError(f"'{device}' is not a device: auto, split, cpu, mps, cuda or cuda:N with N below 16")
        return device

    @field_validator("num_gpus")
    @classmethod
    def _whole_above_one(cls, gpus: float | Literal["auto"]) -> float | Literal["auto"]:
        if gpus != "auto" and (gpus < 0 or (gpus > 1 and gpus != int(gpus))):
            raise ValueError(f"{gpus:g} GPUs: give a fraction of one, or a whole number that the model is split over")
        return gpus


class EvaluatorResources(WorkerResources):
    """What one dedicated evaluator replica reserves, and how many there are."""

    replicas: int = Field(
        default=1,
        ge=0,
        le=_MOST_WORKERS,
        description="Dedicated evaluators; 0: replicas score between two trajectories",
    )


class StallLimits(Part):
    """When a worker whose process lives, but whose work does not move, is replaced."""

    times: float = Field(
        default=10.0,
        gt=0,
        le=1e7,
        description="Multiple of the longest batch that this run has seen of the same method and model, or of the "
        "longest score of the same evaluator",
    )
    at_least: float = Field(default=1800.0, ge=0, le=1e7, description="Seconds without progress, at least")
    unmeasured: float | None = Field(
        default=21600.0,
        ge=0,
        le=1e7,
        description="Seconds while this run has measured no such work yet, and while a model is loaded; `null`: never",
    )


class Resources(Part):
    """How a sweep is computed. Only `threads` changes numbers, by the order of sums."""

    threads: int = Field(
        default=1, ge=1, le=_MOST_THREADS, description="Torch threads of every replica; part of the identity"
    )
    replica: WorkerResources = Field(default_factory=WorkerResources, description="One trajectory replica")
    evaluator: EvaluatorResources = Field(default_factory=EvaluatorResources, description="One evaluator replica")
    max_replicas: int | None = Field(
        default=None,
        ge=1,
        description="Trajectory replicas at most. On a cluster this many are requested, which makes an "
        "autoscaler add nodes; default: as many as the live nodes can hold",
    )
    grace_seconds: float = Field(
        default=120.0,
        ge=0,
        le=1e7,
        description="Seconds that a stopped run waits for the batches under way, which are then published; "
        "give more than a batch takes",
    )
    stall: StallLimits | None = Field(
        default_factory=StallLimits,
        description="When a worker that makes no progress is replaced, as one whose process has died; `null`: never",
    )
