"""MLflow: an experiment per project, a run per trajectory. Requires the extra `mlflow` (mlflow-skinny)."""

import re
import time
from typing import Any

from sphere_core.foundation.errors import InputError
from workflows.results.trackers.send import Destination
from workflows.results.trackers.wide_rows import TrackedRun
from workflows.terminal.escape import one_line

__all__ = ["open_project"]

_TAG = "sphere.trajectory"
# Characters that names of metrics and parameters may have.
_REFUSED = re.compile(r"[^\w\-. /:]")
_BATCH = 1000


def open_project(destination: Destination) -> "_Experiment":
    """Open an experiment, created if it is new, at a tracking URI (None: MLflow's own).

    Raises InputError if MLflow does not take the URI (recent ones take no folder) or reaches no server there.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        client = MlflowClient(tracking_uri=destination.place)
        found = client.get_experiment_by_name(destination.project)
        experiment = found.experiment_id if found else client.create_experiment(destination.project)
    except MlflowException as error:
        raise InputError(
            f"MLflow cannot use it: {one_line(str(error))}",
            where=f"--place {destination.place or '(left to MLflow)'}",
            remedy="give the address of a tracking server, http://127.0.0.1:5000, or a URI that your MLflow takes",
        ) from error
    return _Experiment(client, experiment)


class _Experiment:
    def __init__(self, client: Any, experiment: str) -> None:
        self._client, self._experiment = client, experiment

    def send(self, run: TrackedRun) -> None:
        from mlflow.entities import Metric

        key, now = self._run(run), int(time.time() * 1000)
        metrics = [
            Metric(_REFUSED.sub("_", name), value, now, row.edits)
            for row in run.rows
            for name, value in row.values.items()
        ]
        for start in range(0, len(metrics), _BATCH):
            self._client.log_batch(key, metrics=metrics[start : start + _BATCH])
        if run.finished:
            self._client.set_terminated(key)

    def _run(self, run: TrackedRun) -> str:
        from mlflow.entities import Param

        found = self._client.search_runs([self._experiment], f"tags.`{_TAG}` = '{run.id}'", max_results=1)
        if found:
            return str(found[0].info.run_id)
        created = self._client.create_run(self._experiment, tags={_TAG: run.id, "sweep": run.group}, run_name=run.name)
        params = [Param(_REFUSED.sub("_", name), str(value)) for name, value in run.settings.items()]
        self._client.log_batch(created.info.run_id, params=params[:100])
        return str(created.info.run_id)
