"""Files of neurons as code from elsewhere writes them: random units for every tiny model, and trained ones."""

import atexit
import functools
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from tiny_models import requests

__all__ = ["CASES", "PROMPTS", "neuron_values", "units", "write_units"]

CASES = [request.case_id for request in requests()]
PROMPTS = [request.question for request in requests()]


def units(count: int, *, width: int = 32, gated: bool = True, scale: float = 1.0) -> dict[str, torch.Tensor]:
    """Return random tensors of a file for models of a width, that of the tiny ones if it is left out."""
    generator = torch.Generator().manual_seed(5)
    names = ("keys", "values", *(("gates",) if gated else ()))
    drawn = {name: torch.randn(count, width, generator=generator) * scale for name in names}
    return {**drawn, "biases": torch.randn(count, generator=generator)}


def write_units(path: Path, tensors: Mapping[str, torch.Tensor], cases: Sequence[str], **metadata: str) -> Path:
    """Write a file: layer 1, SiLU and every token unless the metadata say otherwise."""
    given = {"format": "1", "layer": "1", "activation": "silu", "scope": "tokens", "cases": json.dumps([*cases])}
    save_file(dict(tensors), path, metadata={**given, **metadata})
    return path


@functools.lru_cache(maxsize=1)
def neuron_values() -> dict[str, str]:
    """Return the hyperparameters that name a file with a unit for each of the tiny models' requests."""
    root = Path(tempfile.mkdtemp(prefix="neurons-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return {"neurons_file": str(write_units(root / "neurons.safetensors", units(len(CASES)), CASES))}
