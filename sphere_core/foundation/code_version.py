"""Which code is running: the package's version, and the commit where it is run from a repository."""

from importlib import metadata
from pathlib import Path

__all__ = ["code_commit", "code_version"]

_PACKAGES = Path(__file__).resolve().parent.parent.parent


def code_version() -> str:
    """Return the version of the installed package; `unknown` if the source is used without an installation."""
    try:
        return metadata.version("sphere-editing")
    except metadata.PackageNotFoundError:
        return "unknown"


def code_commit(folder: Path = _PACKAGES) -> str | None:
    """Return the commit that is checked out in a folder, 40 hex digits, or None outside of a git repository.

    Reads git's files, without git. Changes that are not committed do not show.
    """
    try:
        git = folder / ".git"
        if git.is_file():
            git = folder / git.read_text(encoding="utf-8").partition("gitdir:")[2].strip()
        head = (git / "HEAD").read_text(encoding="utf-8").strip()
        if not head.startswith("ref: "):
            return head
        name = head.removeprefix("ref: ")
        shared = git / "commondir"
        common = git / shared.read_text(encoding="utf-8").strip() if shared.is_file() else git
        for place in (git, common):
            if (place / name).is_file():
                return (place / name).read_text(encoding="utf-8").strip()
        packed = (common / "packed-refs").read_text(encoding="utf-8").splitlines()
        return next((line.split()[0] for line in packed if line.endswith(f" {name}")), None)
    except OSError:
        return None
