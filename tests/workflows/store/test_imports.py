import subprocess
import sys

from repository import REPOSITORY

HEAVY = {"torch", "transformers", "lm_eval", "ray", "datasets"}


def test_nothing_in_the_store_loads_torch() -> None:
    """`sphere gc`, `status` and every reader of a root start without it."""
    modules = [f"workflows.store.{path.stem}" for path in (REPOSITORY / "workflows" / "store").glob("[!_]*.py")]
    script = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert set(loaded.stdout.split()) & HEAVY == set()
    assert len(modules) > 10
