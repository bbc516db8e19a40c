"""A checkpoint is found by the beginning of its trajectory's id, given as an option or inside an address."""

import shutil
from pathlib import Path

import pytest

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from workflows.runs.checkpoint_address import find_checkpoint
from workflows.store.plan import read_plan
from workflows.sweeps.expand import Sweep
from workflows.sweeps.publish import publish


@pytest.fixture(scope="module")
def root(undisturbed: Path, sweep: Sweep, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished sweep with its plan and specifications published."""
    copied = shutil.copytree(undisturbed, tmp_path_factory.mktemp("published") / "root")
    publish(sweep, Storage(copied))
    return copied


def test_a_unique_beginning_is_enough(root: Path) -> None:
    for wanted in [trajectory.id for trajectory in read_plan(Storage(root)).trajectories]:
        whole = find_checkpoint(str(root), trajectory=wanted, edits=None).checkpoint
        for address, option in (
            (root, wanted[:8]),
            (root / "trajectories" / wanted[:8], None),
            (root / "trajectories" / wanted[:8] / "checkpoints" / f"{whole.edits:06d}", None),
        ):
            found = find_checkpoint(str(address), trajectory=option, edits=None).checkpoint
            assert (found.trajectory_id, found.edits) == (wanted, whole.edits)


@pytest.mark.parametrize("name", ["", "zzzz"])
def test_a_beginning_of_no_id_or_of_all_is_refused(root: Path, name: str) -> None:
    with pytest.raises(InputError, match="unknown trajectory"):
        find_checkpoint(str(root), trajectory=name, edits=None)
    if name:
        with pytest.raises(InputError, match="unknown trajectory"):
            find_checkpoint(f"{root}/trajectories/{name}", trajectory=None, edits=None)
