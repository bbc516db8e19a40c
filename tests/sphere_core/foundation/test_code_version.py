"""The commit of a checkout, from git's files alone."""

import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from sphere_core.foundation.code_version import code_commit, code_version


def git(folder: Path, *words: str) -> str:
    setting = ["-c", "user.name=n", "-c", "user.email=n@localhost", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *setting, *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="no git")
def test_the_commit_is_gits_in_every_kind_of_checkout(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    git(one, "init", "-q")
    assert code_commit(one) is None
    git(one, "commit", "-q", "--allow-empty", "-m", "a")
    wanted = git(one, "rev-parse", "HEAD")
    git(one, "worktree", "add", "-q", "-b", "side", str(other))
    assert code_commit(one) == code_commit(other) == wanted
    git(one, "pack-refs", "--all")
    assert code_commit(one) == code_commit(other) == wanted
    git(one, "checkout", "-q", "--detach")
    assert code_commit(one) == wanted


def test_outside_of_a_repository_there_is_a_version_alone(tmp_path: Path) -> None:
    assert code_commit(tmp_path) is None
    assert code_version() == metadata.version("sphere-editing")
