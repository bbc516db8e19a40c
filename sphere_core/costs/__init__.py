"""What a trajectory costs before it is run: memory of each stage, disk, and accelerator hours."""

from typing import TYPE_CHECKING

from sphere_core.foundation.lazy import lazy_exports

if TYPE_CHECKING:
    from sphere_core.costs.accelerators import Accelerator, accelerator, accelerator_names
    from sphere_core.costs.memory import Stage, Workload, checkpoint_bytes, moments_bytes, solver_bytes, stages
    from sphere_core.costs.placement import SolverLayout, on_accelerator, place, solver_layout
    from sphere_core.costs.shape import ModelShape, published_config, shape_of_config, shape_of_network
    from sphere_core.costs.time import Work, ahead_work, edit_work, geometry_work, hours, moments_work, probe_work
    from sphere_core.costs.tuning import tuning_checkpoint_bytes, tuning_peak, tuning_work
    from sphere_core.costs.workload import TextLengths, lengths_of, workload_of

__all__ = [
    "Accelerator",
    "ModelShape",
    "SolverLayout",
    "Stage",
    "TextLengths",
    "Work",
    "Workload",
    "accelerator",
    "accelerator_names",
    "ahead_work",
    "checkpoint_bytes",
    "edit_work",
    "geometry_work",
    "hours",
    "lengths_of",
    "moments_bytes",
    "moments_work",
    "on_accelerator",
    "place",
    "probe_work",
    "published_config",
    "shape_of_config",
    "shape_of_network",
    "solver_bytes",
    "solver_layout",
    "stages",
    "tuning_checkpoint_bytes",
    "tuning_peak",
    "tuning_work",
    "workload_of",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "memory": "Stage Workload checkpoint_bytes moments_bytes solver_bytes stages",
        "placement": "SolverLayout on_accelerator place solver_layout",
        "shape": "ModelShape published_config shape_of_config shape_of_network",
        "time": "Work ahead_work edit_work geometry_work hours moments_work probe_work",
        "accelerators": "Accelerator accelerator accelerator_names",
        "tuning": "tuning_checkpoint_bytes tuning_peak tuning_work",
        "workload": "TextLengths lengths_of workload_of",
    },
)
