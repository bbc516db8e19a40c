"""The Python API: functions that return models, records and Arrow tables; commands call the same of `runs`, `results`.

    import workflows.api as sphere

    model = sphere.load_model(source="factworld")
    sweep = sphere.open_sweep(root="runs/quickstart")

Every argument is keyword-only. Hyperparameters come from presets, the other defaults of science from the models of a
sweep file. Faults of the input are InputError, raised before anything is computed or written. Importing this module
loads neither torch nor Ray; a function loads what it uses.
"""

from typing import TYPE_CHECKING

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.lazy import lazy_exports

if TYPE_CHECKING:
    from workflows.results.sweep_directory import SweepDirectory, open_sweep
    from workflows.runs.calibrate import Budget, Calibration, calibrate_preset
    from workflows.runs.export import Export, apply_delta, export_checkpoint
    from workflows.runs.loading import (
        ChosenMethod,
        LoadedModel,
        LoadedStream,
        build_moments,
        load_dataset,
        load_method,
        load_model,
        load_moments,
        load_stream,
    )
    from workflows.runs.notebook import EditedModel, edit, score, unedited
    from workflows.runs.order import KeyOrders, order_by_keys
    from workflows.runs.sweep_file import EndedRun, plan_sweep, run_sweep_file

__all__ = [
    "Budget",
    "Calibration",
    "ChosenMethod",
    "EditedModel",
    "EndedRun",
    "Export",
    "InputError",
    "KeyOrders",
    "LoadedModel",
    "LoadedStream",
    "SweepDirectory",
    "apply_delta",
    "build_moments",
    "calibrate_preset",
    "edit",
    "export_checkpoint",
    "load_dataset",
    "load_method",
    "load_model",
    "load_moments",
    "load_stream",
    "open_sweep",
    "order_by_keys",
    "plan_sweep",
    "run_sweep_file",
    "score",
    "unedited",
]

__getattr__ = lazy_exports(
    "workflows",
    {
        "results.sweep_directory": "SweepDirectory open_sweep",
        "runs.calibrate": "Budget Calibration calibrate_preset",
        "runs.export": "Export apply_delta export_checkpoint",
        "runs.loading": "ChosenMethod LoadedModel LoadedStream build_moments load_dataset load_method load_model "
        "load_moments load_stream",
        "runs.notebook": "EditedModel edit score unedited",
        "runs.order": "KeyOrders order_by_keys",
        "runs.sweep_file": "EndedRun plan_sweep run_sweep_file",
    },
)
