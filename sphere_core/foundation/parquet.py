"""Parquet bytes that we wrote: read in one place, with the checksum of every page verified."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["parquet_table"]


def parquet_table(data: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the table in the bytes of a Parquet file, or some of its columns.

    Raises OSError or pyarrow.ArrowInvalid for damaged bytes; pages written without a checksum are read as they are.
    """
    # Arrow's threads must not hold a Python object: one that is released while the interpreter ends aborts the process.
    file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
    return file.read(columns=None if columns is None else list(columns), use_threads=False)
