"""Accelerators by their data sheets. Loads no torch: help names them."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

from sphere_core.foundation.errors import unknown_name
from sphere_core.foundation.yaml_text import parse_yaml

__all__ = ["Accelerator", "accelerator", "accelerator_names"]


@dataclass(frozen=True)
class Accelerator:
    """Dense peak rates in FLOP/s, memory in bytes, by data sheet."""

    name: str
    bf16: float
    float64: float
    memory: float


def accelerator_names() -> list[str]:
    """Return the accelerators whose data sheets are known."""
    return sorted(_data_sheets())


def accelerator(name: str) -> Accelerator:
    """Return one accelerator; raises InputError with the nearest name."""
    sheets = _data_sheets()
    if name not in sheets:
        raise unknown_name("accelerator", name, sheets)
    sheet = sheets[name]
    return Accelerator(name, sheet["bf16"] * 1e12, sheet["float64"] * 1e12, sheet["memory"] * 1e9)


def _data_sheets() -> Mapping[str, Mapping[str, float]]:
    text = resources.files("sphere_core.costs").joinpath("accelerators.yaml").read_text(encoding="utf-8")
    sheets: Mapping[str, Mapping[str, float]] = parse_yaml(text)
    return sheets
