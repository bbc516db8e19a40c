"""Ray's Jobs API: connect only with a token, find jobs, follow their logs, stop them."""

import asyncio
import contextlib
import ipaddress
import logging
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console

from sphere_core.foundation.errors import InputError
from workflows.cluster.environment import missing_token, prepare_client_environment

__all__ = ["FINISHED", "check_address", "connect", "follow_job", "jobs_of", "kept_connection", "stop_job"]

FINISHED = ("SUCCEEDED", "FAILED", "STOPPED")
_POLL_SECONDS = 0.5


def check_address(address: str, environment: Mapping[str, str] = os.environ, *, insecure: bool) -> None:
    """Raise InputError for an address that is not a URL, and for plain http beyond this machine without a token.

    Anyone who reaches an open Jobs API can run code on the cluster; without a token another host could also answer in
    its place.
    """
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(
            f"'{address}' is not the address of a Jobs API",
            where="--address",
            remedy="give http://HOST:8265 or https://HOST, or let --cluster cluster.yaml open a tunnel",
        )
    missing = missing_token(environment)
    if parts.scheme == "https" or _is_loopback(parts.hostname) or missing is None or insecure:
        return
    raise InputError(
        f"{parts.hostname} is another machine, the address is plain http, and {missing}",
        where="--address",
        remedy="set RAY_AUTH_TOKEN_PATH to the cluster's token and RAY_AUTH_MODE=token, use https or a tunnel, "
        "or insist with --insecure",
    )


def connect(address: str) -> Any:
    """Return a Jobs client; raises InputError if nothing answers, or the token is missing or wrong."""
    prepare_client_environment()
    from ray.exceptions import AuthenticationError  # Ray reads the environment prepared above, once
    from ray.job_submission import JobSubmissionClient

    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        client = JobSubmissionClient(address)
        client.list_jobs()
    except AuthenticationError as error:
        raise InputError(
            f"the cluster requires a token, and {missing_token() or 'refuses the one here'}",
            where=address,
            remedy="copy the cluster's token to a file of mode 0600, set RAY_AUTH_TOKEN_PATH to it and "
            "RAY_AUTH_MODE=token",
        ) from error
    except (ConnectionError, RuntimeError) as error:
        raise InputError(
            f"no Jobs API answers: {_first_line(error)}",
            where=address,
            remedy="check that the head runs with its dashboard, and that the tunnel is open",
        ) from error
    return client


def jobs_of(client: Any, **metadata: str) -> dict[str, str]:
    """Return the state of each job with the given metadata, by submission id, in the order of submission."""
    with kept_connection():
        listed = client.list_jobs()
    found = [
        job
        for job in listed
        if job.submission_id and all((job.metadata or {}).get(key) == value for key, value in metadata.items())
    ]
    found.sort(key=lambda job: job.start_time or 0)
    return {job.submission_id: str(job.status.value) for job in found}


@contextlib.contextmanager
def kept_connection() -> Iterator[None]:
    """Raise InputError if the connection to the cluster breaks inside the block."""
    from requests import RequestException  # comes with Ray, and is loaded by it

    try:
        yield
    except (ConnectionError, RequestException) as error:
        raise InputError(
            f"the connection to the cluster was lost: {_first_line(error)}",
            remedy="run the same command again when the cluster can be reached; a job that runs there continues",
        ) from error


def follow_job(client: Any, job: str, console: Console) -> int:
    """Print a job's log until it ends and return its exit code; 1 if the connection breaks before.

    An interrupt stops following, not the job.
    """
    from aiohttp import ClientError  # comes with Ray, and is loaded by it

    async def copy_log() -> None:
        async for lines in client.tail_job_logs(job):
            console.out(lines, end="", highlight=False)

    try:
        asyncio.run(copy_log())
        info = client.get_job_info(job)
        if info.status.value not in FINISHED:
            raise ConnectionError("the log ended before the job")
    except KeyboardInterrupt:
        console.print(f"\n{job} continues; the same command follows it again", highlight=False)
        return 0
    except (RuntimeError, OSError, ClientError) as error:
        console.print(f"the connection was lost: {_first_line(error)}", highlight=False, markup=False)
        console.print(f"{job} may still be running; the same command attaches to it again", highlight=False)
        return 1
    console.print(f"{job}: {info.status.value}", highlight=False)
    if info.driver_exit_code is not None:
        return int(info.driver_exit_code)
    return 0 if info.status.value == "SUCCEEDED" else 1


def stop_job(client: Any, job: str, *, seconds: float) -> str:
    """Request that a job stops, wait for at most the given seconds, and return its state then; a second call waits
    again."""
    with kept_connection():
        client.stop_job(job)
    deadline = time.monotonic() + seconds
    while True:
        with kept_connection():
            state = str(client.get_job_status(job).value)
        if state in FINISHED or time.monotonic() > deadline:
            return state
        time.sleep(_POLL_SECONDS)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
