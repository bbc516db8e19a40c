"""Replicas by the name of their class, imported by the process that runs one: a driver of others loads no torch."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from sphere_core.foundation.lazy import load_object
from workflows.replicas.tasks import ReplicaProgress

if TYPE_CHECKING:
    from workflows.replicas.replica import ModelReplica

__all__ = ["MODEL_REPLICA", "start_replica"]

MODEL_REPLICA = "workflows.replicas.replica:ModelReplica"


def start_replica(
    root: str,
    *,
    threads: int,
    device: str,
    listener: Callable[[ReplicaProgress], None] | None = None,
    on_sign: Callable[[ReplicaProgress], None] | None = None,
) -> "ModelReplica":
    """Return a model replica of this process; the first call imports torch and transformers.

    Raises InputError for a device that this process does not see.
    """
    kind = load_object(MODEL_REPLICA)
    replica: ModelReplica = kind(root, threads=threads, device=device, listener=listener, on_sign=on_sign)
    return replica
