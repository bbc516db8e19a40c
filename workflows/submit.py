"""Submitting a sweep to a cluster through Ray Jobs: once, however often the command is given."""

import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from sphere_core.errors import InputError
from sphere_core.fingerprint import fingerprint
from workflows.jobs import FINISHED, jobs_of
from workflows.package import Package, pack

__all__ = ["STOP_SECONDS", "Submission", "plan_submission", "submit"]

# A stopped run publishes checkpoints first; Ray would kill it after three seconds.
STOP_SECONDS = 150


@dataclass(frozen=True)
class Submission:
    """What is to be submitted: the same sweep and root give the same name, so that it runs once."""

    name: str
    entrypoint: str
    root: str
    package: Package


def plan_submission(sweep: Path, root: str) -> Submission:
    """Return what to submit; raises InputError for a faulty sweep file or a root that only one node would see."""
    if "://" not in root and not Path(root).is_absolute():
        raise InputError(
            f"the root '{root}' is relative, and would lie in the job's own folder on one node",
            where="--root",
            remedy="give a path on storage that every node shares, or a URL such as s3://bucket/sweep",
        )
    package = pack(sweep)
    content = fingerprint({"files": package.digest(), "root": root})
    arguments = ["python", "-m", "workflows.cli", "run", package.entry, "--address", "auto", "--root", root]
    return Submission(f"sphere-{package.sweep_name}-{content[:12]}", f"exec {shlex.join(arguments)}", root, package)


def submit(submission: Submission, client: Any, console: Console) -> str:
    """Submit, or find the same sweep under way; return the job's id."""
    attempts = jobs_of(client, submission=submission.name)
    active = [job for job, state in attempts.items() if state not in FINISHED]
    if active:
        console.print(f"already submitted: {active[0]} ({attempts[active[0]]}); attaching", highlight=False)
        return active[0]
    job = f"{submission.name}-{len(attempts) + 1}"
    with tempfile.TemporaryDirectory(prefix="sphere-job-") as folder:
        submission.package.write(Path(folder))
        sent = _send(client, submission, job, folder)
    console.print(f"submitted: {job}" if sent else f"already submitted: {job}; attaching", highlight=False)
    return job


def _send(client: Any, submission: Submission, job: str, folder: str) -> bool:
    """Send a job; return False where somebody has sent the same one in between."""
    try:
        client.submit_job(
            entrypoint=submission.entrypoint,
            submission_id=job,
            runtime_env={
                "working_dir": folder,
                "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS), "PYTHONUNBUFFERED": "1"},
            },
            metadata={
                "submission": submission.name,
                "sweep": submission.package.sweep_name,
                "root": submission.root,
            },
            # The driver only waits; it must not take a place that a replica could have.
            entrypoint_num_cpus=0,
        )
    except RuntimeError as error:
        if "already exists" not in str(error):
            raise
        return False
    return True
