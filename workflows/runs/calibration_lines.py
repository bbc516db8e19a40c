"""What a calibration prints: notes, one line per trial, what was not searched, and the preset's name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from sphere_core.foundation.work_progress import Position
from workflows.runs.calibrate import Calibration, Listener
from workflows.runs.calibration_bench import OBJECTIVES, Trial
from workflows.terminal.console import say
from workflows.terminal.step_line import StepLine

__all__ = ["CalibrationLines"]

_SHORT = {"efficacy": "efficacy", "generalization": "general.", "agreement": "agreement", "specificity": "specif."}


class CalibrationLines(Listener):
    """Prints a calibration while it runs: a table whose head comes with its first trial."""

    def __init__(self, console: Console, line: StepLine, objective: str) -> None:
        self._console, self._line, self._objective = console, line, objective
        self._has_head = False

    def note(self, text: str) -> None:
        """Print a note."""
        say(self._console, text)

    def trial(self, number: int, trial: Trial, *, logged: bool) -> None:
        """Print a trial's line, the head before the first."""
        if not self._has_head:
            self._has_head = True
            say(self._console, self._head())
        say(self._console, self._cells(number, trial) + ("  logged" if logged else ""))

    def step(self, number: int, position: Position) -> None:
        """Show how far the trial under way is."""
        self._line.show(f"trial {number}: {position}")

    def end(self, found: Calibration, out: Path) -> None:
        """Print what was not searched, and what was decided on."""
        for line in not_searched_lines(found.not_searched):
            say(self._console, line)
        chosen = next(iter(found.best.values()))
        ridges = ", ".join(f"{editor} {best.ridge:g}" for editor, best in found.best.items())
        values = f"layers {list(chosen.layers)}, v_lr {chosen.v_lr:g}, clamp {chosen.clamp_norm_factor:g}"
        say(self._console, f"preset: {out}; {values}, ridge {ridges}")

    def _head(self) -> str:
        names = [_SHORT[part.partition("/")[0]] for part in OBJECTIVES[self._objective]]
        start = f"{'trial':>5}  {'editor':<9} {'layers':<6} {'v_lr':>5} {'clamp':>5} {'ridge':>6}"
        return f"{start}  {' '.join(f'{name:>9}' for name in [*names, 'score'])}  HE drift  seconds"

    def _cells(self, number: int, trial: Trial) -> str:
        chosen = trial.candidate
        span = f"{chosen.layers[0]}-{chosen.layers[-1]}" if len(chosen.layers) > 1 else str(chosen.layers[0])
        asked = [trial.measures.get(name, "-") for name in OBJECTIVES[self._objective]]
        cells = [_cell(value) for value in (*asked, trial.score(self._objective))]
        drift = "collapsed" if trial.he_drift is None else f"{trial.he_drift:.1e}"
        start = f"{number:>5}  {trial.editor:<9} {span:<6} {chosen.v_lr:>5g} {chosen.clamp_norm_factor:>5g}"
        scores = " ".join(f"{cell:>9}" for cell in cells)
        text = f"{start} {chosen.ridge:>6g}  {scores} {drift:>9} {trial.seconds:>8.1f}"
        return text + ("  held out" if trial.held_out else "")


def not_searched_lines(left: Mapping[str, Any]) -> list[str]:
    """Return what no trial had, one line per editor; layers without second moments in a line of their own."""
    lines = []
    for owner, values in left.items():
        if owner == "layers_without_moments":
            lines.append(f"not searched, without second moments: layers {values}")
            continue
        texts = [f"{name} {', '.join(str(value) for value in tried)}" for name, tried in values.items()]
        lines.append(f"not searched with {owner}, for want of budget: {'; '.join(texts)}")
    return lines


def _cell(value: object) -> str:
    return "collapsed" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
