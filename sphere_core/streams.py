"""Streams: an ordered list of edit requests, by data set, order and length."""

import random
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from sphere_core.datasets.counterfact import counterfact_requests, load_counterfact
from sphere_core.datasets.factworld import edit_records, shipped_world
from sphere_core.datasets.zsre import load_zsre
from sphere_core.errors import InputError
from sphere_core.requests import EditRequest

__all__ = ["StreamSpec", "load_stream"]


class StreamSpec(BaseModel):
    """Which requests are edited, and in what order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: Literal["factworld", "counterfact", "zsre"] = Field(description="Schema of the data set")
    path: str | None = Field(default=None, description="JSON file; the fact world brings its own")
    edits: int = Field(ge=1, description="Requests taken, after ordering")
    order: Literal["canonical", "shuffled"] = Field(
        default="canonical", description="File order, or a shuffle of the whole set by the trajectory's seed"
    )

    @property
    def name(self) -> str:
        """How tables call the data set: its schema, with the file's name where one is given."""
        return self.dataset if self.path is None else f"{self.dataset}:{Path(self.path).stem}"


def load_stream(spec: StreamSpec, seed: int) -> tuple[EditRequest, ...]:
    """Return the requests of a stream in edit order; raises InputError where the file is missing, wrong or too
    short."""
    requests = _read(spec)
    if len(requests) < spec.edits:
        raise InputError(
            f"the stream asks for {spec.edits} edits, the data set has {len(requests)}",
            where=spec.path or spec.dataset,
            remedy=f"set edits to at most {len(requests)}",
        )
    if spec.order == "shuffled":
        random.Random(seed).shuffle(requests)
    return tuple(requests[: spec.edits])


def _read(spec: StreamSpec) -> list[EditRequest]:
    if spec.dataset == "factworld":
        if spec.path is not None:
            raise InputError("the fact world takes no path", where="stream", remedy="leave 'path' out")
        return counterfact_requests(edit_records(shipped_world()), source="fact world")
    if spec.path is None:
        raise InputError(f"data set '{spec.dataset}' needs a path", where="stream", remedy="give 'path'")
    load = load_counterfact if spec.dataset == "counterfact" else load_zsre
    return load(Path(spec.path))
