"""Folders of this repository that tests read."""

from pathlib import Path

__all__ = ["DATA", "DATASETS", "EXAMPLES", "REPOSITORY", "TESTS"]

REPOSITORY = Path(__file__).resolve().parents[2]
TESTS = REPOSITORY / "tests"
DATA = TESTS / "data"
DATASETS = DATA / "datasets"
EXAMPLES = REPOSITORY / "examples"
