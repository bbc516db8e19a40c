"""Trackio: a local project, a run per trajectory. Requires the extra `trackio`."""

import os
from typing import Any

from workflows.results.trackers.send import Destination
from workflows.results.trackers.wide_rows import TrackedRun

__all__ = ["open_project"]


def open_project(destination: Destination) -> "_Project":
    """Open a project below a folder (None: Trackio's own); nothing is sent anywhere."""
    if destination.place is not None:
        # Read when the package is imported.
        os.environ["TRACKIO_DIR"] = destination.place
    import trackio

    return _Project(trackio, destination)


class _Project:
    def __init__(self, trackio: Any, destination: Destination) -> None:
        self._trackio, self._destination = trackio, destination

    def send(self, run: TrackedRun) -> None:
        settings = {
            name: value if isinstance(value, (int, float, str)) else str(value) for name, value in run.settings.items()
        }
        self._trackio.init(
            project=self._destination.project,
            name=f"{run.name}, {run.id[:8]}",
            group=run.group,
            config=settings,
            resume="allow",
            embed=False,
        )
        for row in run.rows:
            self._trackio.log(dict(row.values), step=row.edits)
        self._trackio.finish()
