"""Accelerators by their data sheets, or as measured. Loads no torch: help names them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from sphere_core.foundation.errors import InputError, unknown_name
from sphere_core.foundation.yaml_text import parse_yaml

__all__ = ["Accelerator", "accelerator", "accelerator_names"]

_OF_MEASURE = "a '.json' that 'sphere doctor --measure --out FILE' wrote"


@dataclass(frozen=True)
class Accelerator:
    """Rates in FLOP/s, memory in bytes, and the shares of these rates that work reaches.

    By data sheet rates are dense peaks, and shares are assumed: 0.3 in passes through a model and in products and
    solves, 0.01 in symmetric eigendecompositions, about a second for n = 4096 on an H100. None is validated on a card.
    """

    name: str
    bf16: float
    float64: float
    memory: float
    model_share: float = 0.3
    solver_share: float = 0.3
    eigen_share: float = 0.01
    source: str = "data sheet; shares of its peak are assumed, and validated on no card"


def accelerator_names() -> list[str]:
    """Return the accelerators whose data sheets are known."""
    return sorted(_data_sheets())


def accelerator(name: str, *, where: str | None = None) -> Accelerator:
    """Return one accelerator, by name or from a file that `sphere doctor --measure` wrote; `where` says who gave it.

    Raises InputError with the nearest name, or for a file that is not there or is not such a record.
    """
    if name.endswith(".json"):
        return _measured(Path(name))
    sheets = _data_sheets()
    if name not in sheets:
        unknown = unknown_name("accelerator", name, sheets, where=where)
        raise unknown.replaced(remedy=f"{unknown.remedy}, or {_OF_MEASURE}")
    sheet = sheets[name]
    return Accelerator(name, sheet["bf16"] * 1e12, sheet["float64"] * 1e12, sheet["memory"] * 1e9)


def _measured(path: Path) -> Accelerator:
    remedy = f"give {_OF_MEASURE}"
    try:
        record = json.loads(path.read_bytes())
        found = Accelerator(**record)
    except FileNotFoundError as error:
        raise InputError("no such file", where=str(path), remedy=remedy) from error
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(path), remedy=remedy) from error
    except (ValueError, TypeError) as error:
        raise InputError(f"not the rates of a device: {error}", where=str(path), remedy=remedy) from error
    numbers = [value for name, value in record.items() if name not in ("name", "source")]
    if not all(isinstance(value, float | int) and value > 0 for value in numbers):
        raise InputError("rates of a device must be positive numbers", where=str(path), remedy=remedy)
    return found


def _data_sheets() -> Mapping[str, Mapping[str, float]]:
    text = resources.files("sphere_core.costs").joinpath("accelerators.yaml").read_text(encoding="utf-8")
    sheets: Mapping[str, Mapping[str, float]] = parse_yaml(text)
    return sheets
