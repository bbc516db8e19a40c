"""Starting Ray on a machine whose processors are taken."""

from pathlib import Path
from typing import Any

import pytest

from sphere_core.foundation.errors import InputError
from workflows.cluster.connection import start_ray

LATE = "The current node timed out during startup. This could happen because the GCS has become overloaded."


class SlowRay:
    """What `ray.init` does where its processes take too long, `times` times; it notes the folders that it is given."""

    def __init__(self, error: Exception, times: int) -> None:
        self.error, self.times, self.folders = error, times, list[Path]()

    def init(self, *, _temp_dir: str, **_options: Any) -> None:
        self.folders.append(Path(_temp_dir))
        if len(self.folders) <= self.times:
            raise self.error


def test_a_ray_that_comes_up_late_is_started_once_more() -> None:
    ray = SlowRay(Exception(LATE), times=1)
    scratch = start_ray(ray, 1)
    try:
        first, second = ray.folders
        assert not first.parent.exists(), "the first session is left behind"
        assert scratch.path == second
        assert second.is_dir()
    finally:
        scratch.remove()


@pytest.mark.parametrize(
    ("error", "starts"),
    [(Exception(LATE), 2), (RuntimeError(f"{LATE} (a port is taken)"), 1), (ValueError("num_cpus"), 1)],
)
def test_a_ray_that_does_not_start_is_one_error(error: Exception, starts: int) -> None:
    ray = SlowRay(error, times=9)
    with pytest.raises(InputError, match="Ray does not start") as raised:
        start_ray(ray, 1)
    assert len(ray.folders) == starts
    assert not any(folder.parent.exists() for folder in ray.folders)
    assert "--local" in str(raised.value.remedy)
