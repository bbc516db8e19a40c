import subprocess
import sys

from repository import REPOSITORY

HEAVY = {"torch", "transformers", "lm_eval", "ray", "datasets", "workflows.replicas.replica"}


def test_the_protocol_loads_neither_a_replica_nor_torch() -> None:
    script = "import sys, workflows.driver.executor; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert set(loaded.stdout.split()) & HEAVY == set()
