"""Submitting a sweep to a cluster through Ray Jobs: once, however often the command is given."""

import asyncio
import ipaddress
import logging
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console

from sphere_core.errors import InputError
from sphere_core.fingerprint import fingerprint
from workflows.ray_environment import has_token, prepare_client_environment

__all__ = ["Submission", "check_address", "plan_submission", "submit"]

# What never travels with the working directory, beside what .gitignore names and Ray leaves out by itself.
EXCLUDES = ("runs/", "*.parquet", "*.egg-info/", "dist/", "build/", ".mypy_cache/", ".ruff_cache/", ".pytest_cache/")
_FINISHED = {"SUCCEEDED", "FAILED", "STOPPED"}


@dataclass(frozen=True)
class Submission:
    """What is to be submitted: the same sweep and root give the same name, so that it runs once."""

    name: str
    entrypoint: str
    working_dir: Path


def check_address(address: str, environment: Mapping[str, str] = os.environ, *, insecure: bool) -> None:
    """Raise InputError for an address that is no URL, and for plain http beyond this machine without a token.

    Whoever reaches an open Jobs API runs code on the cluster; without a token anybody on the way could as well
    be answering instead of it.
    """
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(
            f"'{address}' is not the address of a Jobs API",
            where="--address",
            remedy="give http://HOST:8265 or https://HOST, or open a tunnel with `ray dashboard cluster.yaml`",
        )
    if parts.scheme == "https" or _is_loopback(parts.hostname) or has_token(environment) or insecure:
        return
    raise InputError(
        f"{parts.hostname} is another machine, the address is plain http, and there is no token",
        where="--address",
        remedy="set RAY_AUTH_TOKEN_PATH to the cluster's token, use https or a tunnel, or insist with --insecure",
    )


def plan_submission(sweep: Path, working_dir: Path, root: str) -> Submission:
    """Return what to submit; raises InputError for a sweep file outside the working directory or a local root."""
    if not sweep.is_file():
        raise InputError("sweep file not found", where=str(sweep), remedy="check the path")
    folder = working_dir.resolve()
    try:
        inside = sweep.resolve().relative_to(folder)
    except ValueError as error:
        raise InputError(
            "the sweep file is not in the working directory, so it would not reach the cluster",
            where=str(sweep),
            remedy=f"move it below {folder}, or give --working-dir",
        ) from error
    if "://" not in root and not Path(root).is_absolute():
        raise InputError(
            f"the root '{root}' is relative, and would lie in the job's own folder on one node",
            where="--root",
            remedy="give a path on storage that every node shares, or a URL such as s3://bucket/sweep",
        )
    content = fingerprint({"sweep": sweep.read_text(encoding="utf-8"), "root": root})
    arguments = ["python", "-m", "workflows.cli", "run", str(inside), "--address", "auto", "--root", root]
    return Submission(f"sphere-{content[:16]}", shlex.join(arguments), folder)


def submit(submission: Submission, address: str, *, follow: bool, console: Console) -> int:
    """Submit, or attach to the same sweep under way; return the job's exit code, 0 where it is not followed."""
    prepare_client_environment()
    from ray.job_submission import JobSubmissionClient  # reads the environment prepared above, once

    logging.getLogger("ray").setLevel(logging.ERROR)
    client: Any = JobSubmissionClient(address)
    attempts = {
        job.submission_id: str(job.status.value)
        for job in client.list_jobs()
        if (job.submission_id or "").startswith(f"{submission.name}-")
    }
    active = [job for job, status in attempts.items() if status not in _FINISHED]
    if active:
        job = active[0]
        console.print(f"already submitted: {job}; attaching", highlight=False)
    else:
        job = f"{submission.name}-{len(attempts) + 1}"
        _send(client, submission, job)
        console.print(f"submitted: {job}", highlight=False)
    if not follow:
        console.print(f"follow it: ray job logs --address {address} --follow {job}", highlight=False, soft_wrap=True)
        return 0
    asyncio.run(_follow(client, job, console))
    info = client.get_job_info(job)
    console.print(f"{job}: {info.status.value}", highlight=False)
    if info.driver_exit_code is not None:
        return int(info.driver_exit_code)
    return 0 if info.status.value == "SUCCEEDED" else 1


def _send(client: Any, submission: Submission, job: str) -> None:
    try:
        client.submit_job(
            entrypoint=submission.entrypoint,
            submission_id=job,
            runtime_env={"working_dir": str(submission.working_dir), "excludes": list(EXCLUDES)},
            # The driver only waits; it must not take a place that a replica could have.
            entrypoint_num_cpus=0,
        )
    except RuntimeError as error:
        if "already exists" not in str(error):
            raise


async def _follow(client: Any, job: str, console: Console) -> None:
    async for lines in client.tail_job_logs(job):
        console.out(lines, end="", highlight=False)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
