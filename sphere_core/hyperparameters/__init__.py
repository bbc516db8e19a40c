"""Hyperparameters of a method: validated, cited in presets, and read from published files as they are."""

from sphere_core.hyperparameters.build import build_hyperparameters
from sphere_core.hyperparameters.fields import Hyperparameters
from sphere_core.hyperparameters.owners import fields_of
from sphere_core.hyperparameters.presets import (
    ReadPreset,
    held_out_facts,
    preset,
    preset_misfit,
    preset_names,
    preset_sections,
    preset_sources,
)
from sphere_core.hyperparameters.released import ReleasedFile, read_hyperparameters

__all__ = [
    "Hyperparameters",
    "ReadPreset",
    "ReleasedFile",
    "build_hyperparameters",
    "fields_of",
    "held_out_facts",
    "preset",
    "preset_misfit",
    "preset_names",
    "preset_sections",
    "preset_sources",
    "read_hyperparameters",
]
