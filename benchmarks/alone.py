"""One task in a process of its own, so that its peak of memory is its own: seconds and GB as JSON on stdout."""

import json
import re
import resource
import sys
import time
from pathlib import Path

import torch

from sphere_core.numerics.energy import hyperspherical_energy
from sphere_core.numerics.linalg import LowRankUpdate
from sphere_core.numerics.spectrum import principal_directions

__all__ = ["main", "resident", "run_task"]

ENERGY_RATIO, STRENGTH, RANK = 0.5, 0.5, 100
_GB = 1e9


def run_task(task: str, rows: int, width: int) -> dict[str, float]:
    """Build a random weight `[rows, width]` fp32, do the task on it, and say what it took beyond the weight.

    `peak` is the process's whole peak, `beyond` what was added to what it held before the task. Raises ValueError
    for an unknown task.
    """
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(rows, width, generator=generator)
    held = resident("VmRSS")
    start = time.perf_counter()
    if task == "energy":
        hyperspherical_energy(weight)
    elif task == "sphere":
        left = torch.randn(rows, RANK, generator=generator, dtype=torch.float64)
        right = torch.randn(width, RANK, generator=generator, dtype=torch.float64)
        update = LowRankUpdate(left, right)
        update.damped(principal_directions(weight, ENERGY_RATIO), STRENGTH).dense()
    else:
        raise ValueError(f"unknown task {task!r}")
    seconds, peak = time.perf_counter() - start, resident("VmHWM")
    return {"seconds": seconds, "peak": peak / _GB, "beyond": (peak - held) / _GB}


def main(arguments: list[str]) -> None:
    """Run the task named on the command line: task, rows, width, threads."""
    task, rows, width, threads = arguments
    torch.set_num_threads(int(threads))
    sys.stdout.write(json.dumps(run_task(task, int(rows), int(width))))


def resident(field: str, process: int | None = None) -> int:
    """Return resident memory in bytes of this process or another: Linux's own count, elsewhere this process's peak."""
    status = Path(f"/proc/{process or 'self'}/status")
    if not status.is_file():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    found = re.search(rf"^{field}:\s+(\d+) kB", status.read_text(encoding="ascii"), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"{status} has no {field}")
    return int(found[1]) * 1024


if __name__ == "__main__":
    main(sys.argv[1:])
