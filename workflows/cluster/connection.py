"""Start Ray on this machine or attach to a cluster, and shorten Ray's errors."""

import logging
import textwrap
from typing import Any

from sphere_core.foundation.errors import InputError
from workflows.cluster.gcs_address import no_cluster, require_answer
from workflows.cluster.scratch import RayScratch

__all__ = ["attach", "gist", "start_ray"]

# Nothing large goes through the object store: tasks and outcomes only.
_OBJECT_STORE_BYTES = 100 << 20
# Characters of a line of an error.
_GIST = 240


def attach(ray: Any, address: str) -> None:
    """Connect this process to a running cluster; raises InputError if none answers at the address."""
    require_answer(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise no_cluster(address, gist(error)) from error


def start_ray(ray: Any, num_cpus: int | None) -> RayScratch:
    """Start Ray on this machine, reachable on loopback only; return its session folder, which the caller removes.

    Ray waits half a minute for its own processes, which is too short where the processors are taken: it is started
    a second time then. Raises InputError if Ray does not start.
    """
    for last in (False, True):
        scratch = RayScratch()
        scratch.guard()
        try:
            ray.init(
                address="local",
                num_cpus=num_cpus,
                include_dashboard=False,
                dashboard_host="127.0.0.1",
                object_store_memory=_OBJECT_STORE_BYTES,
                _temp_dir=str(scratch.path),
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except Exception as error:  # one that does not come up in time raises the bare class
            scratch.remove()
            if _came_up_late(error) and not last:
                continue
            raise InputError(
                f"Ray does not start: {gist(error)}",
                where="this machine",
                remedy="'sphere doctor' checks it; --local runs the sweep in this process, without Ray",
            ) from error
        break
    return scratch


def _came_up_late(error: Exception) -> bool:
    """Return whether Ray gave up waiting, rather than found something wrong."""
    return type(error) is Exception and "timed out" in str(error)


def gist(error: BaseException) -> str:
    """Return the first line of an error, and the last if a traceback is between them, each cut to a length."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    ends = dict.fromkeys([*lines[:1], *lines[-1:]])
    return " ... ".join(textwrap.shorten(line, _GIST, placeholder=" ...") for line in ends)
