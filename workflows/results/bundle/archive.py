"""A folder as an archive whose bytes depend on its files alone."""

import gzip
import tarfile
from pathlib import Path

__all__ = ["write_archive"]

_LEVEL = 6


def write_archive(folder: Path, out: Path) -> None:
    """Write the files of a folder as a gzipped tar archive below the folder's name; equal files give equal bytes.

    Members are in the order of their names, without owners and times; all may be read, none executed.
    """
    with (
        out.open("wb") as sink,
        gzip.GzipFile(filename="", mode="wb", compresslevel=_LEVEL, fileobj=sink, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            member = tarfile.TarInfo(f"{folder.name}/{path.relative_to(folder).as_posix()}")
            member.size, member.mode = path.stat().st_size, 0o644
            with path.open("rb") as file:
                archive.addfile(member, file)
