"""Parquet files of ours: written with a digest of the whole file in its footer, and read only if that holds.

`pyarrow.parquet` is imported where it is used: commands that read through DuckDB do not need it.
"""

import hashlib
import io
import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

__all__ = ["column_options", "parquet_bytes", "parquet_table", "require_whole", "stored_schema"]

_KEY = b"sphere:sha256"
_MAGIC = b"PAR1"
_BLANK = b"0" * 64
_SCHEMA = b"ARROW:schema"
# How the footer writes a text of 64 bytes after its key: a field of type binary, and its length.
_BETWEEN = b"\x18\x40"
_DIGEST = re.compile(rb"[0-9a-f]{64}")
# The key is written last, at the end of the footer.
_FOOTER_BYTES = 1 << 20


def column_options(schema: pa.Schema) -> dict[str, Any]:
    """Return the options of `pyarrow.parquet.ParquetWriter` for every file of ours.

    A dictionary of numbers that hardly repeat is longer than the numbers; their bytes compress better split.
    """
    numbers = [field.name for field in schema if pa.types.is_floating(field.type)]
    return {
        "compression": "zstd",
        "compression_level": 3,
        "version": "2.6",
        "write_statistics": True,
        "use_dictionary": [name for name in schema.names if name not in numbers],
        "column_encoding": dict.fromkeys(numbers, "BYTE_STREAM_SPLIT"),
    }


def parquet_bytes(table: pa.Table, *, row_group_size: int | None = None) -> bytes:
    """Return a table as the bytes of a Parquet file; equal tables give equal bytes.

    Pages carry checksums. The footer's key `sphere:sha256` is the digest of the file with 64 zeros in its place, so
    that a bit that flips anywhere is noticed, also in names of columns and statistics.
    """
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    with pq.ParquetWriter(sink, table.schema, write_page_checksum=True, **column_options(table.schema)) as writer:
        writer.write_table(table, row_group_size)
        writer.add_key_value_metadata({_KEY.decode(): _BLANK.decode()})
    data = sink.getvalue()
    start = _digest_place(data)
    if start is None or data[start : start + 64] != _BLANK:
        raise AssertionError("the footer does not hold the digest as it was given")
    return data[:start] + hashlib.sha256(data).hexdigest().encode() + data[start + 64 :]


def require_whole(data: bytes) -> None:
    """Raise pyarrow.ArrowInvalid for the bytes of a file that is cut off or does not match its digest.

    Files of earlier releases have no digest; of them, only the two ends are checked.
    """
    if len(data) < 12 or not (data.startswith(_MAGIC) and data.endswith(_MAGIC)):
        raise pa.ArrowInvalid("it is not a Parquet file, or is cut off")
    start = _digest_place(data)
    if start is not None:
        digest = hashlib.sha256(data[:start])
        digest.update(_BLANK)
        digest.update(data[start + 64 :])
        if digest.hexdigest().encode() != data[start : start + 64]:
            raise pa.ArrowInvalid("it does not match its digest")


def stored_schema(data: bytes) -> bytes | None:
    """Return the Arrow schema in the footer of a Parquet file, as it is stored; None if there is none.

    Files with equal bytes here have the same columns, names and types: nothing has to be decoded to know that.
    """
    place = data.rfind(_SCHEMA + b"\x18")
    if place < 0:
        return None
    # A field of type binary: its length, seven bits a byte, the last byte without the eighth, then its bytes.
    place, length, shift = place + len(_SCHEMA) + 1, 0, 0
    while True:
        length |= (data[place] & 0x7F) << shift
        place, shift, more = place + 1, shift + 7, data[place] & 0x80
        if not more:
            return data[place : place + length]


def parquet_table(data: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the table in the bytes of a Parquet file, or some of its columns.

    Raises OSError or pyarrow.ArrowInvalid for damaged bytes.
    """
    import pyarrow.parquet as pq

    require_whole(data)
    # Arrow's threads must not hold a Python object: one that is released while the interpreter ends aborts the process.
    file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
    table = file.read(columns=None if columns is None else list(columns), use_threads=False)
    metadata = {key: value for key, value in (table.schema.metadata or {}).items() if key != _KEY}
    return table.replace_schema_metadata(metadata or None)


def _digest_place(data: bytes) -> int | None:
    """Return where the digest is, or None for a file that was written without one.

    A key that is damaged must not pass for one that was never there: raises pyarrow.ArrowInvalid if what is before
    a text like a digest differs from the key in a byte or two.
    """
    mark = _KEY + _BETWEEN
    place = data.rfind(mark)
    if place >= 0:
        return place + len(mark)
    for found in _DIGEST.finditer(data, max(0, len(data) - _FOOTER_BYTES)):
        before = data[max(0, found.start() - len(mark)) : found.start()]
        if len(before) == len(mark) and sum(a != b for a, b in zip(before, mark, strict=True)) <= 2:
            raise pa.ArrowInvalid("the name of its digest is damaged")
    return None
