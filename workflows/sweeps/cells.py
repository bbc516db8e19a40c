"""One cell of a sweep's grid: everything of one trajectory, before it is planned."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sphere_core.methods import Method
from sphere_core.plugins.found import FoundRow
from sphere_core.streams.stream import StreamSpec
from sphere_core.trajectory_spec import TrajectorySpec
from workflows.sweeps.model_inputs import ResolvedModel
from workflows.sweeps.moment_inputs import ResolvedMoments
from workflows.sweeps.spec import MethodEntry, MomentsEntry

__all__ = ["Cell"]


@dataclass(frozen=True)
class Cell:
    """One trajectory of the grid, on its way from entries to a plan.

    `source` is what its second moments are of: the sweep's, or as much of their corpus as the method names. `outside`
    are the plugins' rows behind its data set and its model, by kind.
    """

    model: ResolvedModel
    entry: MethodEntry
    method: Method
    stream: StreamSpec
    spec: TrajectorySpec
    id: str
    moments: ResolvedMoments
    source: MomentsEntry | None
    axes: dict[str, Any]
    outside: Mapping[str, FoundRow]

    @property
    def layers(self) -> tuple[int, ...]:
        """The edited layers."""
        return self.spec.hyperparameters.layers
