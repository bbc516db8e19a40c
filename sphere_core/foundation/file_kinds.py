"""What a file is by its first bytes, where it is of another kind than the required one, and what to do about it."""

import re

__all__ = ["PACKED_MAGICS", "wrong_kind"]

# What is unpacked where text is read: the first bytes, and the name.
PACKED_MAGICS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}

_RAW = "download the file itself (the 'raw' address)"
_PICKLE = ("is a Python pickle, which is never read: it can run code", "save the data as JSON")
_PICTURE = ("is a picture", "give the text file that is meant")
# What is found in place of a file, of whatever kind that is.
_POINTERS = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the file itself", "fetch the file: git lfs pull"),
    (b"/annex/objects/", "is a git-annex pointer, not the file itself", "fetch the file: git annex get FILE"),
    (b"outs:\n- md5:", "is a DVC pointer, not the file itself", "fetch the file: dvc pull"),
    (b"<?xml", "is an XML document: a server's error, or another format", "download the file itself"),
    (b"<!doctype html", "is a web page, not the file itself", _RAW),
    (b"<html", "is a web page, not the file itself", _RAW),
)
_OTHERS = (
    (b"7z\xbc\xaf\x27\x1c", "is a 7z archive", "unpack it"),
    (b"rar!\x1a", "is a rar archive", "unpack it"),
    (b"\x89hdf", "is an HDF5 file", "write what it holds as JSON"),
    (b"sqlite format 3", "is an SQLite data base", "export the table as CSV"),
    (b"ustar", "is a tar archive", "unpack it"),
    (b"\x93numpy", "is a NumPy array (.npy)", "write what it holds as JSON"),
    (b"arrow1", "is an Arrow (Feather) file", "write the table as Parquet or JSON"),
    (b"\xff\xff\xff\xff", "is an Arrow stream", "write the table as Parquet or JSON"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is a file of an older Office (.xls, .doc)", "save the sheet as CSV"),
    (b"%pdf", "is a PDF document", "give the text file that is meant"),
    (b"\x89png", *_PICTURE),
    (b"\xff\xd8\xff", *_PICTURE),
    (b"gif8", *_PICTURE),
    *((b"\x80" + bytes([protocol]), *_PICKLE) for protocol in (2, 3, 4, 5)),
    (b"(lp0\n", *_PICKLE),
    (b"(dp0\n", *_PICKLE),
)
# Zip archives by the name of their first entry.
_ZIPS = (
    (r".*\.npy", "is a NumPy archive (.npz)", "write what it holds as JSON"),
    (r"(.*/)?(data\.pkl|version|byteorder|\.format_version|\.data/.*)", "is a PyTorch file", "save the data as JSON"),
    (r"\[Content_Types\]\.xml|(xl|_rels|docProps)/.*|mimetype", "is an Office workbook", "save the sheet as CSV"),
)
# What servers answer in place of a file, as plain text or as JSON.
_ANSWER = re.compile(
    rb"""(\d{3}\W+)?(not\ found|forbidden|unauthorized|bad\ gateway|gateway\ timeout|service\ unavailable|
    too\ many\ requests|internal\ server\ error|entry\ not\ found|repository\ not\ found|access\ denied|
    invalid\ username\ or\ password|access\ to\ (model|dataset)\ )|
    \{\s*"error"\s*:|\{\s*"message"\s*:\s*"[^"]*",\s*"documentation_url" """,
    re.VERBOSE,
)
# A server's answer in plain text is a line.
_ANSWER_BYTES = 200
# The header of a safetensors file is shorter than that.
_HEADER_BYTES = 100 << 20


def wrong_kind(head: bytes, *, pointers_only: bool = False) -> tuple[str, str] | None:
    """Return what a file is and the remedy, by its first 512 bytes; None if they say nothing against it.

    Found are what is put in place of a file (a Git LFS pointer, a web page) and, unless `pointers_only`, kinds that
    hold no text.
    """
    given = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    start = given.lower()
    for magic, fault, remedy in _POINTERS if pointers_only else (*_POINTERS, *_OTHERS):
        # The name of a tar archive's first file comes before its mark.
        if start.startswith(magic) or (magic == b"ustar" and head[257:262] == magic):
            return fault, remedy
    if pointers_only:
        return None
    if head.startswith(b"PK\x03\x04"):
        return _zip_kind(head)
    if (start.startswith(b"{") or len(start) < _ANSWER_BYTES) and _ANSWER.match(start):
        shown = given[:60].decode("utf-8", "replace")
        return f"is a server's answer, not the file itself: {shown!r}", f"{_RAW}; log in first where that is required"
    if head and not head.strip(b"\x00"):
        return "begins with zero bytes only: it was not written to its end", "fetch it again"
    if head[8:9] == b"{" and b"\x00" in head[:8] and int.from_bytes(head[:8], "little") < _HEADER_BYTES:
        return "is a safetensors file", "give the text file that is meant"
    packed = next((name for magic, name in PACKED_MAGICS.items() if head.startswith(magic)), None)
    return (f"is still packed ({packed})", "unpack it yourself") if packed is not None else None


def _zip_kind(head: bytes) -> tuple[str, str]:
    name = head[30 : 30 + int.from_bytes(head[26:28], "little")].decode("utf-8", "replace")
    for pattern, fault, remedy in _ZIPS:
        if re.fullmatch(pattern, name):
            return fault, remedy
    return "is a zip archive", "unpack it"
