"""Running a sweep in this process, watched, and a storage whose faults are given."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

from sphere_core.foundation.storage import Storage
from workflows.driver.display import View
from workflows.driver.driver import Driver, SweepResult
from workflows.driver.local_executor import LocalExecutor
from workflows.replicas.tasks import ReplicaProgress
from workflows.sweeps.expand import Sweep


class Quiet:
    """A display that shows nothing."""

    def update(self, view: View) -> None:
        pass


class Crash(BaseException):
    """What ends a process without any clean-up of ours."""


def run(
    sweep: Sweep,
    root: Path | str,
    *,
    executor: LocalExecutor | None = None,
    on_progress: Callable[[ReplicaProgress], None] = lambda _: None,
    evaluators: int = 0,
) -> SweepResult:
    """Work through a sweep in this process."""
    storage = Storage(root)
    worker = executor or LocalExecutor(str(root), threads=1, device="cpu")
    driver = Driver(sweep, worker, storage, Quiet(), evaluators=evaluators)
    # Without what is said in the middle of a step: how often depends on the machine.
    worker.on_progress(lambda _, progress: on_progress(progress) if progress.within is None else None)
    return driver.run()


class FaultyFiles(MemoryFileSystem):
    """Files in memory behind a file system that fails when a test says so; `faulty://`."""

    protocol = "faulty"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    # Asked at every call, with its name; returns the error to raise, if any.
    fault: Callable[[str], Exception | None] = staticmethod(lambda _: None)

    def _may_fail(self, call: str) -> None:
        error = FaultyFiles.fault(call)
        if error is not None:
            raise error

    def cat_file(self, path, **options):
        self._may_fail("read")
        return super().cat_file(path, **options)

    def pipe_file(self, path, value, **options):
        self._may_fail("write")
        return super().pipe_file(path, value, **options)

    def put_file(self, lpath, rpath, **options):
        self._may_fail("write")
        return super().put_file(lpath, rpath, **options)

    def find(self, path, **options):
        self._may_fail("list")
        return super().find(path, **options)


def disk_full() -> OSError:
    """What a full disk answers."""
    return OSError(errno.ENOSPC, "No space left on device")


fsspec.register_implementation("faulty", FaultyFiles, clobber=True)
