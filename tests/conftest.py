"""The environment of every test: offline, no telemetry, one thread, and a Ray token of its own.

Fixtures import what they need themselves: the process that hands out the tests loads this file too, and waits for it.
"""

import gc
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# Set before any test module imports ray, transformers or torch, which read these once.
os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    TOKENIZERS_PARALLELISM="false",
    RAY_USAGE_STATS_ENABLED="0",
    # A token in the environment keeps Ray from writing one into the home folder.
    RAY_AUTH_MODE="token",
    RAY_AUTH_TOKEN=secrets.token_hex(32),
    # Ray reads this once, at its first import, whichever test that is: off, all its ports bind to loopback.
    RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",
)
# A test must never attach to a cluster that someone else is using.
os.environ.pop("RAY_ADDRESS", None)
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The test files, and what the hundred processes that tests start import, are compiled once and not by each of them.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import pytest

if TYPE_CHECKING:
    from workflows.sweeps.expand import Sweep

sys.dont_write_bytecode = False
# Importing torch and collecting thousands of tests makes millions of objects, and no garbage worth a search among them.
gc.disable()


def pytest_configure() -> None:
    """How long an example takes to make or to run is no test: both depend on what else the machine does."""
    from hypothesis import HealthCheck, settings

    settings.register_profile("any load", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("any load")


def pytest_collection_finish() -> None:
    """Search for garbage again, but not among what was imported and collected: that lasts until the end."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Sums depend on the number of threads, so the tests run on one."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def bucket() -> Iterator[str]:
    """The URL of a bucket on a real S3-compatible server on loopback."""
    from s3_server import s3_server

    with s3_server() as url:
        yield url


@pytest.fixture(scope="session")
def sweep_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep file of two short trajectories; modules that need another have a fixture of this name."""
    from sweep_files import tiny, with_fewer_steps, write_sweep

    methods = with_fewer_steps("memit", "memit+rect")
    return write_sweep(tmp_path_factory.mktemp("spec"), tiny(seeds=[0], methods=methods, evaluators={"geometry": {}}))


@pytest.fixture(scope="session")
def sweep(sweep_file: Path) -> "Sweep":
    from workflows.sweeps.expand import load_sweep

    return load_sweep(sweep_file)


@pytest.fixture(scope="session")
def undisturbed(sweep: "Sweep", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of that sweep after a run that nothing happened to; not to be written to."""
    from local_runs import run

    root = tmp_path_factory.mktemp("undisturbed")
    assert run(sweep, root).complete
    return root


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what waits for clusters, so that no worker is left with it at the end."""
    items.sort(key=lambda item: item.get_closest_marker("ray") is None)
