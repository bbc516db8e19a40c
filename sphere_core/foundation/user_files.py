"""Files that a user gives: found, unpacked and decoded, and every library's error about one as an InputError."""

import bz2
import codecs
import errno
import gzip
import io
import lzma
import os
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.file_kinds import PACKED_MAGICS, wrong_kind
from sphere_core.foundation.storage_faults import StorageError

__all__ = [
    "DATA_BYTES",
    "SETTINGS_BYTES",
    "library_errors",
    "open_file",
    "output_errors",
    "read_text",
    "refuse_wrong_kind",
    "replace_text",
    "text_fault",
]

# Settings are read by people; a larger file is something else, and would only be slow to refuse.
SETTINGS_BYTES = 16 << 20
# Records: unpacked text is held in memory whole.
DATA_BYTES = 8 << 30
_HEAD_BYTES = 512
_CHUNK = 1 << 20

_OS_FAULTS = {
    errno.ENOENT: ("not found", "check the path"),
    errno.ENOTDIR: ("not found: a part of its path is a file", "check the path"),
    errno.EISDIR: ("must be a file, and this is a folder", "name a file in it"),
    errno.ELOOP: ("is a symbolic link that leads to itself", "point the link at the file"),
    errno.ENAMETOOLONG: ("has a path that is too long", "check the path"),
    errno.EACCES: ("may not be read", "give this user the right to read it"),
    errno.EPERM: ("may not be read", "give this user the right to read it"),
}


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


def _xz(raw: BinaryIO) -> _Stream:
    return lzma.LZMAFile(raw)  # it holds nothing open but `raw`, which its owner closes


def _zstandard(raw: BinaryIO) -> _Stream:
    # Half a second of import that only such a file pays. Python reads zstd by itself from 3.14 on.
    import pyarrow as pa

    return io.BufferedReader(pa.CompressedInputStream(raw, "zstd"))


_UNPACK: dict[str, Callable[[BinaryIO], _Stream]] = {
    "gzip": lambda raw: gzip.GzipFile(fileobj=raw),
    "bzip2": lambda raw: bz2.BZ2File(raw),
    "xz": _xz,
    "zstd": _zstandard,
}
_PARQUET = (b"PAR1", "is a Parquet file under another name", "call it .parquet")


def open_file(path: Path, *, what: str) -> BinaryIO:
    """Open a user's file for reading; raises InputError if it is missing, no file, not readable, or has no such
    name."""
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise InputError(f"{what} is not a regular file", where=str(path), remedy="save it as a file first")
        return path.open("rb")
    except ValueError as error:
        raise InputError(f"{what}: no file has such a name ({error})", where=ascii(str(path))) from error
    except OSError as error:
        raise _os_fault(error, path, what) from error


def refuse_wrong_kind(path: Path, *, what: str, pointers_only: bool = True) -> None:
    """Raise InputError for a file that is an LFS pointer, a web page or the like, by its first bytes.

    Unless `pointers_only`, also for an archive, a picture and whatever else has a signature of its own.
    """
    with open_file(path, what=what) as raw:
        _refuse_wrong(raw.read(_HEAD_BYTES), path, what, pointers_only=pointers_only)


def read_text(path: Path, *, what: str, at_most: int = SETTINGS_BYTES) -> str:
    """Return a file's UTF-8 text, unpacked from gzip, bzip2, xz or zstd, without a byte order mark.

    Raises InputError if it is missing, longer than `at_most` bytes, damaged, or no such text.
    """
    with open_file(path, what=what) as raw:
        head = raw.read(_HEAD_BYTES)
        raw.seek(0)
        packed = next((name for magic, name in PACKED_MAGICS.items() if head.startswith(magic)), None)
        data = _unpacked(raw, packed, path, what, at_most)
    _refuse_wrong(data[:_HEAD_BYTES], path, what)
    if data.startswith(_PARQUET[0]):
        raise InputError(f"{what} {_PARQUET[1]}", where=str(path), remedy=_PARQUET[2])
    try:
        while data.startswith(codecs.BOM_UTF8):
            data = data.removeprefix(codecs.BOM_UTF8)
        if b"\x00" in data[:4] and len(data) > 1:
            raise UnicodeDecodeError(
                "utf-8", data, data.index(0), data.index(0) + 1, "UTF-16 or UTF-32, by its zero bytes"
            )
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"not UTF-8 text: {error.reason} at byte {error.start}",
            where=str(path),
            remedy="save the file as UTF-8; with iconv: iconv -f UTF-16 -t UTF-8 FILE > NEW_FILE (or -f LATIN1)",
        ) from error


def text_fault(text: str) -> str | None:
    """Return what keeps a text from being encoded or seen, or None: a lone surrogate, a zero character, or
    nothing but blanks and invisible characters."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"holds half a surrogate pair (U+{ord(text[error.start]):04X})"
    if "\x00" in text:
        return "holds a zero character (U+0000)"
    if not any(_is_visible(character) for character in text):
        return "is empty" if not text.strip() else "holds invisible characters only"
    return None


@contextmanager
def library_errors(path: Path | str, *, what: str, remedy: str, fault: str = "cannot be read") -> Iterator[None]:
    """Turn whatever a library raises about a user's file into an InputError that names the file.

    Libraries share no base class for what a damaged file makes them raise. Errors of our own pass, and so do errors
    that the file did not cause: an interrupt, or storage.
    """
    try:
        yield
    except (InputError, StorageError):
        raise
    except RecursionError as error:
        raise InputError(f"{what} is nested too deep", where=str(path), remedy=remedy) from error
    except MemoryError as error:
        raise InputError(f"{what} declares more than fits in memory", where=str(path), remedy=remedy) from error
    except FileNotFoundError as error:
        raise _os_fault(error, Path(path), what) from error
    except Exception as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given")
        raise InputError(
            f"{what} {fault} ({type(error).__name__}: {reason[:200]})", where=str(path), remedy=remedy
        ) from error


@contextmanager
def output_errors(path: Path, *, remedy: str = "give a file in a folder that can be written") -> Iterator[None]:
    """Turn an OSError of writing the file that a user named into an InputError that names it."""
    try:
        yield
    except OSError as error:
        what = f"the file cannot be written: {error.strerror or error}"
        # A scratch file beside it is not what the user named.
        named = path if Path(str(error.filename or path)).name.startswith(".") else error.filename or path
        raise InputError(what, where=str(named), remedy=remedy) from error


def replace_text(path: Path, text: str) -> None:
    """Write a text file that a user named, beside its place and then there, so that a reader never sees half of it.

    A link is followed. Raises InputError that names the file if it cannot be written, or if something else than a file
    has its name: a folder, a device, a pipe. What was there stays then.
    """
    with output_errors(path):
        path = path.resolve()
        if not path.name or (path.exists() and not path.is_file()):
            raise InputError("this is not a file", where=str(path), remedy="give the name of a file")
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            beside.write_text(text, encoding="utf-8")
            beside.replace(path)
        finally:
            # Gone already, unless one of the two has failed.
            with suppress(OSError):
                beside.unlink()


def _os_fault(error: OSError, path: Path, what: str) -> InputError:
    fault, remedy = _OS_FAULTS.get(error.errno or 0, (f"cannot be read: {error.strerror or error}", "check the path"))
    shown = str(path) if len(str(path)) <= 300 else f"{str(path)[:300]}..."
    return InputError(f"{what} {fault}", where=shown, remedy=remedy)


def _plain(raw: BinaryIO) -> _Stream:
    return raw


def _unpacked(
    raw: BinaryIO,
    packed: str | None,
    path: Path,
    what: str,
    at_most: int,
) -> bytes:
    unpack = _plain if packed is None else _UNPACK[packed]
    parts, size = [], 0
    try:
        stream = unpack(raw)
        while part := stream.read(_CHUNK):
            size += len(part)
            if size > at_most:
                raise InputError(
                    f"{what} is larger than {at_most >> 20} MiB" + (" once it is unpacked" if packed else ""),
                    where=str(path),
                    remedy="check that this is the file you mean",
                )
            parts.append(part)
    except (EOFError, lzma.LZMAError, OSError, ValueError) as error:
        if packed is None and isinstance(error, OSError):
            raise _os_fault(error, path, what) from error
        raise InputError(
            f"{what} is a damaged {packed} file: {error}",
            where=str(path),
            remedy="fetch it again, or unpack it yourself",
        ) from error
    return b"".join(parts)


def _refuse_wrong(head: bytes, path: Path, what: str, *, pointers_only: bool = False) -> None:
    found = wrong_kind(head, pointers_only=pointers_only)
    if found is not None:
        raise InputError(f"{what} {found[0]}", where=str(path), remedy=found[1])


# Letters by their category that show nothing: fillers, and the blank pattern of Braille.
_FILLERS = frozenset("\u115f\u1160\u2800\u3164\uffa0\u034f\u180b\u180c\u180d\ufe0f")


def _is_visible(character: str) -> bool:
    return unicodedata.category(character)[0] not in "ZC" and character not in _FILLERS
