"""Replicas with faults, as Ray's workers load them: in a module of their own, found through PYTHONPATH."""

import threading
import time

import torch

from sphere_core.foundation.storage import Storage
from workflows.replicas.replica import ModelReplica
from workflows.replicas.tasks import ReplicaProgress

__all__ = ["MOST_GIGABYTES", "FailingOnce", "Hungry", "WaitingOnce"]

# What `Hungry` takes at most, should nobody stop it.
MOST_GIGABYTES = 6
# How long others wait at most, should nobody stop or kill them.
MOST_SECONDS = 600.0


class FailingOnce(ModelReplica):
    """Its accelerator fails after six edits of the first attempt; the second waits there until it is told to stop."""

    def __init__(self, root: str, *, threads: int, device: str) -> None:
        super().__init__(root, threads=threads, device=device, listener=self._hear)
        self._marks = Storage(root)
        self._told = threading.Event()

    def stop(self) -> None:
        self._told.set()
        super().stop()

    def _hear(self, progress: ReplicaProgress) -> None:
        if progress.editing and progress.edits == 6:
            if self._marks.create_exclusive("failed-once", b""):
                raise getattr(torch, "AcceleratorError", RuntimeError)("CUDA error: unspecified launch failure")
            self._told.wait(MOST_SECONDS)


class WaitingOnce(ModelReplica):
    """One replica waits after six edits, one evaluator at a score, until they are killed; both write down who they are.

    No trajectory gets beyond two edits before there is an evaluator, so that there are scores left for it.
    """

    def __init__(self, root: str, *, threads: int, device: str) -> None:
        super().__init__(root, threads=threads, device=device, listener=self._hear)
        self._marks = Storage(root)
        # Ray's actor class is called by its role.
        self._role = type(self).__name__.lower()
        if self._role == "evaluator":
            self._marks.create_exclusive("evaluator-started", b"")

    def _hear(self, progress: ReplicaProgress) -> None:
        until = time.monotonic() + MOST_SECONDS
        while progress.editing and not self._marks.exists("evaluator-started") and time.monotonic() < until:
            time.sleep(0.05)
        if progress.edits == 6 if progress.editing else self._role == "evaluator" and progress.task:
            mark = f"waits-{self._role}"
            if self._marks.create_exclusive(mark, self.owner.encode()):
                threading.Event().wait(MOST_SECONDS)


class Hungry(ModelReplica):
    """Takes a gigabyte of memory after another in the third batch of a trajectory, until somebody stops it."""

    def __init__(self, root: str, *, threads: int, device: str) -> None:
        super().__init__(root, threads=threads, device=device, listener=self._hear)
        self._eaten: list[bytes] = []

    def _hear(self, progress: ReplicaProgress) -> None:
        if progress.editing and progress.edits == 6:
            while len(self._eaten) < MOST_GIGABYTES:
                self._eaten.append(b"x" * (1 << 30))
                time.sleep(0.5)
            time.sleep(20.0)
