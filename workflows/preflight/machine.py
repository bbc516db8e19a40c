"""What a machine has and lacks for a sweep: versions, accelerators, memory, tokens."""

import os
import resource
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import psutil
import torch
from huggingface_hub import constants, get_token
from packaging.requirements import Requirement

from sphere_core.entry import DISTRIBUTION, PACKAGES, other_owners

__all__ = ["Finding", "accelerator_memory", "available_memory", "machine_findings"]

_OPEN_FILES = 4096
_SHARED_MEMORY = 1e9
_DISK = 20e9
# How many times as long as in float32 a product in half precision may take without a note.
_SLOW = 2.0


@dataclass(frozen=True)
class Finding:
    """One checked item. `missing` must be fixed before a sweep runs; a `note` is information."""

    part: str
    what: str
    found: str
    state: Literal["ok", "note", "missing"] = "ok"
    remedy: str | None = None


def machine_findings(folder: Path) -> list[Finding]:
    """Look at this machine; `folder` is where results would be written. Loads no model and opens no connection."""
    return [*_versions(), *_package_names(), *_hardware(folder), *_access()]


def available_memory() -> tuple[float, float]:
    """Return free bytes of the largest accelerator (0 without one) and of the host."""
    free = [_accelerator_memory(index)[0] for index in range(_accelerators())]
    return max(free, default=0.0), float(psutil.virtual_memory().available)


def accelerator_memory() -> float:
    """Return all bytes of the largest accelerator, 0 without one."""
    return max((_accelerator_memory(index)[1] for index in range(_accelerators())), default=0.0)


def _versions() -> Iterator[Finding]:
    yield Finding("software", "python", sys.version.split()[0])
    for text in metadata.requires(DISTRIBUTION) or []:
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            yield Finding(
                "software", wanted.name, "not installed", "missing", "make .venv installs what the lock names"
            )
            continue
        if wanted.specifier.contains(version, prereleases=True):
            # The package index's builds of torch say in the module alone whether they are for CUDA.
            yield Finding("software", wanted.name, torch.__version__ if wanted.name == "torch" else version)
        else:
            remedy = f"needs {wanted.specifier}: pip install -c constraints.txt {wanted.name}"
            yield Finding("software", wanted.name, version, "missing", remedy)


def _package_names() -> Iterator[Finding]:
    """Find other projects that install packages of the same names: pip lets each overwrite the other's files."""
    for package in PACKAGES:
        for owner in other_owners(package):
            yield Finding(
                "software",
                f"package {package}",
                f"'{owner}' installs it too: one of the two projects is broken here",
                "missing",
                f"install {DISTRIBUTION} into an environment of its own; then pip install --force-reinstall {owner}",
            )


def _accelerators() -> int:
    return torch.accelerator.device_count() if torch.accelerator.is_available() else 0


def _accelerator_memory(index: int) -> tuple[float, float]:
    free, total = torch.get_device_module(torch.accelerator.current_accelerator()).mem_get_info(index)
    return float(free), float(total)


def _hardware(folder: Path) -> Iterator[Finding]:
    count = _accelerators()
    if not count:
        yield Finding("machine", "accelerators", "none: models run on the CPU", "note")
        yield _half_precision()
    for index in range(count):
        free, total = _accelerator_memory(index)
        name = torch.get_device_module(torch.accelerator.current_accelerator()).get_device_name(index)
        yield Finding("machine", f"accelerator {index}", f"{name}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free")
    memory = psutil.virtual_memory()
    yield Finding("machine", "memory", f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB free")
    yield Finding("machine", "cores", str(len(os.sched_getaffinity(0))))
    shared = Path("/dev/shm")
    if shared.is_dir():
        size = shutil.disk_usage(shared).total
        remedy = "give the container more: docker run --shm-size=2g; Ray falls back to slow files otherwise"
        small = size < _SHARED_MEMORY
        yield Finding("machine", "shared memory", f"{size / 1e9:.1f} GB", *(("note", remedy) if small else ("ok",)))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = soft != resource.RLIM_INFINITY and soft < _OPEN_FILES
    remedy = "ulimit -n 65536 before 'ray start': a node of many workers opens thousands"
    yield Finding("machine", "open files", str(soft), *(("note", remedy) if few else ("ok",)))
    free = shutil.disk_usage(folder).free
    remedy = "choose a root on a larger disk; 'sphere plan --price' says how much a sweep writes"
    yield Finding(
        "machine", f"disk at {folder}", f"{free / 1e9:.0f} GB free", *(("note", remedy) if free < _DISK else ("ok",))
    )


def _half_precision() -> Finding:
    """Time a product of a small network's shape in bfloat16 and in float32, each on one thread; half a second."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times = round(_product_seconds(torch.bfloat16) / _product_seconds(torch.float32), 1)
    finally:
        torch.set_num_threads(threads)
    found = f"a product takes {times} times as long as in float32"
    if times < _SLOW:
        return Finding("machine", "bfloat16", found)
    remedy = "models that run on this processor are faster with 'dtype: float32', at twice the memory"
    return Finding("machine", "bfloat16", found, "note", remedy)


def _product_seconds(dtype: torch.dtype) -> float:
    rows, weight = (torch.ones(shape, dtype=dtype) for shape in ((256, 576), (1536, 576)))
    times = []
    for _ in range(4):
        start = time.thread_time()
        torch.nn.functional.linear(rows, weight)
        times.append(time.thread_time() - start)
    return min(times)


def _access() -> Iterator[Finding]:
    offline = (
        "offline: only what is in the local cache can be used" if constants.HF_HUB_OFFLINE else "allowed; not tried"
    )
    yield Finding("access", "Hugging Face hub", offline, "note" if constants.HF_HUB_OFFLINE else "ok")
    if get_token() is None:
        remedy = "hf auth login, or HF_TOKEN in the environment; gated models such as Llama 3 need it"
        yield Finding("access", "Hugging Face token", "none", "note", remedy)
    else:
        yield Finding("access", "Hugging Face token", "found")
    token = Path.home() / ".ray" / "auth_token"
    if "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ:
        yield Finding("access", "Ray token", "in the environment")
    elif not token.is_file():
        remedy = "needed for clusters only: ray get-auth-token --generate"
        yield Finding("access", "Ray token", "none", "note", remedy)
    elif token.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield Finding("access", "Ray token", "readable by others", "missing", f"chmod 600 {token}")
    else:
        yield Finding("access", "Ray token", "found, readable by you alone")
