"""The parts of the benchmark for a card, measured one after the other into one JSON file with the card's name.

A run adds its parts to the file, so that several calls of limited time make one. Without an accelerator it runs the
small setting on the CPU. No network, no Ray, no harness.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.gpu import batches, ceilings, published, scored, smoke, target_passes
from benchmarks.gpu.report import markdown
from benchmarks.gpu.setting import FULL, SMALL, Setting
from sphere_core.numerics.placement import device_name, total_memory

__all__ = ["PARTS", "OtherResultsError", "main", "measure_parts"]

_ABOUT = "Measure one accelerator in parts and print Markdown; without one, the small setting on the CPU."


class OtherResultsError(ValueError):
    """A results file is of another device, version or setting than this process measures."""


Part = Callable[[Setting, torch.device, dict[str, Any]], Any]


def _targets(setting: Setting, device: torch.device, known: dict[str, Any]) -> Any:
    ceiling = known.get("B0", {}).get("product, model's dtype, TFLOP/s")
    return target_passes.measure(setting, device, ceiling)


# B4 is part of B3; B7 is B2 and B3 again after a change.
PARTS: dict[str, Part] = {
    "B0": lambda setting, device, _: ceilings.measure(setting, device),
    "B1": lambda setting, device, _: smoke.measure(setting, device),
    "B2": _targets,
    "B3": lambda setting, device, _: batches.measure(setting, device),
    "B5": lambda setting, device, _: scored.measure(setting, device, setting.moments(device)),
    "B6": lambda setting, device, _: published.measure(setting, device),
}


def measure_parts(only: list[str], setting: Setting, device: torch.device, path: Path) -> dict[str, Any]:
    """Measure parts one after the other, each written to the file as soon as it is there; return all of the file.

    Raises OtherResultsError, before anything is measured, for a file of another device, version or setting.
    """
    known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    about = {
        "device": f"{device_name(device)} ({total_memory(device) / 1e9:.0f} GB)",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "setting": "full" if setting is FULL else "small",
    }
    if known and any(known.get(key) != value for key, value in about.items()):
        raise OtherResultsError(f"{path} is of another device, version or setting: give another file")
    known |= about
    path.parent.mkdir(parents=True, exist_ok=True)
    for name in only:
        known[name] = PARTS[name](setting, device, known)
        path.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    return known


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the accelerator of this process and print what was found as Markdown; `--help` lists the options.

    Exits with 2 on an unknown part, and on a results file of another device, version or setting.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=_ABOUT)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="JSON file; parts are added to one there is")
    parser.add_argument("--small", action="store_true", help="the small setting, also on an accelerator")
    given = parser.parse_args(arguments)
    chosen = given.only.split(",")
    unknown = sorted(set(chosen) - set(PARTS))
    if unknown:
        parser.error(f"--only: unknown {', '.join(unknown)}; known: {', '.join(PARTS)}")
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    setting = SMALL if given.small or device is None else FULL
    try:
        found = measure_parts(chosen, setting, device or torch.device("cpu"), given.out)
    except OtherResultsError as error:
        parser.error(str(error))
    sys.stdout.write(markdown(found))
