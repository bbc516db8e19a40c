"""What the benchmark for a card imports beside this repository, looked for without importing any of it."""

from collections.abc import Sequence
from importlib.util import find_spec

__all__ = ["NEEDED", "missing_modules", "screen_of"]

# Module to requirement of pip, as in pyproject.toml. Everything of `sphere` that is not here (Ray, the harness, plots,
# the command line's packages) is not imported.
NEEDED = {
    "torch": "torch>=2.8",
    "transformers": "transformers>=5.0",
    "tokenizers": "tokenizers>=0.21",
    "safetensors": "safetensors>=0.5",
    "huggingface_hub": "huggingface-hub>=1.0",
    "numpy": "numpy>=2.0",
    "yaml": "pyyaml>=6.0",
    "fsspec": "fsspec>=2025.3",
    "pydantic": "pydantic>=2.10",
    "psutil": "psutil>=6.0",
    "threadpoolctl": "threadpoolctl>=3.5",
    "scipy": "scipy>=1.13",
    "pyarrow": "pyarrow>=18.0",
}


def missing_modules() -> list[str]:
    """Return the needed modules that this Python does not find, in the order of the table; imports none."""
    return [name for name in NEEDED if find_spec(name) is None]


def screen_of(missing: Sequence[str]) -> str:
    """Return one screen that names every missing module and the one command that installs them all."""
    command = " ".join(f'"{NEEDED[name]}"' for name in missing)
    return (
        f"benchmarks.gpu: {len(missing)} of the {len(NEEDED)} modules that it imports are missing: "
        f"{', '.join(missing)}\n\n"
        f"Install them with\n\n    python -m pip install {command}\n\n"
        "Without network: run 'python -m pip download' with the same names on a machine of the same kind, copy the "
        "files,\nand give 'python -m pip install' the options --no-index --find-links FOLDER.\n"
    )
