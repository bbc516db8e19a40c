"""The parts of the benchmark for a card, measured one after the other into one JSON file with the card's name.

A run adds its parts to the file, so that several calls of limited time make one. Without an accelerator it runs the
small setting on the CPU. No network, no Ray, no harness.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.gpu import batches, ceilings, published, scored, smoke, target_passes
from benchmarks.gpu.compared import ratios
from benchmarks.gpu.report import TITLES, markdown
from benchmarks.gpu.setting import FULL, SMALL, Setting
from benchmarks.gpu.verdicts import failed, verdicts
from sphere_core.numerics.placement import device_name, total_memory

__all__ = ["PARTS", "REPEATED", "OtherResultsError", "compare", "main", "measure_parts"]

_ABOUT = "Measure one accelerator in parts and print Markdown; without one, the small setting on the CPU."
_EXIT = "Exit code: 1 if a method of B1 fails or the targets of B2 are wrong, 2 for what was given wrongly."
_HOST = torch.device("cpu")


class OtherResultsError(ValueError):
    """A results file is unreadable, or of another device, version or setting than this process measures."""


Part = Callable[[Setting, torch.device, dict[str, Any]], dict[str, Any]]


def _targets(setting: Setting, device: torch.device, known: dict[str, Any]) -> dict[str, Any]:
    ceiling = known.get("B0", {}).get("product, model's dtype, TFLOP/s")
    return {"B2": target_passes.measure(setting, device, ceiling)}


def _batches(setting: Setting, device: torch.device, _: dict[str, Any]) -> dict[str, Any]:
    stages, checkpoints = batches.measure(setting, device)
    return {"B3": stages, "B4": checkpoints}


# What measures a part, and the parts that it returns: the checkpoint of B4 is that of B3's batch.
PARTS: dict[str, Part] = {
    "B0": lambda setting, device, _: {"B0": ceilings.measure(setting, device)},
    "B1": lambda setting, device, _: {"B1": smoke.measure(setting, device)},
    "B2": _targets,
    "B3": _batches,
    "B4": _batches,
    "B5": lambda setting, device, _: {"B5": scored.measure(setting, device, setting.moments(device))},
    "B6": lambda setting, device, _: {"B6": published.measure(setting, device)},
}
# B7 is these again after a change, beside the results from before it.
REPEATED = ("B2", "B3", "B4")


def measure_parts(only: list[str], setting: Setting, device: torch.device, path: Path) -> dict[str, Any]:
    """Measure parts one after the other, each written to the file as soon as it is there; return all of the file.

    Raises OtherResultsError, before anything is measured, for a file of another device, version or setting.
    """
    known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    about = _about(setting, device) | versions
    if known and any(known.get(key) != value for key, value in about.items()):
        raise OtherResultsError(f"{path} is of another device, version or setting: give another file")
    known |= about
    path.parent.mkdir(parents=True, exist_ok=True)
    measured: set[str] = set()
    for name in only:
        if name in measured:
            continue
        found = PARTS[name](setting, device, known)
        measured |= found.keys()
        known |= found
        known["verdicts"] = verdicts(known)
        path.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    return known


def compare(path: Path, known: dict[str, Any], earlier: Mapping[str, Any]) -> dict[str, Any]:
    """Add B7 to a results file, every number beside the one in `earlier`, and return all of the file."""
    known["B7"] = ratios(earlier, known)
    path.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    return known


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the accelerator of this process and print what was found as Markdown; `--help` lists the options.

    Exits with 1 if the results have a method that did not run or targets that are wrong, and with 2 on an unknown part
    and on a results file of another device, version or setting. A limit of speed or memory that is missed is printed.
    """
    parser = _parser()
    given = parser.parse_args(arguments)
    chosen = given.only.split(",")
    unknown = sorted(set(chosen) - {*PARTS, "B7"})
    if unknown:
        parser.error(f"--only: unknown {', '.join(unknown)}; known: {', '.join(PARTS)}, B7")
    if "B7" in chosen and given.against is None:
        parser.error("B7 compares with an earlier results file: give it with --against FILE")
    chosen = list(dict.fromkeys(part for name in chosen for part in (REPEATED if name == "B7" else [name])))
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    setting = SMALL if given.small or device is None else FULL
    try:
        earlier = _earlier(given.against, setting, device or _HOST) if given.against else None
        found = measure_parts(chosen, setting, device or _HOST, given.out)
    except OtherResultsError as error:
        parser.error(str(error))
    if earlier is not None:
        found = compare(given.out, found, earlier)
    sys.stdout.write(markdown(found))
    if failed(found):
        sys.exit(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=_ABOUT,
        epilog="\n".join(["parts:", *(f"  {name}  {title}" for name, title in TITLES.items()), "", _EXIT]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only",
        default=",".join(PARTS),
        help=f"parts, separated by commas (default: %(default)s); B3 and B4 are measured together, and B7 is "
        f"{', '.join(REPEATED)} compared with --against",
    )
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="JSON file; parts are added to one there is")
    parser.add_argument(
        "--against", type=Path, metavar="FILE", help="earlier JSON of the same device and setting: B7 has the ratios"
    )
    parser.add_argument("--small", action="store_true", help="the small setting, also on an accelerator")
    return parser


def _about(setting: Setting, device: torch.device) -> dict[str, str]:
    return {
        "device": f"{device_name(device)} ({total_memory(device) / 1e9:.0f} GB)",
        "setting": "full" if setting is FULL else "small",
    }


def _earlier(path: Path, setting: Setting, device: torch.device) -> dict[str, Any]:
    """Read the results to compare with, before anything is measured; their versions may be others."""
    try:
        earlier: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OtherResultsError(f"{path} cannot be read as results: {error}") from error
    if any(earlier.get(key) != value for key, value in _about(setting, device).items()):
        raise OtherResultsError(f"{path} is of another device or setting: its numbers cannot be compared")
    return earlier
