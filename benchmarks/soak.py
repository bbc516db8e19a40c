"""`python -m benchmarks.soak`: one driver for twenty minutes, with a kill every twenty seconds.

Replicas, evaluators and now and then a whole node are ended with SIGKILL while the sweep runs on three nodes; the
driver lives through all of it. Meanwhile its resident memory, its open file descriptors and the files below its
temporary folder are counted. After the last kill the sweep runs to its end, and every file of rows and checkpoints must
be byte-equal to those of a run that nothing happened to.
"""

import os
import random
import secrets
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.alone import resident
from benchmarks.chaos import Redone, redone_edits
from benchmarks.disturbed import INTERVAL, DisturbedSweep, Kind, run_undisturbed, sweep_settings
from benchmarks.equal_bytes import differing
from benchmarks.rows import Row, table

__all__ = ["Sample", "Soak", "growth", "main", "soak"]

# One node in eight kills: a node takes three times as long to come back as a process.
KINDS: tuple[Kind, ...] = ("replica", "replica", "evaluator", "replica", "replica", "evaluator", "replica", "node")
SAMPLE_SECONDS = 2.0
_MB = 1e6


@dataclass(frozen=True)
class Sample:
    """The driver at one moment: seconds since it started, resident bytes, open descriptors, temporary files."""

    at: float
    memory: int
    descriptors: int
    files: int


@dataclass(frozen=True)
class Soak:
    """What a soak came to."""

    minutes: float
    exit_code: int | None
    kills: dict[Kind, int]
    samples: tuple[Sample, ...]
    different: tuple[str, ...]
    redone: Redone

    def rows(self) -> list[Row]:
        """Return what was measured beside what it must reach; growth is from the second quarter to the last.

        Half of all kills lie between these. Connections come and go with the workers alive, hence some descriptors.
        """
        setting = f"{self.minutes:.1f} min, {sum(self.kills.values())} kills"
        memory = growth([sample.memory for sample in self.samples]) / _MB
        descriptors = growth([sample.descriptors for sample in self.samples])
        files = growth([sample.files for sample in self.samples])
        return [
            Row("exit code of the driver", setting, -1 if self.exit_code is None else self.exit_code, "", 0),
            Row("rows and checkpoints that differ", setting, len(self.different), "files", 0),
            Row("most edits again at a time", f"interval {INTERVAL}", self.redone.most, "edits", INTERVAL),
            Row("attempts before the furthest checkpoint", setting, self.redone.passed_over, "", 0),
            Row("driver memory, growth", setting, memory, "MB", 5),
            Row("driver's open descriptors, growth", setting, descriptors, "", 8),
            Row("driver's temporary files, growth", setting, files, "files", 0),
        ]


def growth(values: Sequence[float]) -> float:
    """Return by how much the median of the last quarter of a series is above that of the second; of four values on."""
    quarter = len(values) // 4
    if not quarter:
        raise ValueError("growth takes at least four values")
    return statistics.median(values[-quarter:]) - statistics.median(values[quarter : 2 * quarter])


def soak(
    folder: Path,
    *,
    trajectories: int,
    edits: int,
    seconds: float,
    period: float,
    seed: int,
    tell: Callable[[str], None],
) -> Soak:
    """Run a sweep alone and under a kill every `period` seconds for so long below `folder`, and compare."""
    sweep = run_undisturbed(folder, sweep_settings("soak", trajectories, edits=edits))
    tell("the sweep has run alone; now under kills")
    root, choice, samples = folder / "root", random.Random(seed), list[Sample]()
    with DisturbedSweep(sweep, root, choice) as disturbed:
        started = time.monotonic()
        due, said = started + period, started
        kinds: list[Kind] = []
        while (code := disturbed.driver.poll()) is None:
            now = time.monotonic()
            if now >= due and now - started < seconds and disturbed.is_editing():
                kinds = kinds or choice.sample(KINDS, len(KINDS))
                if not disturbed.kill(kinds.pop()):
                    disturbed.kill("replica")
                # No two in a row to make up for one that came late.
                due = max(due + period, now + period / 2)
            if now - started < seconds:
                samples.append(_sample(disturbed, now - started))
            if now - said >= 60:
                said = now
                state = f"{samples[-1]}" if now - started < seconds else "no more kills, it runs to its end"
                tell(f"{(now - started) / 60:.0f} min: killed {dict(disturbed.kills)}; {state}")
            time.sleep(SAMPLE_SECONDS)
        minutes = (time.monotonic() - started) / 60
    different = differing(folder / "alone", root)
    return Soak(minutes, code, dict(disturbed.kills), tuple(samples), different, redone_edits(root))


def _sample(disturbed: DisturbedSweep, at: float) -> Sample:
    process = disturbed.driver.pid
    descriptors = len(os.listdir(f"/proc/{process}/fd"))
    files = sum(path.is_file() for path in disturbed.scratch.rglob("*"))
    return Sample(at, resident("VmRSS", process), descriptors, files)


def main(
    minutes: Annotated[float, typer.Option(min=0.5, help="How long something is killed")] = 20.0,
    period: Annotated[float, typer.Option(min=1.0, help="Seconds between two kills")] = 20.0,
    trajectories: Annotated[int, typer.Option(min=3, help="How many trajectories")] = 120,
    edits: Annotated[int, typer.Option(min=4, help="Edits per trajectory")] = 60,
    seed: Annotated[int, typer.Option(help="Seed of the kills")] = 0,
) -> None:
    """Run a long sweep alone and under kills; exits 1 where anything was lost, differs or has grown.

    Give enough work for the minutes asked: the kills end with the sweep.
    """
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    console = Console(width=140)
    with tempfile.TemporaryDirectory() as folder:
        found = soak(
            Path(folder),
            trajectories=trajectories,
            edits=edits,
            seconds=60 * minutes,
            period=period,
            seed=seed,
            tell=lambda text: console.print(text, highlight=False, soft_wrap=True),
        )
        if found.exit_code or found.different:
            console.out((Path(folder) / "driver.log").read_text(encoding="utf-8")[-4000:], highlight=False)
    killed = ", ".join(f"{count} {kind}" for kind, count in sorted(found.kills.items()))
    console.print(table(found.rows(), title=f"soak, seed {seed}: killed {killed}"))
    if found.minutes < minutes:
        console.print(f"the sweep ended after {found.minutes:.1f} min: give it more trajectories or edits")
        raise typer.Exit(1)
    if any(row.met is False for row in found.rows()):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
