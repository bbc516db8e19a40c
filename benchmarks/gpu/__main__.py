"""`python -m benchmarks.gpu`: measure one accelerator in parts, and write JSON with its name.

Runs on a bare machine with torch, transformers and pydantic; no network, no Ray, no harness. A run adds its parts to
the file, so that several calls of limited time make one. Without an accelerator it runs the small setting on the CPU.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import transformers
import typer

from benchmarks.gpu import batches, ceilings, published, scored, smoke, target_passes
from benchmarks.gpu.report import markdown
from benchmarks.gpu.setting import FULL, SMALL, Setting
from sphere_core.numerics.placement import device_name, total_memory

__all__ = ["PARTS", "main", "measure_parts"]

Part = Callable[[Setting, torch.device, dict[str, Any]], Any]


def _targets(setting: Setting, device: torch.device, known: dict[str, Any]) -> Any:
    ceiling = known.get("B0", {}).get("product, model's dtype, TFLOP/s")
    return target_passes.measure(setting, device, ceiling)


# B4 is part of B3; B7 is B2 and B3 again after a change, with --add-to another file.
PARTS: dict[str, Part] = {
    "B0": lambda setting, device, _: ceilings.measure(setting, device),
    "B1": lambda setting, device, _: smoke.measure(setting, device),
    "B2": _targets,
    "B3": lambda setting, device, _: batches.measure(setting, device),
    "B5": lambda setting, device, _: scored.measure(setting, device, setting.moments(device)),
    "B6": lambda setting, device, _: published.measure(setting, device),
}


def measure_parts(only: list[str], setting: Setting, device: torch.device, path: Path) -> dict[str, Any]:
    """Measure parts one after the other, each written to the file as soon as it is there; return all of the file."""
    known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    about = {
        "device": f"{device_name(device)} ({total_memory(device) / 1e9:.0f} GB)",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "setting": "full" if setting is FULL else "small",
    }
    if known and any(known.get(key) != value for key, value in about.items()):
        raise typer.BadParameter(f"{path} is of another device, version or setting: give another file")
    known |= about
    path.parent.mkdir(parents=True, exist_ok=True)
    for name in only:
        known[name] = PARTS[name](setting, device, known)
        path.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    return known


def main(
    only: Annotated[str, typer.Option(help="Parts, separated by commas")] = ",".join(PARTS),
    out: Annotated[Path, typer.Option(help="JSON file; parts are added to one that is there")] = Path("gpu.json"),
    small: Annotated[bool, typer.Option(help="The small setting, also on an accelerator")] = False,
) -> None:
    """Measure the accelerator of this process and print what was found as Markdown."""
    chosen = only.split(",")
    unknown = sorted(set(chosen) - set(PARTS))
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}; known: {', '.join(PARTS)}")
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    setting = SMALL if small or device is None else FULL
    typer.echo(markdown(measure_parts(chosen, setting, device or torch.device("cpu"), out)))


if __name__ == "__main__":
    typer.run(main)
