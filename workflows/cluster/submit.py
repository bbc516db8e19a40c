"""Submit a sweep to a cluster through Ray Jobs; repeating the command attaches to the running job."""

import math
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from rich.console import Console

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.fingerprint import fingerprint
from sphere_core.foundation.storage_url import refuse_credentials
from sphere_core.foundation.yaml_files import read_yaml
from workflows.cluster.job_package import Package, pack
from workflows.cluster.jobs import FINISHED, jobs_of, kept_connection
from workflows.store.identifiers import by_prefix

__all__ = ["Submission", "find_job", "plan_submission", "stop_seconds", "submit_once"]

# Beyond the grace of a stopped run: for its last table. Ray alone would kill a job after three seconds.
_MARGIN_SECONDS = 30
# For a job that does not record how long it may take to stop.
_STOP_SECONDS = 120


@dataclass(frozen=True)
class Submission:
    """What to submit; the same sweep and root have the same name, so that it runs once."""

    name: str
    entrypoint: str
    root: str
    package: Package

    @property
    def stop_seconds(self) -> int:
        """Seconds that the job has to end after a stop request."""
        return math.ceil(self.package.grace_seconds) + _MARGIN_SECONDS


def plan_submission(
    sweep: Path,
    root: str,
    *,
    replace: bool = False,
    trust_task_code: bool = False,
    overrides: Sequence[str] = (),
    outside: bool = False,
) -> Submission:
    """Return what to submit; `replace`, `trust_task_code` and `overrides`, which replace values, are given to the run.

    `outside` packs files above the sweep file's folder and behind links, too.

    Raises InputError for a faulty sweep file, and for a root that holds credentials or that only one node would see.
    """
    # The root is sent to the cluster and shown on its dashboard.
    refuse_credentials(root)
    if "://" not in root and not Path(root).is_absolute():
        raise InputError(
            f"the root '{root}' is relative, and would lie in the job's own folder on one node",
            where="--root",
            remedy="give a path on storage that every node shares, or a URL such as s3://bucket/sweep",
        )
    root = _without_trailing_slash(root)
    package = pack(sweep, overrides, outside=outside)
    # Other values are another job.
    changed = {"overrides": list(overrides)} if overrides else {}
    content = fingerprint({"files": package.digest(), "root": root, **changed})
    arguments = ["python", "-m", "workflows.cli", "run", package.entry, "--address", "auto", "--root", root]
    arguments += ["--replace"] if replace else []
    arguments += [part for override in overrides for part in ("--set", override)]
    arguments += ["--trust-task-code"] if trust_task_code else []
    return Submission(f"sphere-{package.sweep_name}-{content[:12]}", f"exec {shlex.join(arguments)}", root, package)


def submit_once(submission: Submission, client: Any, console: Console) -> str:
    """Submit the sweep, or find its running job; return the job's id. A second call returns the same id while that job
    runs."""
    with tempfile.TemporaryDirectory(prefix="sphere-job-") as folder:
        number = 0
        while True:
            attempts = jobs_of(client, submission=submission.name)
            active = [job for job, state in attempts.items() if state not in FINISHED]
            if active:
                console.print(f"already submitted: {active[0]} ({attempts[active[0]]}); attaching", highlight=False)
                return active[0]
            if number == 0:
                submission.package.write(Path(folder))
            # A count of the jobs would repeat a number after an earlier job was deleted.
            number = max(number, *(_number(job, submission.name) for job in attempts), 0) + 1
            job = f"{submission.name}-{number}"
            if _send(client, submission, job, folder):
                console.print(f"submitted: {job}", highlight=False)
                return job


def stop_seconds(client: Any, job: str) -> float:
    """Return the seconds to wait for a job after a stop request: its own time to end, and a margin."""
    given = (client.get_job_info(job).metadata or {}).get("stop_seconds", _STOP_SECONDS + _MARGIN_SECONDS)
    return float(given) + _MARGIN_SECONDS


def find_job(client: Any, job: str) -> tuple[str, str]:
    """Return the id and state of a job given by the beginning of its id, or of the one running job of a sweep."""
    path = Path(job)
    if not path.is_file():
        jobs = jobs_of(client)
        found = by_prefix(job, jobs, kind="job", where="the jobs of the cluster")
        return found, jobs[found]
    data = read_yaml(path).data
    name = str(data.get("name")) if isinstance(data, dict) else ""
    jobs = jobs_of(client, sweep=name)
    active = [key for key, state in jobs.items() if state not in FINISHED]
    if len(active) > 1:
        raise InputError(
            f"{len(active)} jobs of the sweep '{name}' are under way, with different roots",
            where=job,
            remedy=f"name one of them: {', '.join(active)}",
        )
    if not jobs:
        raise InputError(f"no job of a sweep '{name}' on this cluster", where=job, remedy="see `ray job list`")
    last = (active or list(jobs))[-1]
    return last, jobs[last]


def _without_trailing_slash(root: str) -> str:
    """Return one text for one location: the name of a submission is made from it."""
    scheme, separator, rest = root.partition("://")
    return f"{scheme}{separator}{rest.rstrip('/')}" if separator else str(PurePosixPath(root))


def _number(job: str, name: str) -> int:
    number = job.removeprefix(f"{name}-")
    return int(number) if number.isdecimal() else 0


def _send(client: Any, submission: Submission, job: str, folder: str) -> bool:
    """Send a job; return False if the cluster has one of this id already."""
    try:
        with kept_connection():
            client.submit_job(
                entrypoint=submission.entrypoint,
                submission_id=job,
                runtime_env={
                    "working_dir": folder,
                    "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(submission.stop_seconds), "PYTHONUNBUFFERED": "1"},
                },
                metadata={
                    "submission": submission.name,
                    "sweep": submission.package.sweep_name,
                    "root": submission.root,
                    "stop_seconds": str(submission.stop_seconds),
                },
                # The driver only waits; it must not reserve a CPU that a replica could use.
                entrypoint_num_cpus=0,
            )
    except RuntimeError as error:
        if f"{job} already exists" not in str(error):
            raise
        return False
    return True
