"""The two ways in which a command names a cluster: the address of its Jobs API, or its launcher file."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from sphere_core.foundation.errors import InputError
from workflows.cluster.jobs import check_address
from workflows.cluster.tunnel import tunnel

__all__ = ["cluster_address"]


@contextlib.contextmanager
def cluster_address(address: str | None, cluster: Path | None, *, insecure: bool) -> Iterator[str]:
    """Yield the address of a Jobs API: the one given, once it is safe to talk to, or the near end of a tunnel."""
    if (address is None) == (cluster is None):
        raise InputError(
            "give --address or --cluster, one of them",
            where="--address, --cluster",
            remedy="give --address http://HOST:8265, or --cluster cluster.yaml",
        )
    if cluster is not None:
        with tunnel(cluster) as place:
            yield place
    elif address is not None:
        check_address(address, insecure=insecure)
        yield address
