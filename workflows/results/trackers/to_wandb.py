"""Weights & Biases: a project, a run per trajectory under its id. Requires the extra `wandb`."""

from typing import Any

from workflows.results.trackers.send import Destination
from workflows.results.trackers.wide_rows import TrackedRun

__all__ = ["open_project"]


def open_project(destination: Destination) -> "_Project":
    """Open a project: runs are files below a folder (`wandb sync` uploads them), or sent at once if `online`."""
    import wandb

    return _Project(wandb, destination)


class _Project:
    def __init__(self, wandb: Any, destination: Destination) -> None:
        self._wandb, self._destination = wandb, destination

    def send(self, run: TrackedRun) -> None:
        with self._wandb.init(
            project=self._destination.project,
            id=run.id,
            name=run.name,
            group=run.group,
            config=dict(run.settings),
            dir=self._destination.place,
            mode="online" if self._destination.online else "offline",
            resume="allow",
            settings=self._wandb.Settings(silent=True, console="off", disable_git=True, x_disable_stats=True),
        ) as opened:
            opened.define_metric("*", step_metric="edits")
            for row in run.rows:
                opened.log({"edits": row.edits, **row.values}, step=row.edits)
